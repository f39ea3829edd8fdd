"""Baselines: the reference images with which an image is compared."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache

from xmnist.runtime.lazy import Tensor, torch
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

BASELINES = ("black", "white", "gray", "mean", "random", "blur")


def references(name: str, images: Tensor, train: Tensor, seed: int, count: int = 1) -> Tensor:
    """Return the baselines of images (N, C, H, W), in pixel space: (B, N, C, H, W), or (B, 1, C, H, W) if shared.

    Args:
        name: one of `BASELINES`, of which there is one each (B = 1); or `train`, `count` training images (B = count),
            or all where there are fewer, which is logged.
        train: training images (M, C, H, W); never those that are explained.
        seed: seed of the choice of training images and of the random image.
    """
    from xmnist.models.layers import blurred

    def level(value: float) -> Tensor:
        return torch.full_like(images[:1], value)[None]

    def random() -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(seed, "random baseline"))
        return torch.rand(images.shape[1:], generator=generator).to(images)[None, None]

    def drawn() -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(seed, "background"))
        if count > len(train):
            _warn_once(count, len(train))
        rows = torch.randperm(len(train), generator=generator)[:count]
        return train[rows.to(train.device)].to(images)[:, None]

    # Functions, so that only the baseline that is asked for is computed.
    make: dict[str, Callable[[], Tensor]] = {
        "black": lambda: level(0.0),
        "white": lambda: level(1.0),
        "gray": lambda: level(0.5),
        "mean": lambda: train.mean(0).to(images)[None, None],
        "random": random,
        "blur": lambda: blurred(images)[None],
        "train": drawn,
    }
    return make[name]()


@lru_cache
def _warn_once(count: int, available: int) -> None:
    log.warning("a background of %d images was asked for: it is all %d that there are to train on", count, available)
