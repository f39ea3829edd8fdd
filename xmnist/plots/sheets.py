"""Layout of pictures that are compared side by side: on a page's width, with letters that can be read there."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

Layout = Literal["auto", "rows", "columns"]

SIZE = 7.5
"""Points: the size of all letters."""

LINE = SIZE * 1.25 / 72
"""Inches from one line of letters to the next."""

PAGE, TALL = 6.3, 7.8
"""Inches: width of a page's text, and height that remains for a picture beside its title and legend.

A larger picture would have to be scaled down, and its letters with it.
"""

LARGEST, SMALLEST = 1.0, 0.3
"""Inches: largest and smallest side of a cell."""

SHAPE = 1.5
"""Best ratio of a picture's width to its height, on a page as on a slide."""

GAP = 0.08  # inches between cells
BETWEEN = 0.14  # inches between blocks
NAMES = 1.2  # inches: the lines of a name beside its row are no longer than that, where its words allow

Label = tuple[str, bool]
"""Text above an image, with `→` before the predicted class of a misclassified one; and whether it is misclassified."""


@dataclass(frozen=True)
class Sheet:
    """A table of cells in blocks that stand one below the other; all lengths are in inches.

    Args:
        across: cells beside each other in a block; what comes after them is in the next one.
        count: cells beside each other in all blocks together.
        heights: of the rows of a block, with what stands above a cell.
        left, head: room for names beside the rows and above the columns.
    """

    across: int
    count: int
    cell: float
    heights: tuple[float, ...]
    left: float
    head: float

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.count // self.across)

    @property
    def width(self) -> float:
        """Inches from edge to edge."""
        return max(self.left + self.across * (self.cell + GAP) + GAP, 2.4)

    @property
    def height(self) -> float:
        """Inches from the first block's head to the last one's foot."""
        return self.blocks * (self.head + sum(self.heights) + BETWEEN) - BETWEEN

    def corner(self, down: int, index: int) -> tuple[float, float]:
        """Inches from the left edge and from the top to the lower left corner of a cell."""
        block, column = divmod(index, self.across)
        top = block * (self.head + sum(self.heights) + BETWEEN) + self.head
        return self.left + column * (self.cell + GAP), top + sum(self.heights[: down + 1]) - GAP

    @property
    def score(self) -> float:
        """Quality of the layout: the cells' size on a page, reduced by the distance from the best shape."""
        on_page = min(1.0, PAGE / self.width, TALL / self.height) * self.cell
        return on_page / (1 + 0.5 * abs(math.log(self.width / self.height / SHAPE)))


def best(
    names: Sequence[str], labels: Sequence[Sequence[Label] | None], images: int, layout: Layout
) -> tuple[Sheet, bool]:
    """Return the best sheet for rows of these names with so many images, and whether images are its rows.

    Args:
        labels: labels above the images of each name, None where there are none.
    """
    columns = [] if layout == "rows" else list(_sheets(names, labels, images, by_row=False))
    rows = [] if layout == "columns" else list(_sheets(names, labels, images, by_row=True))
    # Images as columns are preferred, unless images as rows make a clearly better sheet.
    candidates = [(sheet.score * 1.25, sheet, False) for sheet in columns] + [
        (sheet.score, sheet, True) for sheet in rows
    ]
    return max(candidates, key=lambda candidate: candidate[0])[1:]


def _sheets(
    names: Sequence[str], labels: Sequence[Sequence[Label] | None], images: int, by_row: bool
) -> Iterator[Sheet]:
    texts = {text for row in labels if row for text, _ in row}
    # The no-break space keeps the arrow together with the predicted class after it.
    needed = max((width(part) for text in texts for part in _parts(text.replace("→ ", "→\xa0"))), default=0.0)
    if by_row:
        needed = max(needed, *(width(part) for name in names for part in _parts(name)))
    left = GAP if by_row else 2 * GAP + max(width(line) for name in names for line in wrapped(name, NAMES))
    count = len(names) if by_row else images
    for across in sorted({-(-count // blocks) for blocks in range(1, count + 1)}):
        cell = min(LARGEST, (PAGE - left - GAP) / across - GAP)
        if across > 1 and cell < max(SMALLEST, min(needed, LARGEST)):
            continue
        cell = max(cell, SMALLEST, min(needed, LARGEST))
        above = [LINE * max(len(above_cell(text, cell)) for text, _ in row) + 0.05 if row else 0.0 for row in labels]
        head = 0.04 + LINE * max(len(wrapped(name, cell)) for name in names) if by_row else 0.0
        heights = [max(above)] * images if by_row else above
        yield Sheet(across, count, cell, tuple(height + cell + GAP for height in heights), left, head)


def above_cell(text: str, cell: float) -> list[str]:
    """Return the text above an image in lines no wider than its cell: `true → predicted` in one part or two."""
    parts = [text] if width(text) <= cell else text.replace(" → ", "\n→\xa0").split("\n")
    return [line for part in parts for line in wrapped(part, cell)]


def wrapped(text: str, room: float, size: float = SIZE) -> list[str]:
    """Return a text in lines of at most `room` inches, broken at spaces and signs, or within a word that is longer."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for part in _parts(paragraph):
            if line and width(line + part, size) > room:
                lines.append(line.rstrip())
                line = ""
            line += part
            while width(line, size) > room and len(line) > 1:
                fits = next((n for n in range(len(line) - 1, 1, -1) if width(line[:n], size) <= room), 1)
                lines.append(line[:fits])
                line = line[fits:]
        lines.append(line.rstrip())
    return lines


def _parts(text: str) -> list[str]:
    """Return the parts between which a text may be broken: words, with the space or sign after them."""
    return [part for line in text.split("\n") for part in re.findall(r"[^ \-/_,]*[ \-/_,]+|[^ \-/_,]+", line)]


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, 720)


@cache
def width(text: str, size: float = SIZE) -> float:
    """Return the width of a line of letters in inches, in the fonts of the pictures."""
    return float(_renderer().get_text_width_height_descent(text.rstrip(" "), FontProperties(size=size), False)[0]) / 720
