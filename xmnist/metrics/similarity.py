"""Similarity of two maps of the same image."""

from __future__ import annotations

from xmnist.runtime.lazy import Tensor, torch


def rank_correlation(maps: Tensor, other_maps: Tensor) -> Tensor:
    """Return Spearman's rank correlation of maps (N, 1, H, W) with other maps, pixel by pixel: (N,) in [-1, 1].

    A constant map has no ranks: the correlation counts as 0, or as 1 where both maps are constant.
    """
    from scipy import stats

    one, two = (torch.from_numpy(stats.rankdata(m.flatten(1).cpu().numpy(), axis=1)) for m in (maps, other_maps))
    one, two = (ranks - ranks.mean(1, keepdim=True) for ranks in (one, two))
    lengths = one.norm(dim=1), two.norm(dim=1)
    both_flat = (lengths[0] == 0) & (lengths[1] == 0)
    return ((one * two).sum(1) / (lengths[0] * lengths[1])).nan_to_num().where(~both_flat, 1.0)


def structural_similarity(maps: Tensor, other_maps: Tensor) -> Tensor:
    """Return the SSIM (structural similarity) of maps (N, 1, H, W) with other maps, each scaled to a largest size of 1.

    The result is (N,).

    Source: Wang et al., "Image quality assessment", IEEE TIP 13 (2004), with a Gaussian window of 11 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    one, two = (m / m.abs().flatten(1).amax(1).clamp_min(1e-30)[:, None, None, None] for m in (maps, other_maps))
    ssim = structural_similarity_index_measure(one, two, reduction="none", data_range=(-1.0, 1.0))
    assert isinstance(ssim, torch.Tensor)
    return ssim.reshape(len(maps))


def relative_difference(maps: Tensor, other_maps: Tensor) -> Tensor:
    """Return sum |a - b| / max(sum |a|, sum |b|), for maps a (N, 1, H, W) and other maps b: (N,) in [0, 2].

    It is 0 where both are 0 everywhere, and 1 where only one of them is.
    """
    distance, *sizes = (m.abs().flatten(1).sum(1) for m in (maps - other_maps, maps, other_maps))
    return (distance / torch.maximum(*sizes)).where(distance > 0, 0.0)
