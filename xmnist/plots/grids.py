"""Pictures of images and their explanations side by side, with keys to their colours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xmnist.plots import figures, sheets
from xmnist.plots.figures import RED
from xmnist.plots.sheets import GAP, LINE, SIZE, Layout

Kind = Literal["heatmap", "image", "map", "mask", "difference"]

LEGEND = "above each image: its true class, or true → predicted where it is misclassified"
UNLABELLED = "above each image: its predicted class"

KEYS: dict[str, tuple[str, str, str]] = {
    "heatmap": (
        "RdBu_r",
        "−  +",
        "evidence against (blue) and for (red) the target class; each map is scaled by its largest value",
    ),
    "map": ("viridis", "0  1", "the joint model's map: how much of the features at a pixel reaches the classifier"),
    "difference": (
        "RdBu_r",
        "−1  1",
        "information discarded by the layer: where the reference is lighter (red) or darker",
    ),
}
"""Colour map, ends of its key, and meaning of the colours, by kind of map."""

DENSE = 220
"""Dots per inch: enough that 28 pixels of an image are not blurred in a small cell."""

EDGE = 0.1  # inches


@dataclass(frozen=True)
class Row:
    """One kind of picture of every image: pictures (N, C, H, W), and the predicted class of each where they are images.

    Values are in [0, 1] for images, and for maps and masks (N, 1, H, W); in [-1, 1] for differences; any for heatmaps.
    """

    name: str
    pictures: NDArray[np.floating]
    predicted: Sequence[str] | None = None
    kind: Kind = "image"


@figures.styled
def grid(
    rows: Sequence[Row],
    truth: Sequence[str | None],
    title: str,
    path: Path,
    layout: Layout = "auto",
    overlay: bool = False,
    notes: Sequence[str] = (),
) -> None:
    """Draw images and their explanations.

    Args:
        rows: the images first.
        truth: true class of each image, None where it is unknown; the label above an image is `true`, or
            `true → predicted` in red where they differ.
        path: its suffix sets the format: png, pdf or svg.
        layout: images as `columns` or as `rows`; `auto`: as fits a page better.
        overlay: draw heatmaps over the gray image.
        notes: lines below the pictures.
    """
    labels = [
        None
        if row.predicted is None
        else [_label(true, predicted) for true, predicted in zip(truth, row.predicted, strict=True)]
        for row in rows
    ]
    sheet, by_row = sheets.best([row.name for row in rows], labels, len(truth), layout)
    room = sheet.width - 2 * EDGE
    head = sheets.wrapped(title, room, SIZE + 1)
    below = [part for line in (LEGEND if any(truth) else UNLABELLED, *notes) for part in sheets.wrapped(line, room)]
    keys = [KEYS[kind] for kind in KEYS if any(row.kind == kind for row in rows)]
    wrapped_keys = [(key, sheets.wrapped(key[2], sheet.width - KEY - EDGE)) for key in keys]
    top = LINE * 1.15 * len(head) + 0.16
    bottom = LINE * (len(below) + sum(len(parts) for _, parts in wrapped_keys)) + 0.06 * len(wrapped_keys) + 0.16
    width, height = sheet.width, top + sheet.height + bottom
    figure = Figure(figsize=(width, height))
    for index, text in enumerate(head):
        _write(figure, width / 2, height - 0.07 - 1.15 * LINE * index, text, "center", size=SIZE + 1)
    _cells(figure, sheet, rows, labels, by_row, height - top, overlay)
    y = bottom - 0.1
    for (colours, ends, _), parts in wrapped_keys:
        _key(figure, colours, ends, y - 0.6 * LINE)
        for number, text in enumerate(parts):
            _write(figure, KEY, y - LINE * number, text)
        y -= LINE * len(parts) + 0.06
    for number, text in enumerate(below):
        _write(figure, EDGE, y - LINE * number, text)
    figures._save(figure, path, DENSE)


def _write(
    figure: Figure, x: float, y: float, text: str, across: str = "left", down: str = "top", size: float = SIZE
) -> None:
    """Write a text on a figure, at inches from its lower left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, ha=across, va=down, fontsize=size, linespacing=1.0)


def _label(true: str | None, predicted: str) -> sheets.Label:
    """Return the label above an image, and whether the image is misclassified."""
    return (f"{true} → {predicted}", True) if true is not None and predicted != true else (predicted, False)


def _cells(
    figure: Figure,
    sheet: sheets.Sheet,
    rows: Sequence[Row],
    labels: Sequence[Sequence[sheets.Label] | None],
    by_row: bool,
    top: float,
    overlay: bool,
) -> None:
    width, height = figure.get_size_inches()
    base = rows[0].pictures if overlay and rows[0].kind == "image" else None
    for number, image in product(range(len(rows)), range(len(rows[0].pictures))):
        row, row_labels = rows[number], labels[number]
        down, index = (image, number) if by_row else (number, image)
        x, below = sheet.corner(down, index)
        y = top - below
        axes = figure.add_axes((x / width, y / height, sheet.cell / width, sheet.cell / height))
        _picture(axes, row.pictures[image], row.kind, None if base is None else base[image])
        if row_labels is not None:
            text, wrong = row_labels[image]
            lines = "\n".join(sheets.above_cell(text, sheet.cell))
            axes.set_title(lines, fontsize=SIZE, color=RED if wrong else "black", pad=2, linespacing=1.0)
        if by_row and not image:
            name = "\n".join(sheets.wrapped(row.name, sheet.cell))
            _write(figure, x + sheet.cell / 2, y + sheet.heights[0] - GAP + 0.05, name, "center", "baseline")
        if not by_row and not index % sheet.across:
            name = "\n".join(sheets.wrapped(row.name, sheets.NAMES))
            _write(figure, x - GAP, y + sheet.cell / 2, name, "right", "center")


BAR, END = 0.75, 0.16  # inches: a colour bar, and the label at each of its ends
KEY = EDGE + BAR + 2 * END + 0.08  # inches from the left edge to the text beside it


def _key(figure: Figure, colours: str, ends: str, middle: float) -> None:
    """Draw a colour bar with its ends; `middle` is its height on the figure, in inches."""
    width, height = figure.get_size_inches()
    (low, high), left, thick = ends.split(), EDGE + END, 0.6 * SIZE / 72
    axes = figure.add_axes((left / width, (middle - thick / 2) / height, BAR / width, thick / height))
    axes.imshow(np.linspace(0, 1, 128)[None], cmap=colours, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[], gid="key")
    axes.spines[:].set(linewidth=0.4, color="0.7")
    _write(figure, left - 0.04, middle, low, "right", "center")
    _write(figure, left + BAR + 0.04, middle, high, "left", "center")


def _picture(axes: Axes, picture: NDArray[np.floating], kind: str, base: NDArray[np.floating] | None) -> None:
    """Show one picture (C, H, W), every pixel a square: an image in [0, 1], or a heatmap, white where it is 0."""
    pixels = picture[0] if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    signed = kind in ("heatmap", "difference")  # kinds of pictures, not names of explainers
    if kind == "heatmap" and base is not None:
        gray = base.mean(0)
        axes.imshow(gray, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        # Opacity shows the magnitude, so that the image remains visible where there is no evidence.
        share = np.abs(pixels) / (float(np.abs(picture).max()) or 1.0)
        colour = colormaps["RdBu_r"](np.where(pixels > 0, 0.9, 0.1))
        axes.imshow(np.dstack([colour[..., :3], share]), interpolation="nearest")
    elif signed:
        # A symmetric range keeps 0 white; differences share one range, so that pictures can be compared.
        limit = 1.0 if kind == "difference" else float(np.abs(picture).max()) or 1.0
        axes.imshow(pixels, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif kind in ("map", "mask"):
        axes.imshow(pixels, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.7", visible=signed)
