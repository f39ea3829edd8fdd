"""A LeNet with average pooling, designed for LRP and related methods."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import yes_or_no
from xmnist.models.base import DropoutRate, Shape, classifier
from xmnist.runtime.lazy import nn


@classifier(
    "lenet_avgpool",
    layers=("conv1", "conv2", "dense1", "dense2", "logits"),
    gates=("conv1.1", "conv2.1"),
    least=10,
)
def lenet_avgpool(
    shape: Shape,
    classes: int,
    *,
    dropout: DropoutRate,
    nonpositive_bias: Annotated[bool, yes_or_no(), "clamp every bias to at most 0, as the theory behind LRP assumes"],
) -> nn.Module:
    """Two convolutions with average pooling and three linear layers, all with LeakyReLU: designed for LRP.

    After github.com/LMeynent/mnist-explanation, which adds a BatchNorm and sigmoids after the last layer; this one
    returns logits. With `nonpositive_bias`, as there, no bias is ever above 0.
    """
    from xmnist.models.layers import ClampedConv2d, ClampedLinear, Dropout, Normalize, sequence

    conv, linear = (ClampedConv2d, ClampedLinear) if nonpositive_bias else (nn.Conv2d, nn.Linear)

    def dense(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(linear(inputs, outputs), nn.LeakyReLU(), Dropout(dropout))

    channels, height, width = shape
    # Height and width after two unpadded 3x3 convolutions, each followed by 2x2 pooling.
    features = 16 * (((height - 2) // 2 - 2) // 2) * (((width - 2) // 2 - 2) // 2)
    return sequence(
        normalize=Normalize(channels),
        conv1=nn.Sequential(conv(channels, 6, 3), nn.LeakyReLU(), nn.AvgPool2d(2)),
        conv2=nn.Sequential(conv(6, 16, 3), nn.LeakyReLU(), nn.AvgPool2d(2)),
        flatten=nn.Flatten(),
        dropout=Dropout(dropout),
        dense1=dense(features, 120),
        dense2=dense(120, 84),
        logits=linear(84, classes),
    )
