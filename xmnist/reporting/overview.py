"""What a page begins with: which networks there are, how good they are, and which explanation of each measured best."""

from collections.abc import Sequence
from dataclasses import dataclass

from xmnist import titles
from xmnist.found import Found
from xmnist.reporting.standings import Table

SCORES = {
    "accuracy": "accuracy",
    "reconstruction_sse": "reconstruction error (SSE)",
    "explanation_loss": "explanation loss",
}
"""Scores of a network that the overview has, and what it calls them."""


@dataclass(frozen=True)
class Line:
    """A trained network, with its scores on the test images and what was wrong with its training."""

    run: Found
    title: str
    scores: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Best:
    """The explainer with the best mean AOPC of one evaluation; `sure` if it is significantly better than each other."""

    run: Found
    title: str
    name: str
    value: float
    sure: bool


@dataclass(frozen=True)
class Overview:
    """The first view of a page."""

    lines: Sequence[Line]
    best: Sequence[Best]
    others: dict[str, int]


def overview(several: Sequence[Found], tables: Sequence[Table]) -> Overview:
    """The overview of some runs and of the tables that were measured in them."""
    trained = [run for run in several if run.stage == "train"]
    counts = {stage: sum(run.stage == stage for run in several) for stage in ("explain", "evaluate")}
    return Overview([_line(run) for run in trained], [best for table in tables for best in _best(table)], counts)


def _line(run: Found) -> Line:
    scores = ((SCORES[name], f"{value:.4g}") for name, value in run.figures.items() if name in SCORES)
    return Line(run, titles.network_title(run.settings), tuple(scores))


def _best(table: Table) -> list[Best]:
    """The best explainer of a table with one AOPC each; those that do not depend on the network do not compete."""
    if table.run is None or table.kind != "explainer" or "aopc" not in table.columns:
        return []
    place = table.columns.index("aopc")
    cells = {name: cells[place] for name, cells in table.rows if not titles.is_control(name)}
    values = {name: cell.value for name, cell in cells.items() if cell.value is not None}
    if not values:
        return []
    name = max(values, key=lambda each: values[each])
    return [
        Best(table.run, titles.explained_title(table.run.settings, decoded=False), name, values[name], cells[name].best)
    ]
