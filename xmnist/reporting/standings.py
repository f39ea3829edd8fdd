"""Tables of the measured scores, with the best ones marked if they are significantly better."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from xmnist.config.declarations import columns
from xmnist.metrics.base import Metric
from xmnist.metrics.statistics import holm, paired_test
from xmnist.metrics.tables import LEVEL, scores_in
from xmnist.reporting import across_seeds
from xmnist.reporting.collected import apart, each, read
from xmnist.runs import titles
from xmnist.runs.index import Found


@dataclass
class Cell:
    """A mean with its interval.

    `same` if it is not significantly different from a random map's, `best` if it is significantly better than all
    others.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    same: bool = False
    best: bool = False
    failed: str = ""


@dataclass
class Table:
    """Scores of rows of one kind, such as explainers; the columns are the scores."""

    title: str
    kind: str
    run: Found | None
    columns: list[str]
    rows: list[tuple[str, list[Cell]]]
    meanings: dict[str, str] = field(default_factory=dict)
    marked: bool = False

    @property
    def layered(self) -> bool:
        """Whether the rows belong to layers, each of which may have a best row."""
        return any(",layer=" in name for name, _ in self.rows)

    @property
    def compared(self) -> bool:
        """Whether any score is not significantly different from a random map's."""
        return any(cell.same for _, cells in self.rows for cell in cells)


def standings(several: Sequence[Found]) -> list[Table]:
    """Return the tables of all `evaluate` runs: of models, of explainers, and of AOPC by patch size and fill."""
    measured = [run for run in several if run.stage == "evaluate" and (run.path / "summary.csv").is_file()]
    out = [table for tables in each("what was measured in", measured, _tables) for table in tables]
    more, alike = apart(several), [table.title for table in out]
    for table in out:
        if table.run and alike.count(table.title) > 1 and more[table.run.path]:
            table.title += f" ({more[table.run.path]})"
    return out


def _tables(run: Found) -> list[Table]:
    out = []
    summary = read(run.path / "summary.csv")
    observed = _observed(run)
    for kind, part in summary.groupby("kind", sort=False):
        table = _table(str(kind), part, titles.explained_title(run.own, decoded=False), run)
        rows = dict(table.rows)
        for column, score in enumerate(table.columns):
            known = columns().get(score)
            if score in observed and known and known.better:
                for name in _best(observed[score], list(rows), known.better):
                    rows[name][column].best = table.marked = True
        out.append(table)
    return [*out, _by_patch_and_fill(run)] if (run.path / "aopc_table.csv").is_file() else out


def _table(kind: str, part: pd.DataFrame, of: str, run: Found | None) -> Table:
    """Return the rows of a summary that are of one kind, with the scores that they have."""
    scores, known = [score for score in scores_in(part) if part[score].notna().any()], columns()
    rows = [(str(row["name"]), [_cell(row, score) for score in scores]) for _, row in part.iterrows()]
    meanings = {score: known[score].meaning for score in scores if score in known}
    return Table(f"{kind.capitalize()}s: {of}", kind, run, scores, rows, meanings)


def _observed(run: Found) -> dict[str, pd.DataFrame]:
    """Return, by score, one value for each image and name: images as rows, names as columns."""
    out: dict[str, pd.DataFrame] = {}
    for metric in run.own.metrics.values():
        if isinstance(metric, Metric) and (run.path / f"{metric.table}.csv").is_file():
            values = metric.scores(read(run.path / f"{metric.table}.csv"))
            out |= {str(score): values[score].unstack(0) for score in values}
    return out


def _best(values: pd.DataFrame, names: Sequence[str], better: Literal["higher", "lower"]) -> list[str]:
    """Return the name with the best mean of each group, if paired tests find it better than each other one.

    Decoders compete with those of the same layer, and not with the classifier, whose images are unchanged.
    """
    out, groups = [], dict[str, list[str]]()
    for name in names:
        layer = next((part for part in name.split(",") if part.startswith("layer=")), "")
        if name in values and name != "classifier":  # the row of the images themselves
            groups.setdefault(layer, []).append(name)
    for group in groups.values():
        means = values[group].mean().dropna()
        if len(means) < 2:
            continue
        side: Literal["greater", "less"] = "greater" if better == "higher" else "less"
        best = str(means.idxmax() if better == "higher" else means.idxmin())
        both = (values[[best, rival]].dropna().to_numpy() for rival in means.index if rival != best)
        # The best of several is compared with all others at once, so the p-values are corrected.
        if all(p < LEVEL for p in holm([paired_test(pair[:, 0], pair[:, 1], side) for pair in both])):
            out.append(best)
    return out


def _cell(row: "pd.Series[Any]", score: str) -> Cell:
    value = row[score]
    if isinstance(value, str):
        try:
            value = float(value)  # a failed row makes the column text
        except ValueError:
            return Cell(failed=value)
    low, high, p = (_number(row.get(f"{score}_{side}")) for side in ("low", "high", "p"))
    return Cell(_number(value), low, high, _number(row.get(f"{score}_sd")), p is not None and p >= LEVEL)


def _number(value: Any) -> float | None:
    return None if value is None or math.isnan(float(value)) else float(value)


def _by_patch_and_fill(run: Found) -> Table:
    table, observed = read(run.path / "aopc_table.csv"), read(run.path / "aopc.csv")
    where = [column for column in ("map", "patch", "fill") if column in table]
    names, heads = list(dict.fromkeys(table["explainer"])), list[str]()
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    marked = False
    parts = {key: rows for key, rows in observed.groupby(where, sort=False)}
    for key, part in table.groupby(where, sort=False):
        *kind, patch, fill = key if isinstance(key, tuple) else (key,)
        heads.append(" ".join([*map(str, kind), f"{patch}x{patch}", str(fill).replace("_", " ")]))
        by_name = part.set_index("explainer")
        values = parts[key].pivot(index="image", columns="explainer", values="aopc")
        best = _best(values, names, "higher")
        for name in names:
            cells[name].append(_cell(by_name.loc[name], "aopc") if name in by_name.index else Cell())
            cells[name][-1].best = name in best
        marked |= bool(best)
    meanings = {"AOPC": columns()["aopc"].meaning}
    title = f"AOPC by patch size and fill: {titles.explained_title(run.own, decoded=False)}"
    return Table(title, "explainer", run, heads, list(cells.items()), meanings, marked)


def over_seeds(several: Sequence[Found]) -> list[Table]:
    """Return the tables over seeds that `evaluate` has written for runs that differ only in their seed."""
    by_folder = {across_seeds.place(run.path, run.own): run for run in several if run.stage == "evaluate"}
    written = [run for folder, run in by_folder.items() if (folder / "summary.csv").is_file()]
    return [table for tables in each("what was measured over the seeds of", written, _over_seeds) for table in tables]


def _over_seeds(run: Found) -> list[Table]:
    summary, out = read(across_seeds.place(run.path, run.own) / "summary.csv"), []
    network = titles.explained_title(run.own, decoded=False).rpartition(", seed ")[0]
    for kind, part in summary.groupby("kind", sort=False):
        numbers = ", ".join(sorted({seed for seeds in part["seeds"] for seed in seeds.split("+")}, key=int))
        out.append(_table(str(kind), part, f"{network}, over seeds {numbers}", None))
    return out
