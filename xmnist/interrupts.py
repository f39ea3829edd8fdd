"""Interrupts, by Ctrl-C or SIGTERM, of which none gets lost."""

import signal
from typing import Any

_asked = False


def listen() -> None:
    """Make Ctrl-C and SIGTERM interrupt this process, but for those that it was started to ignore."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, interrupt)


def interrupt(*_: Any) -> None:
    """What a signal calls.

    Raises:
        KeyboardInterrupt: always.
    """
    global _asked
    _asked = True
    raise KeyboardInterrupt


def asked() -> bool:
    """Whether this process is to end; what was raised then may have been caught, or turned into another error."""
    return _asked


def obey() -> None:
    """Raise what was raised when this process was interrupted, in case that it got lost in a library's callback.

    Raises:
        KeyboardInterrupt: it was interrupted.
    """
    if _asked:
        raise KeyboardInterrupt
