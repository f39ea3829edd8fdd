"""Whether a map ranks what the classifier looks at: how f(x) falls as patches are covered, most relevant first.

Source: Samek et al., "Evaluating the visualization of what a deep neural network has learned", IEEE TNNLS 28 (2017),
arXiv 1509.06321, section III-B.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from xmnist.models.layers import blurred
from xmnist.runtime.seeds import derive_seed

Predict = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) and the rows (B,) of the images that they were made of, to logits (B, K)."""


def patch_order(maps: Tensor, patch: int, seed: int) -> Tensor:
    """The patches of each map, numbered row by row, from the highest score to the lowest: (N, P).

    A patch's score is the mean of the map in it, with its sign; ties are broken by a shuffle. Patches of the last row
    and column are smaller where the patch does not divide the image. The order of `-maps` is least relevant first.

    Args:
        maps: (N, 1, H, W).
        patch: side of a patch, in pixels.
        seed: of the shuffle, one for each row of `maps`.

    Raises:
        ValueError: a map has NaN or Inf, which no order can rank.
    """
    if not maps.isfinite().all():
        raise ValueError("a map has NaN or Inf")
    # On the CPU, since not every device has float64, in which the mean of a constant is exact: ties stay ties.
    scores = F.avg_pool2d(maps.cpu().double(), patch, ceil_mode=True).flatten(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "ties between patches"))
    shuffle = torch.rand(scores.shape, generator=generator).argsort(1)
    order = shuffle.gather(1, scores.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    return order.to(maps.device)


def filling(name: str, images: Tensor, seed: int) -> Tensor:
    """What covered pixels of images (N, C, H, W) are replaced by, in pixel space: of that shape, or to be expanded.

    Args:
        name: one of `FILLS`; `mean` is the image's own mean colour, `uniform` has a random value for each pixel and
            channel, `gaussian_blur` the image itself under a wide blur.
        seed: of what is drawn.
    """
    return FILLS[name](images, seed)


def _uniform(images: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "uniform fill"))
    return torch.rand(images.shape, generator=generator).to(images)


FILLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "black": lambda images, _: images.new_zeros(1, 1, 1, 1),
    "white": lambda images, _: images.new_ones(1, 1, 1, 1),
    "gray": lambda images, _: images.new_full((1, 1, 1, 1), 0.5),
    "mean": lambda images, _: images.mean((2, 3), keepdim=True),
    "uniform": _uniform,
    "gaussian_blur": lambda images, _: blurred(images),
}


@torch.no_grad()
def curves(
    predict: Predict,
    images: Tensor,
    targets: Tensor,
    order: Tensor,
    patch: int,
    fill: Tensor,
    steps: int | None = None,
    batch_size: int = 100,
) -> Tensor:
    """f(x_k) for k = 0..L, f being the softmax probability of the target: (N, L + 1), float64.

    x_k is the image with the first k patches of its order covered, x_0 the image itself. Batches run over images and
    steps alike, so that memory is bounded by `batch_size`, however many steps there are.

    Args:
        images, targets: (N, C, H, W) and (N,).
        order: patches of each image, (N, P), as `patch_order` gives them.
        patch: side of a patch, in pixels.
        fill: (N, C, H, W) or a shape that expands to it.
        steps: L, at most P; None for P.
        batch_size: images at a time.

    Raises:
        ValueError: the network answers NaN or Inf.
    """
    count, (height, width) = len(images), images.shape[2:]
    levels = 1 + (order.shape[1] if steps is None else min(steps, order.shape[1]))
    covered_at = order.argsort(1).int()  # the place of each patch in the order
    down, right = (-(-size // patch) for size in (height, width))
    found = []
    for part in torch.arange(count * levels, device=images.device).split(batch_size):
        rows, step = part // levels, part % levels
        covered = (covered_at[rows] < step[:, None].int()).view(-1, 1, down, 1, right, 1)
        pixels = covered.expand(-1, 1, down, patch, right, patch).reshape(-1, 1, down * patch, right * patch)
        pixels = pixels[..., :height, :width]
        made = torch.where(pixels, fill[rows] if len(fill) > 1 else fill, images[rows])
        found.append(predict(made, rows).softmax(1).gather(1, targets[rows, None])[:, 0])
    out = torch.cat(found).view(count, levels).cpu().double()
    if not out.isfinite().all():
        raise ValueError("the network answers NaN or Inf to covered images")
    return out


def aopc(curves: Tensor) -> Tensor:
    """AOPC(L) = 1 / (L + 1) * sum_{k=0..L} f(x_0) - f(x_k), of each image, for each L: (N, L + 1) in [-1, 1].

    Source: Samek et al. (2017), equation 12, before the mean over images.
    """
    drops = curves[:, :1] - curves
    return drops.cumsum(1) / torch.arange(1, drops.shape[1] + 1, device=drops.device)
