"""POMPOM: the share of pixels outside the object where a map is positive."""

from __future__ import annotations

from xmnist.config.declarations import Column
from xmnist.metrics.base import metric
from xmnist.runtime.lazy import Tensor

EPS = 1e-6
"""Threshold above which a value counts as positive; it also keeps the quotient finite."""


def pompom(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of pixels outside the object where the map is positive: (N,) in [0, 1], 0 the best.

    `#{(1 - m) z > eps} / (#{(1 - m) > eps} + eps)` on the map's size, scaled so that its largest value is 1; a map that
    is 0 everywhere stays so.

    Source: Rio-Torto et al., Pattern Recognition Letters 133 (2020).

    Args:
        maps: (N, 1, H, W), of any sign.
        masks: (N, 1, H, W), true on the object.
    """
    size, outside = maps.abs().flatten(1), ~masks.flatten(1).bool()
    largest = size.amax(1, keepdim=True)
    # A map of zeros is divided by 1, which keeps it finite.
    scaled = size / largest.where(largest > 0, 1)
    return (outside & (scaled > EPS)).sum(1) / (outside.sum(1) + EPS)


@metric(
    "pompom",
    title="POMPOM",
    columns=[Column("pompom", "share of the pixels beside the object where the map is positive", "lower")],
    help="share of positive map pixels beside the object (data with ground truth)",
    needs_masks=True,
    tested=True,
)
def _pompom(maps: Tensor, masks: Tensor) -> dict[str, Tensor]:
    return {"pompom": pompom(maps, masks)}
