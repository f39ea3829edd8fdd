"""Figures as plain data: what metrics want drawn. Room `plots` draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmnist.config.declarations import columns, controls
from xmnist.runtime.lazy import np, pd


@dataclass(frozen=True)
class Series:
    """One line of a panel: y over x (P,), and its interval where there is one; `quiet` if only compared with."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    interval: tuple[Sequence[float], Sequence[float]] | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes; `ticks` names the places 0, 1, ... of x where these are no numbers.

    With `methods`, series and ticks are methods or models, which have names and styles of their own.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    ticks: Sequence[str] | None = None
    square: bool = False
    logarithmic: bool = False
    methods: bool = False


@dataclass(frozen=True)
class Lines:
    """Rows of panels with lines; a name has the same colour and dashes in all of them."""

    panels: Sequence[Sequence[Panel]]
    title: str
    markers: bool = False


@dataclass(frozen=True)
class Bars:
    """Panels side by side, a bar at each tick."""

    panels: Sequence[Panel]
    title: str


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix (K, K), a row for each true class."""

    counts: np.ndarray
    classes: Sequence[str]
    title: str


Chart = Lines | Bars | Confusion


@dataclass(frozen=True)
class Subject:
    """What figures are of.

    `title` names network and data; `decoded` also the layers that are decoded, `layers` are these, from the image on or
    as `across` says, if there are several. `images` is how many test images maps were made of.
    """

    title: str
    decoded: str
    images: int
    layers: Sequence[str] = ()
    across: str = ""

    @property
    def chosen(self) -> str:
        """A title of figures of maps."""
        return f"{self.title}, {self.images} test images"


def line(name: str, x: Sequence[float], y: Sequence[float]) -> Series:
    """A line of a method, quiet if it is a control."""
    return Series(name, list(x), list(y), None, name in controls())


def bars(summary: pd.DataFrame, kind: str, scores: Sequence[str], title: str) -> Bars:
    """Bars of scores with their intervals, a bar an explainer or model."""
    rows = summary[summary["kind"] == kind]
    there, known = [column for column in scores if column in rows], columns()
    numbers = rows[there].apply(pd.to_numeric, errors="coerce")
    rows = rows.assign(**numbers)[numbers.notna().any(axis=1)]
    names = [str(name) for name in rows["name"]]
    panels = []
    for column in there:
        better = known[column].better if column in known else None
        below, wide = f"{better} is better" if better else "", rows[column].max() > 20 * rows[column].median()
        series = _bars(rows, column)
        panels.append(Panel(column.replace("_", " "), below, "", series, names, logarithmic=bool(wide), methods=True))
    return Bars(panels, title)


def _bars(rows: pd.DataFrame, column: str) -> list[Series]:
    """One series of what is measured and one of what it is compared with, which keep their places."""
    out, compared = [], (*controls(), "classifier")
    for quiet in (False, True):
        places = [p for p, name in enumerate(rows["name"]) if (name in compared) == quiet]
        own = rows.iloc[places]
        bounds = list(own[f"{column}_low"]), list(own[f"{column}_high"])
        out.append(Series("", places, list(own[column]), bounds, quiet))
    return out
