"""The networks whose decisions are explained. They take pixels in [0, 1] and return logits.

Each names its `layers`, which decoders can look at, and its `gates`: the feature maps, before they are pooled, that a
joint model multiplies.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xmnist.models.layers import Dropout, Normalize, initialise
from xmnist.models.named import LAYERS
from xmnist.runtime.errors import InputError

Shape = tuple[int, int, int]


def _at_least(name: str, shape: Shape, pixels: int) -> None:
    _, height, width = shape
    if min(height, width) < pixels:
        raise InputError(f"classifier={name} needs images of at least {pixels}x{pixels} pixels, got {height}x{width}")


class VggSmall(nn.Sequential):
    """The Keras ClaDec study's classifier: two convolutions, two linear layers, 422,026 numbers for 28x28x1.

    Layers `conv` (64, 7, 7 for 28x28 images), `dense` (128) and `logits` are what ClaDec can look at. It differs from
    the published network in three things: its input is normalised, it returns logits where that has sigmoids, and its
    BatchNorm has torch's momentum and epsilon, not Keras'.
    """

    gates = ("stem.2", "conv.2")

    def __init__(self, shape: Shape, classes: int, dropout: float) -> None:
        channels, height, width = shape
        _at_least("vgg_small", shape, 4)
        features = 64 * (height // 4) * (width // 4)
        parts: dict[str, nn.Module] = {
            "normalize": Normalize(channels),
            "stem": _block(channels, 32),
            "conv": _block(32, 64),
            "flatten": nn.Flatten(),
            "dropout": Dropout(dropout),
            "dense": nn.Sequential(nn.Linear(features, 128), nn.ReLU()),
            "logits": nn.Linear(128, classes),
        }
        super().__init__(OrderedDict(parts))
        initialise(self)


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width), nn.MaxPool2d(2))


def _clamp(layer: nn.Conv2d | nn.Linear) -> None:
    """Keep a layer's biases at or below 0, as LRP's theory wants them."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.clamp_(max=0)


class _ClampedConv2d(nn.Conv2d):
    def forward(self, inputs: Tensor) -> Tensor:
        _clamp(self)
        return super().forward(inputs)


class _ClampedLinear(nn.Linear):
    def forward(self, inputs: Tensor) -> Tensor:
        _clamp(self)
        return super().forward(inputs)


class LenetAvgPool(nn.Sequential):
    """Two convolutions with average pooling and three linear layers, all with LeakyReLU: made for LRP and its kin.

    After github.com/LMeynent/mnist-explanation, which adds a BatchNorm and sigmoids after the last layer; this one
    returns logits. With `nonpositive_bias`, as there, no bias is ever above 0.
    """

    gates = ("conv1.1", "conv2.1")

    def __init__(self, shape: Shape, classes: int, dropout: float, nonpositive_bias: bool) -> None:
        channels, height, width = shape
        _at_least("lenet_avgpool", shape, 10)
        conv, linear = (_ClampedConv2d, _ClampedLinear) if nonpositive_bias else (nn.Conv2d, nn.Linear)

        def dense(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(linear(inputs, outputs), nn.LeakyReLU(), Dropout(dropout))

        features = 16 * (((height - 2) // 2 - 2) // 2) * (((width - 2) // 2 - 2) // 2)
        parts: dict[str, nn.Module] = {
            "normalize": Normalize(channels),
            "conv1": nn.Sequential(conv(channels, 6, 3), nn.LeakyReLU(), nn.AvgPool2d(2)),
            "conv2": nn.Sequential(conv(6, 16, 3), nn.LeakyReLU(), nn.AvgPool2d(2)),
            "flatten": nn.Flatten(),
            "dropout": Dropout(dropout),
            "dense1": dense(features, 120),
            "dense2": dense(120, 84),
            "logits": linear(84, classes),
        }
        super().__init__(OrderedDict(parts))
        initialise(self)


class DropoutCnn(nn.Sequential):
    """Two 5x5 convolutions with 10 and 20 channels, dropout, and two linear layers.

    After the MNIST notebook of github.com/intel/intel-xai-tools, with logits where that has probabilities.
    """

    gates = ("conv1.2", "conv2.3")

    def __init__(self, shape: Shape, classes: int, dropout: float) -> None:
        channels, height, width = shape
        _at_least("dropout_cnn", shape, 16)
        features = 20 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        conv2 = (nn.Conv2d(10, 20, 5), Dropout(dropout), nn.MaxPool2d(2), nn.ReLU())
        parts: dict[str, nn.Module] = {
            "normalize": Normalize(channels),
            "conv1": nn.Sequential(nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
            "conv2": nn.Sequential(*conv2),
            "flatten": nn.Flatten(),
            "dense": nn.Sequential(nn.Linear(features, 50), nn.ReLU()),
            "logits": nn.Linear(50, classes),
        }
        super().__init__(OrderedDict(parts))
        initialise(self)


class CamNet(nn.Sequential):
    """Three convolutions, global average pooling, one linear layer: the shape that class activation maps need.

    Source of the shape: Zhou et al., "Learning deep features for discriminative localization", arXiv 1512.04150.
    """

    gates = ("conv1.2", "conv2.2", "features.2")

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        _at_least("cam_net", shape, 4)

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        parts: dict[str, nn.Module] = {
            "normalize": Normalize(shape[0]),
            "conv1": nn.Sequential(*block(shape[0], width), nn.MaxPool2d(2)),
            "conv2": nn.Sequential(*block(width, 2 * width), nn.MaxPool2d(2)),
            "features": nn.Sequential(*block(2 * width, 4 * width)),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "logits": nn.Linear(4 * width, classes),
        }
        super().__init__(OrderedDict(parts))
        initialise(self)


class VggXml(nn.Sequential):
    """The VGG of the joint explainer-classifiers: four pairs of convolutions, two layers of 128 sigmoids.

    As published for 224x224 pixels (Rio-Torto et al., Pattern Recognition Letters 133, 2020), with the last pooling
    window fitted to the image: it leaves one pixel. `width` is that of the first pair, 32 as published; `batch_norm`,
    which was not published, lets it learn in a few epochs (docs/results.md).
    """

    def __init__(self, shape: Shape, classes: int, dropout: float, width: int, batch_norm: bool) -> None:
        _at_least("vgg_xml", shape, 16)

        def convolution(inputs: int, outputs: int) -> list[nn.Module]:
            norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
            return [nn.Conv2d(inputs, outputs, 3, padding=1), *norm, nn.ReLU()]

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(*convolution(inputs, outputs), *convolution(outputs, outputs), nn.MaxPool2d(2))

        def dense(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(inputs, 128), nn.Sigmoid(), Dropout(dropout))

        parts: dict[str, nn.Module] = {
            "normalize": Normalize(shape[0]),
            **{"conv1": block(shape[0], width), "conv2": block(width, 2 * width)},
            **{"conv3": block(2 * width, 4 * width), "conv4": block(4 * width, 8 * width)},
            "pool": nn.MaxPool2d((shape[1] // 16, shape[2] // 16)),
            "flatten": nn.Flatten(),
            **{"dense1": dense(8 * width), "dense2": dense(128), "logits": nn.Linear(128, classes)},
        }
        super().__init__(OrderedDict(parts))
        self.gates = tuple(f"conv{pair}.{5 if batch_norm else 3}" for pair in (1, 2, 3, 4))
        initialise(self)


class Vgg11(nn.Sequential):
    """The original ClaDec code's classifier: eight convolutions, five of which halve the image, and one linear layer.

    Made for 32x32 pixels, of which one is left; of images up to that size, `conv8` is a vector of 512. Its input is
    normalised, which that of the original is not.

    Source: github.com/JohnTailor/ClaDec, and Schneider and Vlachos, arXiv 2203.04109, where it is called VGG-11.
    """

    gates = ("conv1.2", "conv3.2", "conv5.2", "conv7.2")

    def __init__(self, shape: Shape, classes: int, dropout: float) -> None:
        _at_least("vgg11", shape, 16)
        widths, strides = (shape[0], 32, 64, 128, 128, 256, 256, 512, 512), (2, 2, 1, 2, 1, 2, 1, 2)
        parts: dict[str, nn.Module] = {"normalize": Normalize(shape[0])}
        for place, stride in enumerate(strides):
            parts[f"conv{place + 1}"] = _normed(widths[place], widths[place + 1], stride)
        features = 512 * -(-shape[1] // 32) * -(-shape[2] // 32)
        parts |= {"flatten": nn.Flatten(), "dropout": Dropout(dropout), "logits": nn.Linear(features, classes)}
        super().__init__(OrderedDict(parts))
        initialise(self)


def _normed(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class ResNet10(nn.Sequential):
    """A stem, four residual blocks, and one linear layer without biases; `width` is the stem's, 64 as published.

    The ResNet-10 that ClaDec was tried on: where a block halves the image, its shortcut is an average pooling and
    channels of zeros.

    Source of the blocks: He et al., "Deep residual learning for image recognition", arXiv 1512.03385.
    """

    gates = ("stem.2", "block1", "block2", "block3", "block4")

    def __init__(self, shape: Shape, classes: int, width: int) -> None:
        from torchvision.models.resnet import BasicBlock  # takes seconds

        _at_least("resnet10", shape, 8)
        parts: dict[str, nn.Module] = {"normalize": Normalize(shape[0]), "stem": _normed(shape[0], width, 1)}
        for place in range(4):
            inputs, outputs = width << max(place - 1, 0), width << place
            zeros = nn.ConstantPad3d((0, 0, 0, 0, 0, outputs - inputs), 0.0)  # behind the channels
            halving = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), zeros) if place else None
            parts[f"block{place + 1}"] = BasicBlock(inputs, outputs, 2 if place else 1, halving)
        parts |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        super().__init__(OrderedDict(parts | {"logits": nn.Linear(8 * width, classes, bias=False)}))
        initialise(self)


class ResNet(nn.Sequential):
    """torchvision's ResNet of `depth` layers.

    With the stem for small images: one 3x3 convolution of stride 1, no pooling; with the large one as published: 7x7,
    stride 2 and pooling.

    Source: He et al., "Deep residual learning for image recognition", arXiv 1512.03385.
    """

    def __init__(self, depth: int, shape: Shape, classes: int, stem: str) -> None:
        from torchvision import models  # takes seconds

        network = getattr(models, f"resnet{depth}")(num_classes=classes)
        if stem == "small":
            network.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
            network.maxpool = nn.Identity()
        else:
            network.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
        super().__init__(OrderedDict(normalize=Normalize(shape[0]), network=network))
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        stages = [getattr(network, f"layer{i}") for i in (1, 2, 3, 4)]
        blocks = [f"network.layer{i}.{b}" for i, stage in enumerate(stages, 1) for b in range(len(stage))]
        self.gates = ("network.maxpool", *blocks)


CLASSIFIERS: dict[str, Callable[..., nn.Module]] = {
    "vgg_small": VggSmall,
    "lenet_avgpool": LenetAvgPool,
    "dropout_cnn": DropoutCnn,
    "cam_net": CamNet,
    "vgg_xml": VggXml,
    "vgg11": Vgg11,
    "resnet10": ResNet10,
    **{f"resnet{depth}": partial(ResNet, depth) for depth in (18, 34, 50, 101, 152)},
}


def build(name: str, shape: Shape, classes: int, **options: Any) -> nn.Module:
    """A freshly initialised classifier of images (C, H, W) into `classes` classes.

    Raises:
        InputError: the images are too small for it.
    """
    network = CLASSIFIERS[name](shape, classes, **options)
    network.layers = LAYERS[name]  # type: ignore[assignment]
    return network
