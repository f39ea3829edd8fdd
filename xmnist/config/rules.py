"""Rules that check the value of one config key and convert it to its normal form."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Rule:
    """A rule for the value of one key: `convert` returns the value in its normal form or raises ValueError.

    `words` is the closed list that a value comes from, if there is one.
    """

    text: str
    convert: Callable[[Any], Any]
    words: tuple[str, ...] = ()


def quoted(text: str) -> str:
    """Return any text in quotes, as Hydra's command line reads it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def raise_unless(condition: bool, value: Any) -> Any:
    """Return `value` if the condition holds.

    Raises:
        ValueError: it does not.
    """
    if not condition:
        raise ValueError
    return value


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] with `above`."""

    def convert(value: Any) -> float:
        # bool is a subclass of int in Python.
        raise_unless(isinstance(value, int | float) and not isinstance(value, bool), value)
        inside = low < value <= high if above else low <= value <= high
        return float(raise_unless(math.isfinite(value) and inside, value)) + 0.0  # -0.0 is 0.0

    if math.isfinite(high):
        return Rule(f"a number in {'(' if above else '['}{low:g}, {high:g}]", convert)
    if math.isinf(low):
        return Rule("a number", convert)
    return Rule(f"a number {'above' if above else 'of at least'} {low:g}", convert)


MOST = 10**9
"""The largest whole number that any key takes; libraries cannot represent numbers beyond 2**63."""


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number of at least `low`, at most `high` or `MOST`."""

    def convert(value: Any) -> int:
        raise_unless(isinstance(value, int) and not isinstance(value, bool), value)
        return raise_unless(low <= value <= (MOST if high is None else high), value)

    return Rule(
        f"a whole number of at least {low}, at most a billion"
        if high is None
        else f"a whole number from {low} to {high}",
        convert,
    )


def choice(*words: str) -> Rule:
    """One of a closed list of words."""
    return Rule("one of " + ", ".join(words), lambda value: raise_unless(value in words, value), words)


def maybe(rule: Rule) -> Rule:
    """A value that `rule` allows, or null."""
    return replace(
        rule, text=f"{rule.text}, or null", convert=lambda value: None if value is None else rule.convert(value)
    )


def or_auto(rule: Rule) -> Rule:
    """A value that `rule` allows, or `auto`."""
    return Rule(f"{rule.text}, or auto", lambda value: value if value == "auto" else rule.convert(value))


def one_or_more(rule: Rule) -> Rule:
    """A value that `rule` allows, or a list of such values without repetitions."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return rule.convert(value)
        values = [rule.convert(v) for v in value]
        return raise_unless(bool(values) and len(set(values)) == len(values), values)

    return replace(rule, text=f"{rule.text}, or a list of different ones", convert=convert)


def list_of(rule: Rule) -> Rule:
    """A list of values that `rule` allows, without repetitions."""

    def convert(value: Any) -> list[Any]:
        return one_or_more(rule).convert(raise_unless(isinstance(value, list), value))

    return replace(rule, text=f"a list of different ones, each {rule.text}", convert=convert)


def pair(low: int, high: int | None = None) -> Rule:
    """Two whole numbers of at least `low`."""
    rule = whole(low, high)

    def convert(value: Any) -> list[int]:
        return [rule.convert(v) for v in raise_unless(isinstance(value, list) and len(value) == 2, value)]

    return Rule(f"two of these in brackets, [a,b]: {rule.text}", convert)


def three(rule: Rule, *, alike: bool = False) -> Rule:
    """A list of values that `rule` allows, one for each phase; with `alike`, also one value for all three."""

    def convert(value: Any) -> list[Any]:
        values = [value] * 3 if alike and not isinstance(value, list) else value
        return [rule.convert(v) for v in raise_unless(isinstance(values, list) and len(values) == 3, values)]

    start = f"{rule.text}, or a list of three" if alike else f"a list of three, each {rule.text}"
    return Rule(f"{start}: one for each phase", convert)


def yes_or_no() -> Rule:
    """True or false."""
    return Rule("true or false", lambda value: raise_unless(isinstance(value, bool), value))


def nothing() -> Rule:
    """Null."""
    return Rule("null", lambda value: raise_unless(value is None, value))


SEED = whole(0, 2**31 - 1)


def text(description: str) -> Rule:
    """A text that is not empty; `description` names its kind."""
    return Rule(description, lambda value: raise_unless(isinstance(value, str) and bool(value), value))


def sha256(of: str) -> Rule:
    """The checksum of something, as `sha256sum` prints it."""
    return Rule(
        f"the SHA-256 of {of}, 64 hexadecimal digits",
        lambda value: raise_unless(re.fullmatch("[0-9a-f]{64}", value) is not None, value),
    )


LAYER = text("a layer of the classifier, by its name or dotted path")

CLASS = Rule(
    "a class, by its name or number",
    lambda value: raise_unless(isinstance(value, str | int) and not isinstance(value, bool) and value != "", value),
)
ANY_CLASS = maybe(CLASS)
