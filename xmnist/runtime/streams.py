"""What a command says, wherever it goes: to a pipe that nobody reads any more, or in an encoding with few letters."""

import io
import os
import sys


class Lasting(io.TextIOWrapper):
    """A stream that goes on when its reader is gone: work does not end because `| head -1` has seen enough."""

    before: io.TextIOWrapper

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Let everything from now on go nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def last() -> None:
    """Make the standard streams lasting ones; a letter that their encoding lacks becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # else it is somebody's own, such as a notebook's
            stream.reconfigure(errors="replace")
            told_at_once = stream.line_buffering, stream.write_through  # the second with PYTHONUNBUFFERED
            lasting = Lasting(stream.buffer, stream.encoding, "replace", None, *told_at_once)
            lasting.before = stream  # handlers of logging may hold it already, and its end would close the buffer
            setattr(sys, name, lasting)
            setattr(sys, f"__{name}__", lasting)
