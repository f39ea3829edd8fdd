"""All pictures; the one module that imports matplotlib, and never its global state (pyplot)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

BLUE, ORANGE, RED = "#0072b2", "#d55e00", "#b3123b"  # told apart by colour-blind eyes too
_NAMES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "agreement": "agreement with the classifier",
    "reconstruction_sse": "reconstruction error (sse)",
    "classification_loss": "classification loss",
    "explanation_loss": "explanation loss",
}


LEGEND = "above each image: its true class, or true - predicted where the classifier sees another one in it"
HEATMAPS = (
    "maps: red is positive (speaks for the explained class), blue negative; each is scaled by its own largest value"
)


MAPS = "the joint model's own maps: from 0 (dark blue), not looked at, to 1 (yellow)"


@dataclass(frozen=True)
class Row:
    """One row of a grid: pictures (N, C, H, W), and what the classifier sees in each where they are images.

    Images have values in [0, 1], as have maps and masks (N, 1, H, W); heatmaps (N, 1, H, W) any.
    """

    name: str
    pictures: NDArray[np.floating]
    predicted: Sequence[str] | None = None
    kind: Literal["heatmap", "image", "map", "mask"] = "image"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def curves(history: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Draw a training's history: one panel a figure, training and validation in one where there are both."""
    names = [n for n in _NAMES if f"val_{n}" in history[0]]
    figure = Figure(figsize=(3.4 * len(names), 3.2), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
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
        axes.set_title(_NAMES[name], fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if name == "loss":
            axes.legend(fontsize=8, frameon=False)
    _save(figure, path)


GAP = 0.06  # inches


def grid(rows: Sequence[Row], truth: Sequence[str], title: str, path: Path) -> None:
    """Draw images and their explanations, one row a kind, one column an image.

    Args:
        truth: true class of each column; a title reads `true`, or `true - predicted` in red where they differ.
        path: its suffix says in which format: png, pdf or svg.
    """
    wide = max(len(name) for name in truth) > 2
    cell = 1.28 if wide else 0.92
    across = cell + (0.18 if wide else GAP)
    left = 0.2 + 0.062 * max(len(line) for row in rows for line in row.name.split("\n"))
    below = [cell + (0.2 if row.predicted is not None else 0.0) + GAP for row in rows]
    kinds = {row.kind for row in rows}
    lines = [
        *title.split("\n"),
        LEGEND,
        *([HEATMAPS] if "heatmap" in kinds else []),
        *([MAPS] if "map" in kinds else []),
    ]
    top = 0.17 * len(lines) + 0.15
    width, height = max(left + across * len(truth) + GAP, 0.066 * max(map(len, lines)) + 0.2), top + sum(below) + GAP
    figure = Figure(figsize=(width, height))
    for place, line in enumerate(lines):
        y = 1 - (0.08 + 0.17 * place) / height
        figure.text(0.5, y, line, ha="center", va="top", fontsize=9 if place == 0 else 7.5, parse_math=False)
    for r, row in enumerate(rows):
        bottom = height - top - sum(below[: r + 1]) + GAP
        y = (bottom + cell / 2) / height
        figure.text((left - 0.1) / width, y, row.name, ha="right", va="center", fontsize=8, parse_math=False)
        for c, true in enumerate(truth):
            x = left + across * c + (across - cell) / 2
            axes = figure.add_axes((x / width, bottom / height, cell / width, cell / height))
            _picture(axes, row.pictures[c], row.kind)
            if row.predicted is not None:
                wrong = row.predicted[c] != true
                text = f"{true} - {row.predicted[c]}" if wrong else true
                size = 7 if wide else 8
                axes.set_title(text, fontsize=size, color=RED if wrong else "black", pad=2, parse_math=False)
    _save(figure, path)


def _picture(axes: Axes, picture: NDArray[np.floating], kind: str) -> None:
    """Show one picture (C, H, W), every pixel a square: an image in [0, 1], or a heatmap, white where it is 0."""
    shown = picture[0] if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    if kind == "heatmap":
        limit = float(np.abs(picture).max()) or 1.0
        axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif kind in ("map", "mask"):
        axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.7", visible=kind == "heatmap")
