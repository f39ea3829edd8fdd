"""Optimisers, one in a module."""
