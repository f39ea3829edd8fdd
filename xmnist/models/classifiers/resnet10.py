"""The ResNet-10 that ClaDec was evaluated on."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import whole
from xmnist.models.base import Shape, classifier
from xmnist.runtime.lazy import nn


@classifier(
    "resnet10",
    layers=("stem", "block1", "block2", "block3", "block4", "pool", "logits"),
    gates=("stem.2", "block1", "block2", "block3", "block4"),
    least=8,
)
def resnet10(
    shape: Shape,
    classes: int,
    *,
    width: Annotated[int, whole(1, 4096), "channels of the stem, doubled in each block but the first"],
) -> nn.Module:
    """A stem, four residual blocks, and one linear layer without biases; `width` is the stem's, 64 as published.

    The ResNet-10 that ClaDec was evaluated on. Where a block halves the image, its shortcut is an average pooling and
    channels of zeros.

    Source of the blocks: He et al., "Deep residual learning for image recognition", arXiv 1512.03385.
    """
    from torchvision.models.resnet import BasicBlock  # takes seconds

    from xmnist.models.layers import Normalize, normed_convolution, sequence

    parts: dict[str, nn.Module] = {"normalize": Normalize(shape[0]), "stem": normed_convolution(shape[0], width, 1)}
    for index in range(4):
        inputs, outputs = width << max(index - 1, 0), width << index
        zeros = nn.ConstantPad3d((0, 0, 0, 0, 0, outputs - inputs), 0.0)  # behind the channels
        halving = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), zeros) if index else None
        parts[f"block{index + 1}"] = BasicBlock(inputs, outputs, 2 if index else 1, halving)
    logits = nn.Linear(8 * width, classes, bias=False)
    return sequence(**parts, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), logits=logits)
