"""Handling of interrupts by Ctrl-C, SIGTERM or SIGHUP, so that none is lost."""

import os
import signal
import time
from typing import Any

PATIENCE = 3
"""Seconds for which a second signal is ignored; a later one ends the process at once."""

_asked = False
_moment = 0.0


def listen() -> None:
    """Let Ctrl-C, SIGTERM and a closed terminal interrupt this process, except signals that it inherited as ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def interrupt(*_: Any) -> None:
    """Handle a signal; a second signal must not disturb the reaction to the first.

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
    """Return whether this process was interrupted; the exception may have been caught or replaced by another."""
    return _asked


def raise_if_interrupted() -> None:
    """Raise the interrupt of this process again, in case it was lost in a library's callback.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if _asked:
        raise KeyboardInterrupt
