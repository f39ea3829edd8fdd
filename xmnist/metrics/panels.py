"""Charts of metrics as plain data, which the package `plots` draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xmnist.config.declarations import columns, controls
from xmnist.runtime.lazy import np, pd


@dataclass(frozen=True)
class Series:
    """One line of a panel: y over x (P,), and its interval where there is one; `quiet` for a reference."""

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
    """The network, data and layers that charts are of.

    `title` names network and data; `decoded` also names the decoded layers. `layers` are these if there are several,
    from the image on or as `across` says. `images` is the number of test images with maps.
    """

    title: str
    decoded: str
    images: int
    layers: Sequence[str] = ()
    across: str = ""

    @property
    def chosen(self) -> str:
        """Return the title of charts of maps."""
        return f"{self.title}, {self.images} test images"


def line(name: str, x: Sequence[float], y: Sequence[float]) -> Series:
    """Return the line of a method, quiet if it is a control."""
    return Series(name, list(x), list(y), None, name in controls())


def bars(summary: pd.DataFrame, kind: str, scores: Sequence[str], title: str) -> Bars:
    """Return bars of scores with their intervals, one bar per explainer or model."""
    rows = summary[summary["kind"] == kind]
    present, known = [column for column in scores if column in rows], columns()
    # The cell of a failed metric holds its message, which cannot be drawn.
    numbers = rows[present].apply(pd.to_numeric, errors="coerce")
    rows = rows.assign(**numbers)[numbers.notna().any(axis=1)]
    names = [str(name) for name in rows["name"]]
    panels = []
    for column in present:
        better = known[column].better if column in known else None
        below, wide = f"{better} is better" if better else "", rows[column].max() > 20 * rows[column].median()
        # On a linear axis, one value far above the median would leave the other bars invisible.
        series = _bars(rows, column)
        panels.append(Panel(column.replace("_", " "), below, "", series, names, logarithmic=bool(wide), methods=True))
    return Bars(panels, title)


def _bars(rows: pd.DataFrame, column: str) -> list[Series]:
    """Return a series of the measured methods and one of their references, which keep their places among the bars."""
    out, compared = [], (*controls(), "classifier")
    for quiet in (False, True):
        places = [p for p, name in enumerate(rows["name"]) if (name in compared) == quiet]
        group = rows.iloc[places]
        bounds = list(group[f"{column}_low"]), list(group[f"{column}_high"])
        out.append(Series("", places, list(group[column]), bounds, quiet))
    return out
