"""Overview at the top of a page: the networks, their scores, and the explainer with the best score for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from xmnist.config.declarations import is_control
from xmnist.config.kinds import explained_names
from xmnist.reporting.collected import apart, stands_on
from xmnist.reporting.standings import Table
from xmnist.runs import store, titles
from xmnist.runs.index import Found

SCORES = {
    "accuracy": "accuracy",
    "reconstruction_sse": "reconstruction error (SSE)",
    "explanation_loss": "explanation loss",
}
"""Scores of a network that the overview shows -> their names there."""


@dataclass(frozen=True)
class Line:
    """A trained network with its main score on the test images; `more` are settings that differ in runs of its name."""

    run: Found
    title: str
    classifier: str
    score: str
    more: str


@dataclass(frozen=True)
class Best:
    """The explainer with the best mean AOPC of one evaluation.

    `sure` if it is significantly better than each other one; `control` is a control with a mean at least as good, or
    empty; `table` is the number of the table with these scores.
    """

    run: Found
    title: str
    name: str
    value: float
    sure: bool
    control: str
    table: int


@dataclass(frozen=True)
class Overview:
    """The overview of a page; `ranks` are the explainers of each network, by its hash, the best one first."""

    lines: Sequence[Line]
    best: Sequence[Best]
    others: dict[str, int]
    ranks: dict[str, list[str]]


def overview(several: Sequence[Found], tables: Sequence[Table]) -> Overview:
    """Return the overview of some runs and of the tables that were measured in them."""
    trained, more = [run for run in several if run.stage == "train"], apart(several)
    counts = {stage: sum(run.stage == stage for run in several) for stage in ("explain", "evaluate")}
    best, ranks = list[Best](), dict[str, list[str]]()
    for number, table in enumerate(tables, 1):
        values = _values(table)
        names = [name for name in values if not is_control(name)]
        if names and table.run:
            best.append(_best(table, table.run, number, values, names[0]))
            if explained := stands_on(table.run):
                ranks[store.run_id("train", explained[0])[-8:]] = [name.split(",")[0] for name in names]
    trained.sort(key=_group)
    return Overview([_line(run, more[run.path]) for run in trained], best, counts, ranks)


def _group(run: Found) -> tuple[str, str, int, bool]:
    """Return a sort key that puts an explained network before the decoders and judges of the same group."""
    settings = run.own
    return run.dataset, settings.classifier.name, settings.seed, run.model not in explained_names()


def _line(run: Found, more: str) -> Line:
    scores = [f"{SCORES[name]} {value:.4g}" for name, value in run.figures.items() if name in SCORES]
    score = scores[0] if scores else ""
    return Line(run, titles.network_title(run.own), run.own.classifier.name, score, more)


def _values(table: Table) -> dict[str, float]:
    """Return the mean AOPC of each explainer of a table, the best first; empty if the table has no AOPC."""
    if table.run is None or table.kind != "explainer" or "aopc" not in table.columns:
        return {}
    column = table.columns.index("aopc")
    values = {name: value for name, cells in table.rows if (value := cells[column].value) is not None}
    return dict(sorted(values.items(), key=lambda item: -item[1]))


def _best(table: Table, run: Found, number: int, values: dict[str, float], name: str) -> Best:
    """Return the best explainer of a table: controls do not compete, but one with the highest mean is named."""
    sure = dict(table.rows)[name][table.columns.index("aopc")].best
    first = next(iter(values))
    control = first if is_control(first) else ""
    title = titles.explained_title(run.own, decoded=False)
    return Best(run, title, name, values[name], sure, control, number)
