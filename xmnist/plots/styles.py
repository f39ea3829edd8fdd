"""Title, colour and line of each method and model, the same in every picture; without torch and matplotlib."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from xmnist.config.declarations import EXPLAINERS, controls, explainer_title

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7a4fbf")
"""Colours that are distinguishable with colour blindness too."""

Dash = str | tuple[int, tuple[float, ...]]
DASHES: tuple[Dash, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))
_LONGER = ((9, 2), (3, 3), (9, 2, 3, 2), (1, 3), (12, 2, 1, 2), (3, 3, 1, 3), (6, 4))
VARIANTS: tuple[Dash, ...] = tuple((0, tuple(map(float, parts))) for parts in _LONGER)
"""Lines of variants of one method, such as ClaDecs of several alphas; none is a method's own line."""

QUIET = "#8c8c8c"
"""Colour of references, such as controls."""

PLACES = len(COLOURS) * len(DASHES)
"""Number of methods with lines of their own; the first eight have colours of their own."""


@dataclass(frozen=True)
class Style:
    """Title, colour and line of a method; `quiet` for a reference."""

    title: str
    colour: str
    dash: Dash
    quiet: bool = False


def style(name: str, turn: int = 0) -> Style:
    """Return the style, the same in all pictures, of a method or model such as `lrp` or `cladec,alpha=0.25`.

    Args:
        turn: number of lines to skip, where another variant of this method has the line already.
    """
    (method, _, variant), title = name.partition(","), explainer_title(name)
    compared = (*controls(), "classifier")
    if method in compared:
        return Style(title, QUIET, (0, (1 + 2 * compared.index(method), 1.2)), quiet=True)
    index = _line_index(method)
    dash = VARIANTS[(_number(variant) + turn) % len(VARIANTS)] if variant else DASHES[index // len(COLOURS)]
    return Style(title, COLOURS[index % len(COLOURS)], dash)


def _line_index(method: str) -> int:
    """Return the index of a method's line; a method that declares none has one that no other declares."""
    declared = EXPLAINERS.get(method)
    if declared and declared.place is not None:
        return declared.place
    # By a hash of the name: the line is the same in every picture, whatever other methods there are in it.
    taken = {explainer.place for explainer in EXPLAINERS.values()}
    free = [index for index in range(PLACES) if index not in taken]
    return free[_number(method) % len(free)]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the style of each name of one picture; no two are alike while there are lines left."""
    out: dict[str, Style] = {}
    for name in names:
        tried = (style(name, turn) for turn in range(len(VARIANTS)))
        taken = {(look.colour, look.dash) for look in out.values()}
        out[name] = next((look for look in tried if (look.colour, look.dash) not in taken), style(name))
    return out


def _number(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)
