"""Localisation: agreement of a map with the object.

All three scores take the map's magnitude |z|, of any sign, (N, 1, H, W), and masks (N, 1, H, W), true on the object.
They return (N,) in [0, 1], 1 the best, and NaN for an image without an object.
"""

from __future__ import annotations

import logging

from xmnist.config.declarations import Column
from xmnist.metrics.base import MapContext, MapMetric, Tables, column_of, metric
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, pd

log = logging.getLogger(__name__)


def mass_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of each map's mass that lies inside the mask: relevance mass accuracy.

    A map of zeros, which ranks no pixel above another, counts as a uniform one.

    Source: Arras et al., "CLEVR-XAI", Information Fusion 81 (2022), section 3.2.
    """
    size = maps.abs().flatten(1)
    size = size + (size.sum(1, keepdim=True) == 0)
    return _of_objects((size * masks.flatten(1)).sum(1) / size.sum(1), masks)


def rank_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share of the K largest values that lie inside a mask of K pixels: relevance rank accuracy.

    Where values tie for the last places, these are divided among them.

    Source: Arras et al., "CLEVR-XAI", Information Fusion 81 (2022), section 3.2.
    """
    size, inside = maps.abs().flatten(1), masks.flatten(1).bool()
    count = inside.sum(1, keepdim=True)
    # The clamp is for a mask without pixels, whose score becomes NaN below.
    limit = size.sort(1, descending=True).values.gather(1, (count - 1).clamp_min(0))
    above, level = size > limit, size == limit
    places = (count - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
    return _of_objects(((inside & above) + (inside & level) * places).sum(1) / count[:, 0], masks)


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Return 1 where the largest value lies inside the mask, else 0; of several largest values, the share inside.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", IJCV 126 (2018), section 4.2, without a
    tolerance.
    """
    size, inside = maps.abs().flatten(1), masks.flatten(1).bool()
    largest = size == size.amax(1, keepdim=True)
    return _of_objects((inside & largest).sum(1) / largest.sum(1), masks)


def _of_objects(values: Tensor, masks: Tensor) -> Tensor:
    return values.where(masks.flatten(1).any(1), values.new_tensor(float("nan")))


@metric(
    "localisation",
    columns=[
        Column("mass", "share of the map inside the object", "higher"),
        Column("rank", "share of the object's pixels among as many largest values", "higher"),
        Column("pointing", "how often the largest value is inside the object", "higher"),
    ],
    help="share of a map inside the object (data with ground truth)",
    needs_masks=True,
    tested=True,
)
class Localisation(MapMetric):
    """Relevance mass, relevance rank and pointing game."""

    def check_chosen(self, masks: Tensor | None) -> None:
        assert masks is not None
        count, size = int((~masks.flatten(1).any(1)).sum()), "x".join(map(str, masks.shape[2:]))
        if count == len(masks):
            raise InputError(
                f"none of the {count} chosen images has a pixel of an object at {size} pixels: select others"
            )
        if count:
            message = "%d of %d chosen images have no pixel of an object: localisation leaves them out"
            log.warning(message, count, len(masks))

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        assert context.masks is not None
        by_name = {"mass": mass_inside, "rank": rank_inside, "pointing": pointing_game}
        scores = {name: column_of(score(maps, context.masks)) for name, score in by_name.items()}
        return {"localisation": pd.DataFrame({"image": context.numbers} | scores)}
