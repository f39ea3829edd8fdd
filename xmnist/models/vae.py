"""The variational decoder: a latent space of few dimensions between a layer's code and the reconstruction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmnist.models.layers import Neurons, ThinConvTranspose2d, Units, initialise, units
from xmnist.runtime import distributed

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LatentSpace:
    """A variational model's latent space: the mean (N, latent) of each image, and the image of each point."""

    means: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


class Vae(nn.Module):
    """The Keras study's variational autoencoder, from the codes on: codes (N, ...) to images (N, C, H, W).

    A flattened code gives a normal distribution in the latent space. Training draws a point of it and eval takes the
    posterior mean; from there 7x7x64 numbers become 14x14 and 28x28 pixels. Other images begin at a quarter of their
    size, rounded up. Points stay in float32 in a training in bfloat16, which has no more than three digits for them.

    Args:
        code, image: shapes without batch.
        latent: dimensions of the latent space.
        which: the units of the code that it uses; None for all.
    """

    def __init__(self, code: Shape, image: Shape, latent: int, which: Sequence[int] | None = None) -> None:
        super().__init__()
        self.units = nn.Identity() if which is None else Units(which)
        code = code if which is None else (len(which), *code[1:])
        channels, *size = image
        half, quarter = [-(-side // 2) for side in size], [-(-side // 4) for side in size]
        self.mean = nn.Linear(math.prod(code), latent)
        self.logvar = nn.Linear(math.prod(code), latent)
        self.spread = nn.Linear(latent, 64 * math.prod(quarter))
        self.upsample = nn.Sequential(
            nn.ReLU(),
            nn.Unflatten(1, (64, *quarter)),
            _doubling(64, 64, half),
            nn.ReLU(),
            _doubling(64, 32, size),
            nn.ReLU(),
            ThinConvTranspose2d(32, channels, 3, padding=1),
        )

    def encode(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the posterior mean and log-variance of each code, (N, latent) each."""
        with torch.autocast(codes.device.type, enabled=False):
            flat = self.units(codes).flatten(1).to(self.mean.weight.dtype)
            return self.mean(flat), self.logvar(flat)

    def logits(self, points: Tensor) -> Tensor:
        """Return the image (N, C, H, W) of each point (N, latent), before the sigmoid."""
        with torch.autocast(points.device.type, enabled=False):
            spread = self.spread(points)
        return self.upsample(spread)

    def decode(self, points: Tensor) -> Tensor:
        """Return the image (N, C, H, W) of each point (N, latent), in [0, 1]."""
        return self.logits(points).sigmoid()

    def parts(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the inputs of the loss: the logits of each code's image, its posterior mean and log-variance."""
        means, logvars = self.encode(codes)
        points = means + (0.5 * logvars).exp() * _noise(means) if self.training else means
        return self.logits(points), means, logvars

    def forward(self, codes: Tensor) -> Tensor:
        return self.parts(codes)[0].sigmoid()


def _doubling(inputs: int, outputs: int, size: list[int]) -> nn.ConvTranspose2d:
    """Return a transposed convolution that doubles height and width to `size`, or to one less where that is odd."""
    last = (1 - size[0] % 2, 1 - size[1] % 2)
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=last)


def _noise(like: Tensor) -> Tensor:
    """Draw standard normal noise; each of several processes draws it for the whole batch and takes its rows."""
    share = distributed.current()
    if share is None:
        return torch.randn_like(like)
    return torch.randn(share.total, *like.shape[1:], dtype=like.dtype, device=like.device)[share.rows]


def build(code: Shape, image: Shape, latent: int, neurons: Neurons = None, seed: int = 0) -> Vae:
    """Build a fresh network from codes of shape `code` to images of shape `image`, both without batch.

    With `neurons`, its input is only the units that `layers.units` selects.

    Variances begin at 1: of weights that are drawn, a wide code would make powers of e in the hundreds and thousands.
    """
    vae = Vae(code, image, latent, None if neurons is None else units(neurons, code[0], seed))
    initialise(vae)
    nn.init.zeros_(vae.logvar.weight)
    return vae
