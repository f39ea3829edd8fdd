"""Pictures of images and their explanations side by side, with keys to their colours."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xmnist import figures
from xmnist.figures import RED

Kind = Literal["heatmap", "image", "map", "mask", "difference"]
Layout = Literal["auto", "rows", "columns"]

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
"""Kind of map -> its colours, their ends, and what they mean."""

GAP = 0.06  # inches
PAGE = 6.3
"""Inches that a page's text is wide: a wider picture is made smaller there, and its letters with it."""

SHAPE = 1.5
"""Width by height that a picture is best of, on a page as on a slide."""


@dataclass(frozen=True)
class Row:
    """One kind of picture of every image: pictures (N, C, H, W), and the predicted class of each where they are images.

    Images have values in [0, 1], as have maps and masks (N, 1, H, W); differences have [-1, 1], heatmaps any.
    """

    name: str
    pictures: NDArray[np.floating]
    predicted: Sequence[str] | None = None
    kind: Kind = "image"


@dataclass(frozen=True)
class _Table:
    """Where everything is, in inches; `across` is a cell's side with what stands beside it."""

    columns: int
    cell: float
    across: float
    heights: tuple[float, ...]
    left: float
    head: float
    size: float

    @property
    def width(self) -> float:
        return max(self.left + self.across * self.columns + GAP, 2.4)

    @property
    def height(self) -> float:
        return self.head + sum(self.heights)


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
        truth: true class of each image, None where nobody knows it; above an image stands `true`, or `true → predicted`
            in red where they differ.
        path: its suffix says in which format: png, pdf or svg.
        layout: images as `columns` or as `rows`; `auto`: as fits a page.
        overlay: heatmaps are drawn over the gray image.
        notes: lines that stand below.
    """
    by_row = layout == "rows" or (layout == "auto" and _better_as_rows(rows, truth))
    table = _table(rows, truth, by_row)
    texts = [LEGEND if any(truth) else UNLABELLED, *notes]
    width = table.width
    head = [part for line in title.split("\n") for part in _wrapped(line, width, table.size + 1)]
    below = [part for line in texts for part in _wrapped(line, width, table.size)]
    keys = [KEYS[kind] for kind in KEYS if any(row.kind == kind for row in rows)]
    told = [(key, _wrapped(key[2], width - _key_width(table.size), table.size)) for key in keys]
    line = table.size * 1.35 / 72
    top = line * 1.15 * len(head) + 0.16
    bottom = line * (len(below) + sum(len(parts) for _, parts in told)) + 0.06 * len(told) + 0.14
    height = top + table.height + bottom
    figure = Figure(figsize=(width, height))
    for place, text in enumerate(head):
        _write(figure, width / 2, height - 0.07 - 1.15 * line * place, text, table.size + 1, "center")
    _cells(figure, table, rows, truth, by_row, height - top, overlay)
    y = bottom - 0.08
    for (colours, ends, _), parts in told:
        _key(figure, colours, ends, y - 0.68 * line, table.size)
        for number, text in enumerate(parts):
            _write(figure, _key_width(table.size), y - line * number, text, table.size)
        y -= line * len(parts) + 0.06
    for number, text in enumerate(below):
        _write(figure, 0.1, y - line * number, text, table.size)
    figures._save(figure, path)


def _write(figure: Figure, x: float, y: float, text: str, size: float, across: str = "left", down: str = "top") -> None:
    """Write a text on a figure, at inches from its lower left corner."""
    width, height = figure.get_size_inches()
    figure.text(x / width, y / height, text, ha=across, va=down, fontsize=size)


def _better_as_rows(rows: Sequence[Row], truth: Sequence[str | None]) -> bool:
    shapes = [_table(rows, truth, by_row) for by_row in (False, True)]
    off = [abs(np.log(table.width / table.height / SHAPE)) for table in shapes]
    return bool(off[1] < off[0] - 0.1)  # columns, unless rows are clearly better


def _above(row: Row, true: str | None, place: int) -> tuple[str, bool]:
    """What stands above an image, and whether it is misclassified."""
    assert row.predicted is not None
    seen = row.predicted[place]
    return (f"{true} → {seen}", True) if true is not None and seen != true else (seen, False)


def _table(rows: Sequence[Row], truth: Sequence[str | None], by_row: bool) -> _Table:
    texts = [_above(row, true, i)[0] for row in rows if row.predicted is not None for i, true in enumerate(truth)]
    longest = max((len(part) for text in texts for part in text.split(" → ")), default=1)
    count = len(rows) if by_row else len(truth)
    size = 8.0
    for _ in range(3):  # the letters make the cells wider, which make the picture wider, which needs larger letters
        letter = size * 0.62 / 72
        cell = max(0.92, min(letter * longest, 1.7))
        names = [row.name for row in rows]
        left = 0.16 if by_row else 0.2 + letter * max(len(line) for name in names for line in name.split("\n"))
        size = min(max(8.0, 7 * (left + count * (cell + 0.14)) / PAGE), 11.0)
    letter = size * 0.62 / 72
    two = any(len(text) * letter > cell + 0.08 for text in texts)
    title = (2.3 if two else 1.25) * size / 72 + 0.05
    heads = [_head(row.name, cell, letter) for row in rows] if by_row else []
    head = max((len(parts) for parts in heads), default=0) * size * 1.25 / 72 + (0.06 if by_row else 0.0)
    above = [title if row.predicted is not None else 0.0 for row in rows]
    heights = (max(above) + cell + GAP,) * len(truth) if by_row else tuple(each + cell + GAP for each in above)
    across = cell + (0.16 if longest > 2 else GAP)
    return _Table(count, cell, across, heights, left, head, size)


def _head(name: str, cell: float, letter: float) -> list[str]:
    """A row's name in lines that are no wider than a cell."""
    fits = max(int(cell / letter), 4)
    return [part for line in name.split("\n") for part in textwrap.wrap(line, fits, break_long_words=False) or [""]]


def _wrapped(text: str, width: float, size: float) -> list[str]:
    return textwrap.wrap(text, max(int((width - 0.2) * 72 / (size * 0.53)), 12)) or [""]


def _cells(
    figure: Figure,
    table: _Table,
    rows: Sequence[Row],
    truth: Sequence[str | None],
    by_row: bool,
    top: float,
    overlay: bool,
) -> None:
    width, height = figure.get_size_inches()
    base = rows[0].pictures if overlay and rows[0].kind == "image" else None
    letter = table.size * 0.62 / 72
    for down, across, row, image in _places(rows, truth, by_row):
        x = table.left + table.across * across + (table.across - table.cell) / 2
        y = top - table.head - sum(table.heights[: down + 1]) + GAP
        axes = figure.add_axes((x / width, y / height, table.cell / width, table.cell / height))
        _picture(axes, row.pictures[image], row.kind, None if base is None else base[image])
        if row.predicted is not None:
            text, wrong = _above(row, truth[image], image)
            text = text.replace(" → ", "\n→ ") if len(text) * letter > table.cell + 0.08 else text
            axes.set_title(text, fontsize=table.size, color=RED if wrong else "black", pad=2, linespacing=1.0)
        if by_row and not down:
            name = "\n".join(_head(row.name, table.cell, letter))
            _write(figure, x + table.cell / 2, top - table.head, name, table.size, "center", "bottom")
        if not by_row and not across:
            _write(figure, table.left - 0.1, y + table.cell / 2, row.name, table.size, "right", "center")


def _places(rows: Sequence[Row], truth: Sequence[str | None], by_row: bool) -> Iterator[tuple[int, int, Row, int]]:
    """Row and column of each cell, what is in it, and of which image."""
    for r, row in enumerate(rows):
        for image in range(len(truth)):
            yield (image, r, row, image) if by_row else (r, image, row, image)


BAR = 0.75  # inches


def _key_width(size: float) -> float:
    """Inches from the left edge that a colour bar takes with its ends, up to the text beside it."""
    return 0.1 + BAR + 2 * _end_width(size) + 0.1


def _end_width(size: float) -> float:
    return size * 0.7 * 2 / 72


def _key(figure: Figure, colours: str, ends: str, middle: float, size: float) -> None:
    """Draw a colour bar with its ends; `middle` is its height on the figure, in inches."""
    width, height = figure.get_size_inches()
    (low, high), left, thick = ends.split(), 0.1 + _end_width(size), 0.6 * size / 72
    axes = figure.add_axes((left / width, (middle - thick / 2) / height, BAR / width, thick / height))
    axes.imshow(np.linspace(0, 1, 128)[None], cmap=colours, aspect="auto", interpolation="nearest")
    axes.set(xticks=[], yticks=[], gid="key")
    axes.spines[:].set(linewidth=0.4, color="0.7")
    _write(figure, left - 0.04, middle, low, size, "right", "center")
    _write(figure, left + BAR + 0.04, middle, high, size, "left", "center")


def _picture(axes: Axes, picture: NDArray[np.floating], kind: str, base: NDArray[np.floating] | None) -> None:
    """Show one picture (C, H, W), every pixel a square: an image in [0, 1], or a heatmap, white where it is 0."""
    shown = picture[0] if picture.shape[0] == 1 else picture.transpose(1, 2, 0)
    signed = kind in ("heatmap", "difference")
    if kind == "heatmap" and base is not None:
        gray = base.mean(0)
        axes.imshow(gray, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        share = np.abs(shown) / (float(np.abs(picture).max()) or 1.0)
        colour = colormaps["RdBu_r"](np.where(shown > 0, 0.9, 0.1))
        axes.imshow(np.dstack([colour[..., :3], share]), interpolation="nearest")
    elif signed:
        limit = 1.0 if kind == "difference" else float(np.abs(picture).max()) or 1.0
        axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    elif kind in ("map", "mask"):
        axes.imshow(shown, cmap="viridis", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(linewidth=0.4, color="0.7", visible=signed)
