"""The one exception that means: what was asked for cannot be done as asked."""

import difflib
from collections.abc import Iterable


class InputError(Exception):
    """Bad input; its message is one line that names what was wrong and what is allowed."""


def unknown(what: str, word: str, allowed: Iterable[str], listed: str = "allowed") -> InputError:
    """An `InputError` for a word that is not in a closed list; names the nearest one, then all."""
    words = list(allowed)
    near = difflib.get_close_matches(word, words, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    return InputError(f"no {what} '{word}'{hint} ({listed}: {', '.join(words)})")
