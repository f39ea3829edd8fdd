"""Standard streams that survive a pipe without a reader and an encoding that lacks letters."""

import io
import os
import sys


class Lasting(io.TextIOWrapper):
    """A stream that continues without its reader: work does not stop because `| head -1` has ended."""

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
        """Discard all further output."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)


def last() -> None:
    """Replace the standard streams by lasting ones; a letter that their encoding lacks becomes a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper:  # else it is somebody's own, such as a notebook's
            stream.reconfigure(errors="replace")
            buffering = stream.line_buffering, stream.write_through  # the second with PYTHONUNBUFFERED
            lasting = Lasting(stream.buffer, stream.encoding, "replace", None, *buffering)
            lasting.before = stream  # handlers of logging may hold it already, and its end would close the buffer
            setattr(sys, name, lasting)
            setattr(sys, f"__{name}__", lasting)
