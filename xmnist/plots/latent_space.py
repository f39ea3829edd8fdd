"""Pictures of a variational model's latent space."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from xmnist.plots import figures
from xmnist.plots.styles import COLOURS

NAMED = 20
"""Largest number of classes with a legend; a longer one would not help."""

ROUNDS = 10
"""Number of turns in which the classes' points are drawn, so that no class covers all others."""

_COLOURS = (*COLOURS, "#6b3e1f", "#b7c94f")
_MARKERS = "os^vDPX*<>"


@dataclass(frozen=True)
class Plane:
    """Images decoded along two latent dimensions: `images` (R, R, C, H, W), z of the second rising by row.

    `x` and `y` are the dimensions, `spans` the lowest and highest z of each.
    """

    x: int
    y: int
    spans: tuple[tuple[float, float], tuple[float, float]]
    images: NDArray[np.floating]


@dataclass(frozen=True)
class Cloud:
    """The means (N, latent) of some images, and their labels (N,)."""

    name: str
    means: NDArray[np.floating]
    labels: NDArray[np.integer]


@figures.styled
def grid(planes: Sequence[Plane], title: str, path: Path) -> None:
    """Draw the images of each plane at their latent points, one panel per plane, at most three in a row."""
    across = min(len(planes), 3)
    down, side = -(-len(planes) // across), 5.6 if len(planes) == 1 else 4.0
    figure = _figure(across * side, down * side, title)
    for index, plane in enumerate(planes, 1):
        axes = figure.add_subplot(down, across, index)
        count, _, channels, height, width = plane.images.shape
        # Reversed, since z rises by row but pictures are drawn from the top.
        rows = plane.images[::-1].transpose(0, 3, 1, 4, 2).reshape(count * height, count * width, channels)
        (left, right), (low, high) = plane.spans
        x, y = ((end - start) / max(count - 1, 1) / 2 for start, end in plane.spans)  # half a picture
        pixels = rows[..., 0] if channels == 1 else rows
        extent = (left - x, right + x, low - y, high + y)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto")
        axes.set_box_aspect(height / width)
        _label(axes, plane)
    figures._save(figure, path)


@figures.styled
def clusters(clouds: Sequence[Cloud], planes: Sequence[Plane], classes: Sequence[str], title: str, path: Path) -> None:
    """Draw the means of each class, one row per plane and one column per cloud, with a frame around the area of `grid`.

    Classes have colours and markers; more than `NAMED` classes have colours from dark to light by their number.
    """
    named = len(classes) <= NAMED
    beside = 0.5 + 0.075 * max(map(len, classes)) if named else 0.0
    if not named:
        title += f"\n{len(classes)} classes, the first one dark, the last one light"
    figure = _figure(4.2 * len(clouds) + beside, 4.0 * len(planes), title)
    looks = [_look(label, len(classes)) for label in range(len(classes))]
    for r, plane in enumerate(planes):
        first: Axes | None = None
        for c, cloud in enumerate(clouds):
            index = r * len(clouds) + c + 1
            axes = figure.add_subplot(len(planes), len(clouds), index, sharex=first, sharey=first)
            first = first or axes
            for turn in range(ROUNDS):
                means, labels = cloud.means[turn::ROUNDS], cloud.labels[turn::ROUNDS]
                for label, (colour, marker) in enumerate(looks):
                    x, y = means[labels == label][:, [plane.x, plane.y]].T
                    axes.plot(x, y, marker, color=colour, ms=2.6, mew=0, alpha=0.6)
            (left, right), (low, high) = plane.spans
            axes.add_patch(Rectangle((left, low), right - left, high - low, fill=False, ls="--", lw=0.9, ec="0.25"))
            axes.set_title(f"{len(cloud.labels):,} {cloud.name} images", fontsize=9)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            _label(axes, plane)
    if named:
        marks = [Line2D([], [], color=colour, marker=marker, ls="", ms=6, mew=0) for colour, marker in looks]
        figure.legend(marks, [*classes], loc="outside right center", fontsize=8, frameon=False)
    figures._save(figure, path)


def _figure(width: float, height: float, title: str) -> Figure:
    lines = title.split("\n")
    wide = max(width, 0.072 * max(map(len, lines)) + 0.4)
    figure = Figure(figsize=(wide, height + 0.2 * len(lines)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure


def _look(label: int, count: int) -> tuple[str, str]:
    """Return colour and marker of a class."""
    if count > NAMED:
        red, green, blue, _ = colormaps["viridis"](label / (count - 1), bytes=True)
        return f"#{red:02x}{green:02x}{blue:02x}", "o"
    # The shift gives a class that repeats a colour another marker.
    turn, rest = divmod(label, len(_COLOURS))
    return _COLOURS[rest], _MARKERS[(rest + 3 * turn) % len(_MARKERS)]


def _label(axes: Axes, plane: Plane) -> None:
    axes.set_xlabel(f"z{plane.x}", fontsize=8)
    axes.set_ylabel(f"z{plane.y}", fontsize=8)
    axes.tick_params(labelsize=7.5)
