"""All pictures; the one module that imports matplotlib, and never its global state (pyplot)."""

from collections.abc import Sequence
from pathlib import Path

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
}


LEGEND = "above each image: its true class, or true - predicted where the classifier sees another one in it"


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)


def curves(history: Sequence[dict[str, float]], title: str, path: Path) -> None:
    """Draw a training's history: one panel a figure, training and validation in one where there are both."""
    names = [n for n in _NAMES if f"val_{n}" in history[0]]
    figure = Figure(figsize=(3.4 * len(names), 3.2), layout="constrained")
    figure.suptitle(title, fontsize=10, parse_math=False)
    epochs = [row["epoch"] for row in history]
    for column, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), column + 1)
        for part, colour, label in (("train", ORANGE, "training"), ("val", BLUE, "validation")):
            if f"{part}_{name}" in history[0]:
                values = [row[f"{part}_{name}"] for row in history]
                axes.plot(epochs, values, "o-", color=colour, label=label, markersize=3, linewidth=1.5)
        axes.set_xlabel("epoch")
        axes.set_title(_NAMES[name], fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if name == "loss":
            axes.legend(fontsize=8, frameon=False)
    _save(figure, path)


def examples(
    rows: Sequence[tuple[str, NDArray[np.float32], Sequence[str]]],
    truth: Sequence[str],
    title: str,
    path: Path,
) -> None:
    """Draw images and their reconstructions, one row a kind, one column an image.

    Args:
        rows: name, images (N, C, H, W) in [0, 1] and, for each, the class that the classifier sees in it.
        truth: true class of each column; a title reads `true`, or `true - predicted` in red where they differ.
    """
    count = len(truth)
    wide = max(map(len, truth)) > 2
    figure = Figure(figsize=((1.35 if wide else 0.95) * count + 1.1, 1.12 * len(rows) + 0.5), layout="constrained")
    figure.suptitle(f"{title}\n{LEGEND}", fontsize=9, parse_math=False)
    for r, (name, images, predicted) in enumerate(rows):
        for c in range(count):
            axes = figure.add_subplot(len(rows), count, r * count + c + 1)
            _image(axes, images[c])
            wrong = predicted[c] != truth[c]
            text = f"{truth[c]} - {predicted[c]}" if wrong else truth[c]
            axes.set_title(text, fontsize=6.5 if wide else 8, color=RED if wrong else "black", pad=2, parse_math=False)
            if c == 0:
                axes.set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    _save(figure, path)


def _image(axes: Axes, image: NDArray[np.float32]) -> None:
    """Show one image (C, H, W) with values in [0, 1], every pixel a square."""
    shown = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
