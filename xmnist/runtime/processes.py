"""Which of how many processes this is that train one model together: what torchrun says. No torch here."""

import os

_SAID = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def count() -> int:
    """How many processes train one model together; 1 where torchrun, or one that says as much, did not start this."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _SAID) else 1


def rank() -> int:
    """This process's number among all; 0 is the one that writes files and talks to the terminal."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def local_rank() -> int:
    """This process's number among those on its machine."""
    return int(os.environ["LOCAL_RANK"]) if count() > 1 else 0
