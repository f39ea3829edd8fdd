"""In place of `xmnist.training.workers`: processes that wait instead of training, without PyTorch."""

import time
from typing import Any


def begin(*_: Any) -> None:
    """Be a worker after a while."""
    time.sleep(0.1)


def train(settings: dict[str, Any]) -> str:
    """Wait; returns in one line why that failed, or nothing."""
    time.sleep(settings["seconds"])
    return ""
