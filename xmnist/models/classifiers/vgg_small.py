"""The classifier of the Keras ClaDec study."""

from __future__ import annotations

from xmnist.models.base import DropoutRate, Shape, classifier
from xmnist.runtime.lazy import nn


@classifier("vgg_small", layers=("conv", "dense", "logits"), gates=("stem.2", "conv.2"), least=4)
def vgg_small(shape: Shape, classes: int, *, dropout: DropoutRate) -> nn.Module:
    """The classifier of the Keras ClaDec study: two convolutions, two linear layers, 422,026 numbers for 28x28x1.

    ClaDec can decode layers `conv` (64, 7, 7 for 28x28 images), `dense` (128) and `logits`. The network differs from
    the published one in three things: its input is normalised, it returns logits instead of sigmoids, and its
    BatchNorm has torch's momentum and epsilon, not Keras'.
    """
    from xmnist.models.layers import Dropout, Normalize, sequence

    channels, height, width = shape
    return sequence(
        normalize=Normalize(channels),
        stem=_block(channels, 32),
        conv=_block(32, 64),
        flatten=nn.Flatten(),
        dropout=Dropout(dropout),
        dense=nn.Sequential(nn.Linear(64 * (height // 4) * (width // 4), 128), nn.ReLU()),
        logits=nn.Linear(128, classes),
    )


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width), nn.MaxPool2d(2))
