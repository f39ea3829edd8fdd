"""The VGG of the joint explainer-classifiers."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import whole, yes_or_no
from xmnist.models.base import DropoutRate, Shape, classifier
from xmnist.runtime.lazy import nn


@classifier("vgg_xml", layers=("conv1", "conv2", "conv3", "conv4", "dense1", "dense2", "logits"), least=16)
def vgg_xml(
    shape: Shape,
    classes: int,
    *,
    dropout: DropoutRate,
    width: Annotated[
        int, whole(1, 4096), "channels of the first pair of convolutions, doubled in each of the next three"
    ],
    batch_norm: Annotated[bool, yes_or_no(), "not as published, but learns in a few epochs"],
) -> nn.Module:
    """The VGG of the joint explainer-classifiers: four pairs of convolutions, two layers of 128 sigmoids.

    It is as published for 224x224 pixels (Rio-Torto et al., Pattern Recognition Letters 133, 2020), but its last
    pooling window is fitted to the image and leaves one pixel. `width` is that of the first pair, 32 as published;
    `batch_norm`, which was not published, lets it learn in a few epochs (docs/results.md).
    """
    from xmnist.models.layers import Dropout, Normalize, sequence

    def convolution(inputs: int, outputs: int) -> list[nn.Module]:
        norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
        return [nn.Conv2d(inputs, outputs, 3, padding=1), *norm, nn.ReLU()]

    def block(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*convolution(inputs, outputs), *convolution(outputs, outputs), nn.MaxPool2d(2))

    def dense(inputs: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(inputs, 128), nn.Sigmoid(), Dropout(dropout))

    network = sequence(
        normalize=Normalize(shape[0]),
        conv1=block(shape[0], width),
        conv2=block(width, 2 * width),
        conv3=block(2 * width, 4 * width),
        conv4=block(4 * width, 8 * width),
        pool=nn.MaxPool2d((shape[1] // 16, shape[2] // 16)),
        flatten=nn.Flatten(),
        dense1=dense(8 * width),
        dense2=dense(128),
        logits=nn.Linear(128, classes),
    )
    # The ReLU before each pooling: its index depends on the BatchNorms between.
    network.gates = tuple(f"conv{pair}.{5 if batch_norm else 3}" for pair in (1, 2, 3, 4))  # type: ignore[assignment]
    return network
