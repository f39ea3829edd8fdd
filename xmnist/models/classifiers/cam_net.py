"""A network with the architecture that class activation maps require."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import whole
from xmnist.models.base import Shape, classifier
from xmnist.runtime.lazy import nn


@classifier(
    "cam_net",
    layers=("conv1", "conv2", "features", "logits"),
    gates=("conv1.2", "conv2.2", "features.2"),
    least=4,
)
def cam_net(
    shape: Shape,
    classes: int,
    *,
    width: Annotated[
        int, whole(1, 4096), "channels of the first convolution; the next have twice and four times as many"
    ],
) -> nn.Module:
    """Three convolutions, global average pooling, one linear layer: the architecture that CAM requires.

    Source of the architecture: Zhou et al., "Learning deep features for discriminative localization", arXiv 1512.04150.
    """
    from xmnist.models.layers import Normalize, sequence

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    return sequence(
        normalize=Normalize(shape[0]),
        conv1=nn.Sequential(*block(shape[0], width), nn.MaxPool2d(2)),
        conv2=nn.Sequential(*block(width, 2 * width), nn.MaxPool2d(2)),
        features=nn.Sequential(*block(2 * width, 4 * width)),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        logits=nn.Linear(4 * width, classes),
    )
