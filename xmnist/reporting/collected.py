"""Selection of the runs of a page, and readers of their files."""

import csv
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from xmnist.config import derived
from xmnist.config.components import listed
from xmnist.config.declarations import COMPONENTS
from xmnist.config.settings import OneOrMore, ReportSettings, Settings
from xmnist.runs import index, inspection, store
from xmnist.runs.index import Found
from xmnist.runtime.errors import InputError, one_line

T = TypeVar("T")
log = logging.getLogger(__name__)


def chosen(settings: ReportSettings, log_left_out: bool = False) -> list[Found]:
    """Return the finished runs that a report's settings ask for, oldest first.

    Args:
        log_left_out: whether to log which runs are left out, and why.

    Raises:
        InputError: there is no such run, or the named one is not finished.
    """
    out_dir, only = Path(settings.out_dir), settings.only.chosen()
    if settings.run:
        run = index.named(settings.run, out_dir, lambda path: path.parts[-4:][0] in ("train", "explain", "evaluate"))
        return _one(run, log_left_out)
    everything = index.below(out_dir)
    for key, words in only.items():
        if key in COMPONENTS:
            COMPONENTS[key].check_known(f"only.{key}", listed(words))
    done = [run for run in everything if run.state == "done" and run.stage != "export"]
    selected = [run for run in done if all(_fits(run, key, listed(words)) for key, words in only.items())]
    # The networks of an experiment's runs may come from other commands, and belong to them all the same.
    selected = (
        [run for run in done if run in selected or run.path.name in _needed_by(selected)]
        if "experiment" in only
        else selected
    )
    if not selected:
        raise InputError(_nothing(out_dir, everything, done, only))
    if log_left_out and not only and (unfinished := sum(run.state != "done" for run in everything)):
        message = "%d of %d runs are not finished, or stale, and left out: xmnist runs lists them"
        log.info(message, unfinished, len(everything))
    if not (sound := _sound(selected, log_left_out)):
        raise InputError(f"no run below {out_dir}/ can be shown: {selected[0].path}: {_wrong(selected[0])}")
    return sound


def _nothing(out_dir: Path, everything: Sequence[Found], done: Sequence[Found], only: Mapping[str, OneOrMore]) -> str:
    if not done:
        beside = f": {len(everything)} that are not (xmnist runs lists them)" if everything else " yet"
        return f"no finished runs below {out_dir}/{beside}"
    asked = " ".join(f"{key}={','.join(listed(words))}" for key, words in only.items())
    available = [f"{key}={', '.join(sorted({v for run in done for v in _values(run, key)})) or 'none'}" for key in only]
    return f"no finished run fits {asked} (there: {'; '.join(available)})"


def _one(run: Found, log_left_out: bool) -> list[Found]:
    """Return a run and those that it depends on, as far as they are present."""
    path = run.path
    if (path / "index.html").is_file():
        raise InputError(f"run={path} is a report: {path / 'index.html'}")
    if run.state != "done":
        raise InputError(f"run={path} is not to be shown: {run.state}{f' ({run.error})' if run.error else ''}")
    if run.stage == "export":
        raise InputError(f"run={path} is of xmnist export, of which there is nothing to show")
    if wrong := _wrong(run):
        raise InputError(f"run={path} cannot be shown: {wrong}")
    names = _needed_by([run])
    around = [base for base in index.below(path.parents[3]) if base.state == "done" and base.path.name in names]
    return [*_sound(around, log_left_out), run]


def _values(run: Found, key: str) -> list[str]:
    if key == "experiment":
        return re.findall(r"(?<=[+ ]experiment=)[\w-]+", run.command or "")
    value = run.dataset if key == "dataset" else run.model
    return [value] if value else []


def _fits(run: Found, key: str, words: Iterable[str]) -> bool:
    return any(value in words for value in _values(run, key))


def _needed_by(several: Iterable[Found]) -> set[str]:
    """Return the names of the `train` runs that runs depend on."""
    return {store.run_id("train", settings) for run in several for settings in stands_on(run)}


def stands_on(run: Found) -> list[Settings]:
    """Return the settings of the `train` runs that a run depends on, explained networks first."""
    with suppress(Exception):  # settings of another version may lack anything
        return derived.stands_on(run.own)
    return []


def _sound(several: Iterable[Found], log_left_out: bool) -> list[Found]:
    """Return the runs whose files are as they wrote them."""
    several = list(several)
    wrong = {run.path: _wrong(run) for run in several}
    for path, reason in wrong.items():
        if log_left_out and reason:
            log.warning("%s is left out: %s", path, reason)
    return [run for run in several if not wrong[run.path]]


def _wrong(run: Found) -> str | None:
    """Return why a run cannot be shown; empty or None if it can."""
    return run.error if run.edited else index.altered(run.path)


def apart(several: Sequence[Found]) -> dict[Path, str]:
    """Return the settings in which each run differs from others of its name, such as trainer.epochs=2."""
    names = zip(several, inspection.names(several), strict=True)
    return {run.path: name.removeprefix(index.NAME.sub("", run.path.name)).lstrip(",") for run, name in names}


def told_apart(several: Sequence[Found]) -> dict[str, str]:
    """Return the addition to a title that several runs have, by their hash: the differing settings, and the hash."""
    more = apart(several)
    return {run.id: ", ".join(filter(None, [more[run.path], run.id])) for run in several}


def each(subject: str, several: Iterable[Found], make: Callable[[Found], T]) -> Iterator[T]:
    """Yield the result of `make` for each run; a run with unreadable files is left out, with a warning."""
    for run in several:
        try:
            result = make(run)
        except Exception as error:  # such files make readers raise almost anything
            log.warning("%s %s cannot be shown: %s", subject, run.path, one_line(error))
        else:
            yield result


def grid(path: Path) -> list[list[str]]:
    """Return the cells of a CSV file, including its header; its columns may have any names."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


NAMES = ("class", "explainer", "fill", "kind", "map", "model", "name", "seeds")
"""Columns of tables that hold names; a name may be NA or nan, and is then no missing value."""


def read(path: Path) -> pd.DataFrame:
    """Read a table that a stage has written."""
    figures = [column for column in pd.read_csv(path, nrows=0, encoding="utf-8") if column not in NAMES]
    # pandas takes NA, None and others for missing values by default, also in names of classes.
    missing = {column: ["", "nan"] for column in figures}
    text = dict.fromkeys(NAMES, str)
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing, encoding="utf-8")


def content(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
