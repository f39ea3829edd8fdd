"""Runs on disk: their names, their content, and the search for them."""
