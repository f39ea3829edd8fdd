"""Runs on the disk: what they are called, what they hold, and how they are found again."""
