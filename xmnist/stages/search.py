"""Comparison of joint models that differ in their settings, by accuracy and by localisation."""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from xmnist.config.components import Options
from xmnist.config.derived import dotted, plain
from xmnist.config.schema import COMMON
from xmnist.config.settings import EvaluateSettings
from xmnist.explainers.learned import InModel
from xmnist.metrics import tables
from xmnist.plots import figures
from xmnist.runs import store
from xmnist.runs.identity import short
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError, one_line

log = logging.getLogger(__name__)

SCORES = ("accuracy", "mass")
"""Scores of the trade-off: the classifier's accuracy, and the share of its attribution map inside the object."""


def compare(done: Sequence[Run[EvaluateSettings]]) -> None:
    """Write a table of evaluated joint models and draw accuracy against localisation, if there are two or more.

    Runs that differ only in their seed are one row: their mean, with the lowest and the highest value. A model is
    on the Pareto front if no other one is better in one score and at least as good in the other.
    """
    try:
        _compare(list({run.path: run for run in done}.values()))
    except Exception as error:  # the sweep is done; a failed comparison must not make it fail
        log.warning("the models were not compared: %s", one_line(error))


def _compare(done: Sequence[Run[EvaluateSettings]]) -> None:
    for folder in dict.fromkeys(run.path.parent for run in done):
        scored = [(run, scores) for run in done if run.path.parent == folder and (scores := _scores(run)) is not None]
        if _differences([run.settings.plain() for run, _ in scored]):
            _write(folder, scored)


def _scores(run: Run[EvaluateSettings]) -> dict[str, float] | None:
    """Return both scores of a finished run, with their intervals over images; None if it has not measured both."""
    maps = [name for name, explainer in run.settings.explainers.items() if isinstance(explainer, InModel)]
    measured = {column.name for metric in run.settings.metrics.values() for column in metric.columns}
    if not maps or not measured.issuperset(SCORES):
        return None
    try:
        if not run.finished():
            return None
    except InputError as error:
        log.warning("left out: %s", error)
        return None
    rows = pd.read_csv(run.path / "summary.csv", encoding="utf-8").set_index("name")
    wanted = {"accuracy": "classifier", "mass": maps[0]}
    return {f"{score}{end}": float(rows.at[name, f"{score}{end}"]) for score, name in wanted.items() for end in _ENDS}


_ENDS = ("", "_low", "_high")


def _write(folder: Path, scored: Sequence[tuple[Run[EvaluateSettings], dict[str, float]]]) -> None:
    names = _differences([run.settings.plain() for run, _ in scored])
    rows = pd.DataFrame([{**_texts(run.settings.plain(), names), **scores} for run, scores in scored])
    rows["seeds"] = [str(run.settings.seed) for run, _ in scored]
    table = pd.DataFrame([_mean(part) for _, part in rows.groupby(list(names), sort=False)])
    table = table.sort_values(list(SCORES), ascending=False, ignore_index=True)
    table["pareto"] = _front(table)
    # The folder's name depends on the compared runs: a comparison of others must not overwrite this one.
    digest = hashlib.sha256(json.dumps(sorted(run.path.name for run, _ in scored)).encode()).hexdigest()[:8]
    path = folder / f"search={short([name.rpartition('.')[2] for name in names])}-{digest}"
    path.mkdir(exist_ok=True)
    with store.atomic(path / "search.csv") as file:
        table.to_csv(file, index=False, float_format="%.9g", encoding="utf-8")
    text = tables.comparison(table, SCORES)
    with store.atomic(path / "search.md") as file:
        file.write_text(text, encoding="utf-8")
    labels = [", ".join(f"{name.rpartition('.')[2]} {row[name]}" for name in names) for _, row in table.iterrows()]
    with store.atomic(path / "pareto.png") as file:
        figures.front(_points(table), labels, f"{folder.parent.name}, {len(table)} joint models", file)
    log.info("accuracy against localisation: %s\n\n%s", path, text)


def _differences(settings: Sequence[Options]) -> list[str]:
    """Return the keys in which settings differ, without those of `COMMON`, such as the seed."""
    flat = [dotted({k: v for k, v in options.items() if k not in COMMON}) for options in settings]
    keys = sorted({key for options in flat for key in options})
    return [key for key in keys if len({json.dumps(options.get(key)) for options in flat}) > 1]


def _texts(settings: Options, names: Sequence[str]) -> dict[str, Any]:
    flat = dotted(settings)

    def words(value: Any) -> str:
        if isinstance(value, list):
            return "+".join(map(words, value))
        return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

    return {name: words(flat.get(name)) for name in names}


def _mean(rows: pd.DataFrame) -> dict[str, Any]:
    """Return one row for several that differ only in their seed."""
    out = rows.iloc[0].to_dict()
    if len(rows) > 1:
        for score in SCORES:
            values = rows[score]
            out |= {score: values.mean(), f"{score}_low": values.min(), f"{score}_high": values.max()}
    return out | {"seeds": "+".join(sorted(rows["seeds"], key=int))}


def _front(table: pd.DataFrame) -> list[bool]:
    """Return for each row whether it is on the Pareto front."""
    values = table[list(SCORES)].to_numpy()
    return [not ((values >= row).all(1) & (values > row).any(1)).any() for row in values]


def _points(table: pd.DataFrame) -> list[figures.Point]:
    return [
        figures.Point(
            row["accuracy"],
            row["mass"],
            (row["accuracy_low"], row["accuracy_high"]),
            (row["mass_low"], row["mass_high"]),
            bool(row["pareto"]),
        )
        for _, row in table.iterrows()
    ]
