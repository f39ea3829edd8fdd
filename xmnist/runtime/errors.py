"""Exceptions of the package, and their report in one line."""

import difflib
import errno
import sys
from collections.abc import Iterable

from xmnist.runtime import processes

TRACEBACK = "XMNIST_TRACEBACK"
"""Environment variable that is set, for the jobs in other processes too, when the user asked for tracebacks."""


class InputError(Exception):
    """Bad input; its message is one line that names what was wrong and what is allowed."""


class DamageError(InputError):
    """A file of a finished run is not the one that the run wrote."""


class JobFailed(Exception):
    """A job of a sweep failed and reported its reason; the message is that line."""


class MeasurementError(Exception):
    """Some measurements failed; the others are complete. Its message names them and the reason, in one line."""


def unknown(kind: str, word: str, allowed: Iterable[str], listed: str = "allowed") -> InputError:
    """Return an `InputError` for a word that is not in a closed list; names the nearest one, then all."""
    words = list(allowed)
    return InputError(f"no {kind} '{word}'{meant(word, words)} ({listed}: {', '.join(words)})")


def meant(word: object, words: Iterable[str]) -> str:
    """Return the question whether the nearest word was meant; empty if none is near."""
    near = nearest(word, words) if isinstance(word, str) else None
    return f"; did you mean '{near}'?" if near else ""


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant, in any spelling: FashionMNIST is fashion_mnist."""

    def letters(text: str) -> str:
        return "".join(filter(str.isalnum, text)).lower()

    by_letters = {letters(candidate): candidate for candidate in words}
    near = difflib.get_close_matches(letters(word), by_letters, 1)
    return by_letters[near[0]] if near else None


NO_PLACE = (
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
)
"""Error numbers for a file or folder that cannot be used under its name, or by this user."""


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error: 2 for bad input, including an unusable file or folder, else 1."""
    return 2 if isinstance(error, InputError) or _is_unusable_path(error) else 1


def _is_unusable_path(error: object) -> bool:
    return isinstance(error, OSError) and error.errno in NO_PLACE and error.filename is not None


def one_line(error: Exception | str) -> str:
    """Return an error in one line; an unexpected error begins with its type."""
    expected = isinstance(error, InputError | JobFailed | MeasurementError | str)
    if isinstance(error, OSError) and _is_unusable_path(error):
        return f"{error.filename} cannot be used: {error.strerror}"
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def report(error: Exception | str) -> None:
    """Print an error in one line, with the process if it is not the first."""
    name = f"xmnist (process {processes.rank()})" if processes.rank() else "xmnist"
    print(f"{name}: {one_line(error)}", file=sys.stderr)
