"""The networks whose decisions are explained. They take pixels in [0, 1] and return logits."""

from collections import OrderedDict
from typing import Any

from torch import nn

from xmnist.errors import InputError
from xmnist.layers import Normalize, initialise


class VggSmall(nn.Sequential):
    """The Keras ClaDec study's classifier: two convolutions, two linear layers, 422,026 numbers for 28x28x1.

    Layers `conv` (64, 7, 7 for 28x28 images), `dense` (128) and `logits` are what ClaDec can look at. It differs from
    the published network in three things: its input is normalised, it returns logits where that has sigmoids, and its
    BatchNorm has torch's momentum and epsilon, not Keras'.
    """

    layers = ("conv", "dense", "logits")

    def __init__(self, shape: tuple[int, int, int], classes: int, dropout: float) -> None:
        channels, height, width = shape
        if height < 4 or width < 4:
            raise InputError(f"classifier=vgg_small needs images of at least 4x4 pixels, got {height}x{width}")
        features = 64 * (height // 4) * (width // 4)
        parts: dict[str, nn.Module] = {
            "normalize": Normalize(channels),
            "stem": _block(channels, 32),
            "conv": _block(32, 64),
            "flatten": nn.Flatten(),
            "dropout": nn.Dropout(dropout),
            "dense": nn.Sequential(nn.Linear(features, 128), nn.ReLU()),
            "logits": nn.Linear(128, classes),
        }
        super().__init__(OrderedDict(parts))
        initialise(self)


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width), nn.MaxPool2d(2))


CLASSIFIERS = {"vgg_small": VggSmall}


def build(name: str, shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
    """A freshly initialised classifier of images (C, H, W) into `classes` classes."""
    return CLASSIFIERS[name](shape, classes, **options)
