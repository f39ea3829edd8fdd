"""Filters of runs on a command line: `KEY=VALUE` words for any setting, the state and the age."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from xmnist.config.declarations import COMPONENTS
from xmnist.config.derived import dotted, plain
from xmnist.config.kinds import explained_names, loss_weights
from xmnist.config.schema import COMMON, RUNS
from xmnist.runs.index import STATES, Found
from xmnist.runtime.errors import InputError, report, unknown

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
AGES = ("older", "newer")

TOLD = ("state", "stage", "dataset", "model")
"""Filters that are fields of a run, not settings."""


def words() -> tuple[str, ...]:
    """Return the keys that are known without reading any run."""
    return (*TOLD, *AGES, "out_dir", "explainer", "metric", "alpha", *COMPONENTS, *COMMON, *loss_weights())


def check_value(key: str, text: str) -> None:
    """Refuse a value that no run can have.

    Raises:
        InputError: there is such a value; the message names it, and the allowed ones.
    """
    if key in AGES:
        _seconds(key, text)
    values = {"state": STATES, "stage": RUNS}.get(key)
    for word in _split(text):
        if values is not None and word not in values:
            raise unknown(key, word, values)


def _seconds(key: str, text: str) -> float:
    match = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhdw])", text)
    if not match:
        raise InputError(f"{key}={text}: an age is a number and one of {', '.join(UNITS)}, such as 7d or 2h")
    return float(match[1]) * UNITS[match[2]]


def _split(text: str) -> list[str]:
    """Return the values between commas; a list in brackets is one value."""
    return re.findall(r"\[[^]]*\]|[^,]+", text)


def flat(run: Found) -> dict[str, Any]:
    """Return a run's settings by dotted key, without the layer if the model does not decode one."""
    out: dict[str, Any] = {}
    for key, value in dotted(run.settings).items():
        out |= {key.removesuffix(".name"): value, key: value}  # a named group can also be filtered by its own key
    for group in ("explainer", "metric"):
        named = {key.split(".")[1]: value for key, value in out.items() if re.fullmatch(rf"{group}s\.[^.]+", key)}
        out |= {group: [*named, *named.values()]} if named else {}
    if run.model in explained_names():
        out.pop("layer", None)
    return out


def check_keys(filters: Mapping[str, str], runs: Sequence[Found]) -> None:
    """Refuse a filter whose key no run has, or a component that is not known; `runs` have told of those of plug-ins.

    Raises:
        InputError: there is such a filter; the message names its key, and the keys beside it.
    """
    for key, text in filters.items():
        if key in COMPONENTS:
            COMPONENTS[key].check_known(key, _split(text))
    keys = {key for run in runs for key in flat(run)} | set(words())
    for key in filters:
        parent = key.rpartition(".")[0]
        beside = [known for known in keys if known.rpartition(".")[0] == parent]
        inside = sorted(known for known in keys if known.rpartition(".")[0] == key)
        if key not in keys and inside:
            raise InputError(f"{key} is a group of settings: {', '.join(inside)}")
        if key not in keys and (runs or not parent):
            raise unknown("setting", key, sorted(beside or [known for known in keys if "." not in known]), "settings")


def chosen(runs: Sequence[Found], filters: Mapping[str, str]) -> list[Found]:
    """Return the runs that fit all filters; a filter that leaves none is reported, with values that would fit."""
    fitting = list(runs)
    for key, text in filters.items():
        before, fitting = fitting, [run for run in fitting if _fits(run, key, text)]
        if before and not fitting:
            values = [] if key in AGES else sorted({text_of(value) for run in before for value in _values(run, key)})
            hint = f" (there: {', '.join(values[:9])}{', ...' if len(values) > 9 else ''})" if values else ""
            report(f"no run fits {key}={text}{hint}")
    return fitting


def _values(run: Found, key: str) -> list[Any]:
    if key in TOLD:
        return [value for value in [getattr(run, key)] if value]
    settings = flat(run)
    return [settings[key]] if key in settings else []


def _fits(run: Found, key: str, text: str) -> bool:
    if key in AGES:
        return (run.age_seconds > _seconds(key, text)) == (key == "older")
    # The whole text is tried first, because a value may itself contain commas.
    return any(_same(value, word) for value in _values(run, key) for word in (text, *_split(text)))


def _same(value: Any, word: str) -> bool:
    """Return whether a setting equals a word, or is a list that contains it; numbers are compared as numbers."""
    if isinstance(value, list):
        words = _split(word[1:-1])
        whole = word.startswith("[") and len(words) == len(value) and all(map(_same, value, words))
        return whole or any(_same(item, word) for item in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(word) == value
        except ValueError:
            return False
    return text_of(value) == word


def text_of(value: Any) -> str:
    """Return a setting as a user types it."""
    if isinstance(value, list):
        return f"[{','.join(map(text_of, value))}]"
    if isinstance(value, float):
        return plain(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
