"""The classifier of the original ClaDec code."""

from __future__ import annotations

from xmnist.models.base import DropoutRate, Shape, classifier
from xmnist.runtime.lazy import nn

STRIDES = (2, 2, 1, 2, 1, 2, 1, 2)
"""The stride of each convolution."""


@classifier(
    "vgg11",
    layers=(*(f"conv{number}" for number in range(1, 9)), "logits"),
    gates=("conv1.2", "conv3.2", "conv5.2", "conv7.2"),
    least=16,
)
def vgg11(shape: Shape, classes: int, *, dropout: DropoutRate) -> nn.Module:
    """The classifier of the original ClaDec code: eight convolutions, five of stride 2, and one linear layer.

    It is designed for 32x32 pixels, of which one is left; for images up to that size, `conv8` is a vector of 512.
    Its input is normalised; the input of the original is not.

    Source: github.com/JohnTailor/ClaDec, and Schneider and Vlachos, arXiv 2203.04109, where it is called VGG-11.
    """
    from xmnist.models.layers import Dropout, Normalize, normed_convolution, sequence

    channels, height, width = shape
    widths = (channels, 32, 64, 128, 128, 256, 256, 512, 512)
    return sequence(
        normalize=Normalize(channels),
        **{
            f"conv{index + 1}": normed_convolution(widths[index], widths[index + 1], stride)
            for index, stride in enumerate(STRIDES)
        },
        flatten=nn.Flatten(),
        dropout=Dropout(dropout),
        # Five convolutions of stride 2 divide height and width by 32, rounded up.
        logits=nn.Linear(512 * -(-height // 32) * -(-width // 32), classes),
    )
