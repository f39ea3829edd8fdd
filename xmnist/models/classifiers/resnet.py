"""torchvision's ResNets, which can be initialised from trained weights."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from xmnist.models.base import Classifier, Shape, classifier
from xmnist.models.pretrained import Pretrained
from xmnist.runtime.lazy import nn

LAYERS = tuple(f"network.{layer}" for layer in ("layer1", "layer2", "layer3", "layer4", "avgpool", "fc"))


@dataclass(frozen=True, kw_only=True, eq=False)
class ResNet(Classifier):
    """torchvision's ResNet of `depth` layers.

    The stem for small images is one 3x3 convolution of stride 1 without pooling. The large stem is as published: 7x7,
    stride 2 and pooling.

    Source: He et al., "Deep residual learning for image recognition", arXiv 1512.03385.
    """

    depth: ClassVar[int]
    stem: Annotated[
        Literal["small", "large"],
        "small: 3x3, no pooling, for small images; large: 7x7, stride 2 and pooling, as published",
    ]

    def network(self, shape: Shape, classes: int) -> nn.Module:
        from torchvision import models  # takes seconds

        from xmnist.models.layers import Normalize

        network = getattr(models, f"resnet{self.depth}")(num_classes=classes)
        if self.stem == "small":
            network.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        else:
            network.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        model = nn.Sequential(OrderedDict(normalize=Normalize(shape[0]), network=network))
        # torchvision initialised the stem that was replaced; the new one gets the same initialisation.
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        stages = [getattr(network, f"layer{i}") for i in (1, 2, 3, 4)]
        blocks = [f"network.layer{i}.{b}" for i, stage in enumerate(stages, 1) for b in range(len(stage))]
        model.gates = ("network.maxpool", *blocks)  # type: ignore[assignment]
        return model


for depth in (18, 34, 50, 101, 152):

    @classifier(f"resnet{depth}", layers=LAYERS, depth=depth)
    class PretrainedResNet(Pretrained, ResNet):
        """torchvision's ResNet of one depth, which can be initialised from trained weights."""
