"""Curves, bars and confusion matrices as pictures, in one style; matplotlib without its global state (pyplot)."""

import logging
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from itertools import pairwise
from pathlib import Path
from typing import Any, ParamSpec

import numpy as np
from matplotlib import font_manager, rc_context, rcParamsDefault
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from xmnist.metrics.panels import Bars, Chart, Lines, Panel, Series
from xmnist.plots.styles import COLOURS, DASHES, QUIET, Style, style, styles

log = logging.getLogger(__name__)
for _name in ("fontTools", "matplotlib"):  # they log each letter in a PDF, and each font that they inspect
    logging.getLogger(_name).setLevel(logging.WARNING)

BLUE, ORANGE, RED = "#0072b2", "#d55e00", "#b3123b"  # distinguishable with colour blindness too
_NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "agreement": "prediction agreement",
    "reconstruction_sse": "reconstruction error (SSE)",
    "reconstruction_bce": "reconstruction error (BCE)",
    "kl": "KL divergence",
    "classification_loss": "classification loss",
    "explanation_loss": "explanation loss",
}


ELSEWHERE = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Microsoft YaHei", "SimHei", "PingFang SC"),
    *("Hiragino Sans", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Malgun Gothic", "Noto Sans", "Arial Unicode MS"),
)
"""Fonts with letters that matplotlib's own lacks; those that are installed are tried in this order."""


@cache
def _style() -> Any:
    """Return the style of all pictures, independent of any matplotlibrc: the defaults, and fonts for class names."""
    installed = set(font_manager.get_font_names())
    parameters = {str(key): value for key, value in rcParamsDefault.items() if "backend" not in key}
    fonts = ["DejaVu Sans", *(name for name in ELSEWHERE if name in installed)]
    parameters |= {
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        "svg.fonttype": "none",
    }  # letters stay letters, which journals ask for
    parameters |= {"svg.hashsalt": "xmnist"}  # without a fixed salt, an SVG has other ids every time
    return parameters | {"font.family": fonts, "text.parse_math": False}  # a class may be called $5$


P = ParamSpec("P")


def styled(draw: Callable[P, None]) -> Callable[P, None]:
    """Make a drawing function use this package's style, and log letters that no font has once per picture."""

    @wraps(draw)
    def drawn(*args: P.args, **named: P.kwargs) -> None:
        with rc_context(_style()), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            draw(*args, **named)
        lacking = {
            match[1] for warning in caught if (match := re.match(r"Glyph (\d+) .*missing", str(warning.message)))
        }
        # Every warning was caught to find missing letters; the others are issued again.
        for warning in caught:
            if not str(warning.message).startswith("Glyph "):
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        if lacking:
            letters = "".join(sorted(chr(int(code)) for code in lacking))
            log.warning("no font here has the letters %s: pictures show boxes (install fonts-noto-cjk, say)", letters)

    return drawn


UNDATED: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
"""Dates that files omit, by suffix, so that the same picture has the same bytes."""


def _save(figure: Figure, path: Path, dpi: int = 150) -> None:
    FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    if layout := figure.get_layout_engine():  # now, or savefig would draw everything twice
        layout.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(path, dpi=dpi, metadata=UNDATED.get(path.suffix))


HIGHER = ("accuracy", "agreement")
"""Columns of a training's history for which higher is better."""


@styled
def curves(history: Sequence[Mapping[str, float]], title: str, path: Path) -> None:
    """Draw a training's history: one panel per score, with training and validation in it where there are both."""
    names = [n for n in _NAMES if f"val_{n}" in history[0]]
    wide, high = 3.4 * len(names), 3.2
    figure = Figure(figsize=(wide, high))
    # Fixed margins with room for any number: a layout engine would cost as much time as the drawing.
    gaps = {"left": 0.72 / wide, "right": 1 - 0.1 / wide, "bottom": 0.52 / high, "top": 1 - 0.58 / high}
    figure.subplots_adjust(**gaps, wspace=0.82 / 2.58)
    figure.suptitle(title, fontsize=10, y=1 - 0.08 / high)
    epochs = range(1, len(history) + 1)
    phases = [row.get("phase", 1) for row in history]
    starts = [epoch for epoch, (a, b) in enumerate(pairwise(phases), 1) if a != b]
    for column, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), column + 1)
        for part, colour, label in (("train", ORANGE, "training"), ("val", BLUE, "validation")):
            if f"{part}_{name}" in history[0]:
                values = [row[f"{part}_{name}"] for row in history]
                axes.plot(epochs, values, "o-", color=colour, label=label, markersize=3, linewidth=1.5)
        for start in starts:
            axes.axvline(start + 0.5, color="0.6", linewidth=0.8, linestyle="--")
        axes.set_xlabel("epoch" if not starts else "epoch; dashed: the next phase begins")
        better = "higher" if name in HIGHER else "lower"
        axes.set_title(f"{_NAMES[name]} ({better} is better)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if name == "loss":
            axes.legend(fontsize=8, frameon=False)
    _save(figure, path)


def draw(chart: Chart, path: Path) -> None:
    """Draw a chart of a metric."""
    if isinstance(chart, Lines):
        lines(chart.panels, chart.title, path, chart.markers)
    elif isinstance(chart, Bars):
        bars(chart.panels, chart.title, path)
    else:
        confusion(chart.counts, chart.classes, chart.title, path)


@styled
def lines(panels: Sequence[Sequence[Panel]], title: str, path: Path, markers: bool = False) -> None:
    """Draw rows of panels; a name has the same colour and dashes in all of them, and one legend beside them."""
    names = list(dict.fromkeys(series.name for row in panels for panel in row for series in panel.series))
    looks = _looks(panels, names)
    beside = (0.45 + 0.075 * max(len(looks[name].title) for name in names)) if len(names) > 1 else 0.0
    wide, high = 3.3 * max(map(len, panels)) + 0.4 + beside, max(2.8 * len(panels), 0.17 * len(names)) + 0.5
    figure = Figure(figsize=(max(wide, 0.072 * len(title) + 0.4), high), layout="constrained")
    figure.suptitle(title, fontsize=10)
    artists: dict[str, Artist] = {}
    for r, row in enumerate(panels):
        for c, panel in enumerate(row):
            axes = figure.add_subplot(len(panels), len(row), r * len(row) + c + 1)
            for series in panel.series:
                look = looks[series.name]
                drawn: dict[str, Any] = {
                    "color": look.colour,
                    "linestyle": look.dash,
                    "marker": "o" if markers else None,
                }
                (line,) = axes.plot(series.x, series.y, markersize=3, lw=1.3, **drawn)
                if series.interval:
                    axes.fill_between(series.x, *series.interval, color=look.colour, alpha=0.15, linewidth=0)
                artists[series.name] = line
            _dress(axes, panel)
    if len(names) > 1:
        handles = [artists[name] for name in names]  # drawn long, so that dashes can be distinguished
        figure.legend(
            handles,
            [looks[name].title for name in names],
            loc="outside right center",
            fontsize=7.5,
            frameon=False,
            handlelength=3.5,
        )
    _save(figure, path)


def _looks(panels: Sequence[Sequence[Panel]], names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each name: methods have their own; others, such as classes, get one after the other."""
    if not any(panel.methods for row in panels for panel in row):
        quiet = {series.name for row in panels for panel in row for series in panel.series if series.quiet}
        loud = [name for name in names if name not in quiet]
        size = len(COLOURS)
        looks = {name: Style(name, COLOURS[i % size], DASHES[i // size % len(DASHES)]) for i, name in enumerate(loud)}
        return looks | {name: Style(name, QUIET, (0, (1 + 2 * (i % 3), 1.2))) for i, name in enumerate(sorted(quiet))}
    return styles(names)


@dataclass(frozen=True)
class Point:
    """Two scores of a model, each with its interval, and whether it is on the Pareto front."""

    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    best: bool


@styled
def front(points: Sequence[Point], labels: Sequence[str], title: str, path: Path) -> None:
    """Draw models by accuracy and localisation, those on the Pareto front joined, numbered and listed beside."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.add_subplot()
    for point in sorted(points, key=lambda point: point.best):  # the front is drawn last, on top
        colour = BLUE if point.best else "0.65"
        error = [
            [[abs(value - bounds[0])], [abs(bounds[1] - value)]]
            for value, bounds in ((point.x, point.x_interval), (point.y, point.y_interval))
        ]
        axes.errorbar(point.x, point.y, error[1], error[0], "o", color=colour, ms=4.5, lw=0.8, alpha=0.9)
    best = sorted((index for index, point in enumerate(points) if point.best), key=lambda index: points[index].x)
    axes.plot([points[p].x for p in best], [points[p].y for p in best], color=BLUE, lw=1.2, zorder=0)
    listed = []
    for number, index in enumerate(best, 1):
        near = {"xytext": (5, 5), "textcoords": "offset points", "fontsize": 8.5, "color": BLUE}
        axes.annotate(str(number), (points[index].x, points[index].y), **near)  # type: ignore[arg-type]
        listed.append(axes.plot([], [], " ", label=f"{number}: {labels[index]}")[0])
    figure.legend(handles=listed, loc="outside right upper", fontsize=7.5, frameon=False, title="Pareto front")
    better = "(higher is better)"
    _dress(axes, Panel("", f"accuracy on the test images {better}", f"share of the map inside the object {better}", []))
    _save(figure, path)


def _dress(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel(panel.x, fontsize=8)
    axes.set_ylabel(panel.y, fontsize=8)
    axes.tick_params(labelsize=7.5)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.ticks is not None:
        long = sum(map(len, panel.ticks)) > 32
        axes.set_xticks(
            range(len(panel.ticks)), panel.ticks, rotation=35 if long else 0, ha="right" if long else "center"
        )
    if panel.square:
        _square(axes, panel)


def _square(axes: Axes, panel: Panel) -> None:
    """Show all of [0, 1] on axes of shares, with an inset of the corner where the curves differ, if they do there."""
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    loud = [series for series in panel.series if len(series.x) > 2]
    if not loud:
        return
    falls = panel.x == "recall"  # precision by recall leaves its corner on the other side
    reach = max(_reach(series, falls) for series in loud)
    side = next((side for side in (0.02, 0.05, 0.1, 0.2) if reach <= 1.5 * side), None)
    if side is None:
        return
    inset = axes.inset_axes((0.17 if falls else 0.42, 0.14, 0.5, 0.5))
    for line in axes.lines:
        inset.plot(*line.get_data(), color=line.get_color(), linestyle=line.get_linestyle(), lw=1.1)
    inset.set(xlim=(1 - side, 1) if falls else (0, side), ylim=(1 - side, 1 + side / 40))
    inset.tick_params(labelsize=6.5)
    inset.locator_params(nbins=3)
    inset.set_title("enlarged corner", fontsize=7, pad=2)
    inset.grid(alpha=0.3)


def _reach(series: Series, falls: bool) -> float:
    """Return the distance of a curve from the corner of a perfect classifier."""
    return min(1 - y + (1 - x if falls else x) for x, y in zip(series.x, series.y, strict=True))


@styled
def bars(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Draw panels side by side, with a bar at each tick; quiet series are gray, intervals are thin lines."""
    ticks = [style(name).title if panels[0].methods else name for name in panels[0].ticks or ()]
    margin = 0.3 + 0.075 * max(map(len, ticks), default=0)
    size = (max(margin + 2.9 * len(panels), 0.072 * len(title) + 0.4), 1.1 + 0.2 * len(ticks))
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=10)
    for column, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), column + 1)
        for series in panel.series:
            axes.barh(series.x, series.y, 0.75, color=_bar_colours(panel, series))
            if series.interval:
                axes.hlines(series.x, *series.interval, color="black", linewidth=0.9)
        axes.set_title(panel.title, fontsize=9)
        axes.set_yticks(range(len(ticks)), ticks if not column else [""] * len(ticks))
        axes.set_ylim(len(ticks) - 0.4, -0.6)
        axes.set_xlabel(panel.x, fontsize=8)
        if panel.logarithmic:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def _bar_colours(panel: Panel, series: Series) -> list[str]:
    if not panel.methods or panel.ticks is None:
        return [QUIET if series.quiet else BLUE] * len(series.x)
    return [style(panel.ticks[int(index)]).colour for index in series.x]


@styled
def confusion(counts: NDArray[np.integer], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw a confusion matrix (K, K), a row for each true class: counts, coloured by their share of the row."""
    size, longest = len(classes), max(map(len, classes))
    # A class without an image has a row of zeros, whose sum must not divide.
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(2.6, 0.42 * min(size, 30))
    figure = Figure(figsize=(max(side + 1.2 + 0.07 * longest, 0.072 * len(title) + 0.4), side + 0.9 + 0.05 * longest))
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(
            range(size), classes, rotation=60 if longest > 2 else 0, ha="right" if longest > 2 else "center"
        )
        axes.set_yticks(range(size), classes)
    axes.tick_params(labelsize=7.5)
    axes.set_xlabel("predicted class", fontsize=8)
    axes.set_ylabel("true class", fontsize=8)
    _save(figure, path)
