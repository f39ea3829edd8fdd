"""Tables of what was measured, with what is best in them where that is no chance."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from xmnist import tables, titles
from xmnist.found import Found
from xmnist.metrics.statistics import holm, paired_test
from xmnist.reporting.collected import each
from xmnist.tables import BEST, LEVEL, MEANING

MEASURED = ("reconstruction", "aopc", "pompom", "localisation", "axioms")
"""The tables of observations that `summary.csv` is made of."""


@dataclass
class Cell:
    """A mean with its interval; `same`: not told apart from a random map's, `best`: better than all others."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    same: bool = False
    best: bool = False
    failed: str = ""


@dataclass
class Table:
    """One kind of thing, such as explainers, by the scores that were measured of it."""

    title: str
    kind: str
    run: Found | None
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    meanings: dict[str, str] = field(default_factory=dict)
    marked: bool = False

    @property
    def compared(self) -> bool:
        """Whether a figure is not told apart from a random map's."""
        return any(cell.same for _, cells in self.rows for cell in cells)


def standings(several: Iterable[Found]) -> list[Table]:
    """The tables of all `evaluate` runs: of models, of explainers, and AOPC by patch size and fill."""
    measured = [run for run in several if run.stage == "evaluate" and (run.path / "summary.csv").is_file()]
    return [table for found in each("what was measured in", measured, _tables) for table in found]


def _tables(run: Found) -> list[Table]:
    out = []
    summary = pd.read_csv(run.path / "summary.csv", dtype={"name": str, "kind": str})
    observed = _observed(run)
    for kind, part in summary.groupby("kind", sort=False):
        columns = [score for score in MEANING if score in part and part[score].notna().any()]
        rows = {str(row["name"]): [_cell(row, score) for score in columns] for _, row in part.iterrows()}
        title = f"{str(kind).capitalize()}s: {titles.explained_title(run.settings, decoded=False)}"
        table = Table(title, str(kind), run, columns, list(rows.items()), {c: MEANING[c] for c in columns})
        for place, score in enumerate(columns):
            if score in observed and score in BEST:
                for name in _best(observed[score], list(rows), BEST[score]):
                    rows[name][place].best = table.marked = True
        out.append(table)
    return [*out, _by_patch_and_fill(run)] if (run.path / "aopc_table.csv").is_file() else out


def _observed(run: Found) -> dict[str, pd.DataFrame]:
    """One value an image and name, by score: images as rows, names as columns."""
    out: dict[str, pd.DataFrame] = {}
    for name in MEASURED:
        if (run.path / f"{name}.csv").is_file():
            values = tables.scores(name, pd.read_csv(run.path / f"{name}.csv"))
            out |= {str(score): values[score].unstack(0) for score in values}
    return out


def _best(values: pd.DataFrame, names: Sequence[str], goal: str) -> list[str]:
    """The name whose mean is best, of those that compete, if it is better than each of the others by a paired test.

    Decoders compete with those of the same layer, and not with the classifier, whose images nothing was made of.
    """
    out, groups = [], dict[str, list[str]]()
    for name in names:
        layer = next((part for part in name.split(",") if part.startswith("layer=")), "")
        if name in values and name != "classifier":
            groups.setdefault(layer, []).append(name)
    values = values.abs() if goal == "near 0" else values
    for group in groups.values():
        means = values[group].mean().dropna()
        if len(means) < 2:
            continue
        best = str(means.idxmax() if goal == "high" else means.idxmin())
        both = (values[[best, other]].dropna().to_numpy() for other in means.index if other != best)
        if all(p < LEVEL for p in holm([paired_test(pair[:, 0], pair[:, 1]) for pair in both])):
            out.append(best)
    return out


def _cell(row: "pd.Series[Any]", score: str) -> Cell:
    value = row[score]
    if isinstance(value, str):
        try:
            value = float(value)  # where another row of the column has failed
        except ValueError:
            return Cell(failed=value)
    low, high, p = (_number(row.get(f"{score}_{side}")) for side in ("low", "high", "p"))
    return Cell(_number(value), low, high, _number(row.get(f"{score}_sd")), p is not None and p >= LEVEL)


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(float(value)) else float(value)


def _by_patch_and_fill(run: Found) -> Table:
    table, observed = pd.read_csv(run.path / "aopc_table.csv"), pd.read_csv(run.path / "aopc.csv")
    where = [column for column in ("map", "patch", "fill") if column in table]
    names, columns = list(dict.fromkeys(table["explainer"])), list[str]()
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    marked = False
    parts = {key: rows for key, rows in observed.groupby(where, sort=False)}
    for key, part in table.groupby(where, sort=False):
        *kind, patch, fill = key if isinstance(key, tuple) else (key,)
        columns.append(" ".join([*map(str, kind), f"{patch}x{patch}", str(fill).replace("_", " ")]))
        by_name = part.set_index("explainer")
        values = parts[key].pivot(index="image", columns="explainer", values="aopc")
        best = _best(values, names, BEST["aopc"])
        for name in names:
            cells[name].append(_cell(by_name.loc[name], "aopc") if name in by_name.index else Cell())
            cells[name][-1].best = name in best
        marked |= bool(best)
    meanings = {"AOPC": MEANING["aopc"]}
    title = f"AOPC by patch size and fill: {titles.explained_title(run.settings, decoded=False)}"
    return Table(title, "explainer", run, columns, list(cells.items()), meanings, marked)


def over_seeds(several: Iterable[Found]) -> list[Table]:
    """The tables that `evaluate` has written of runs that differ in their seed alone."""
    places: dict[Path, None] = {}
    for run in (run for run in several if run.stage == "evaluate"):
        alike = f"{run.path.name.rpartition(',seed=')[0]},seeds-"
        places |= dict.fromkeys(
            path for path in sorted(run.path.parent.glob("*/summary.csv")) if path.parent.name.startswith(alike)
        )
    out = []
    for path in places:
        summary = pd.read_csv(path, dtype={"seeds": str})
        for kind, part in summary.groupby("kind", sort=False):
            columns = [score for score in MEANING if score in part and part[score].notna().any()]
            rows = [(str(row["name"]), [_cell(row, score) for score in columns]) for _, row in part.iterrows()]
            seeds = ", ".join(sorted({seed for own in part["seeds"] for seed in own.split("+")}, key=int))
            title = f"{path.parent.name.rpartition(',seeds-')[0]}, over seeds {seeds}"
            out.append(Table(title, str(kind), None, columns, rows, {c: MEANING[c] for c in columns}))
    return out
