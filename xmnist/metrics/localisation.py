"""Whether a map is where the object is."""

from torch import Tensor


def mass_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of each map's mass that lies inside the mask: relevance mass accuracy, (N,) in [0, 1].

    Source: Arras et al., "CLEVR-XAI", Information Fusion 81 (2022), section 3.2, on the map's size |z|. It is NaN for a
    map that is 0 everywhere, and for an image without an object.

    Args:
        maps: (N, 1, H, W), of any sign.
        masks: (N, 1, H, W), true on the object.
    """
    size = maps.abs().flatten(1)
    inside = (size * masks.flatten(1)).sum(1) / size.sum(1)
    return inside.where(masks.flatten(1).any(1), inside.new_tensor(float("nan")))
