"""Rank and number of the processes that train one model together, from torchrun's environment. No torch here."""

import os

_SAID = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def count() -> int:
    """Return the number of processes that train one model together; 1 without torchrun or an equivalent launcher."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _SAID) else 1


def rank() -> int:
    """Return this process's number among all; 0 writes files and uses the terminal."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def local_rank() -> int:
    """Return this process's number among those on its machine."""
    return int(os.environ["LOCAL_RANK"]) if count() > 1 else 0
