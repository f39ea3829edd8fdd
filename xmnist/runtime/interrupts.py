"""Interrupts, by Ctrl-C, SIGTERM or SIGHUP, of which none gets lost."""

import os
import signal
import time
from typing import Any

PATIENCE = 3
"""Seconds for which a second signal is ignored; a later one ends the process at once."""

_asked = False
_moment = 0.0


def listen() -> None:
    """Make Ctrl-C, SIGTERM and a closed terminal interrupt this process, but for what it was started to ignore."""
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def interrupt(*_: Any) -> None:
    """What a signal calls; a second one must not disturb what the first one asks for.

    Raises:
        KeyboardInterrupt: at the first signal.
    """
    global _asked, _moment
    if _asked:
        if time.monotonic() - _moment > PATIENCE:
            os._exit(130)
        return
    _asked, _moment = True, time.monotonic()
    raise KeyboardInterrupt


def asked() -> bool:
    """Whether this process is to end; what was raised then may have been caught, or turned into another error."""
    return _asked


def raise_if_interrupted() -> None:
    """Raise what was raised when this process was interrupted, in case that it got lost in a library's callback.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if _asked:
        raise KeyboardInterrupt
