"""Small networks that make explanation methods fail elsewhere, for the tests of the explainers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import build
from xmnist.config.declarations import EXPLAINERS
from xmnist.explainers.base import Explainer
from xmnist.models.layers import Normalize

SIZE = 16
"""Edge of the images."""

OPTIONS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("random", "sobel", "otsu", "sensitivity", "saliency", "input_x_gradient", "cam")},
    **{name: {} for name in ("guided_backprop", "deconvolution", "deep_taylor")},
    "smoothgrad": {"samples": 4, "noise": 0.1},
    "gradcam": {"layer": None},
    "guided_gradcam": {"layer": None},
    "integrated_gradients": {"baseline": "black", "steps": 6},
    "deeplift": {"baseline": "blur"},
    "deep_shap": {"background": "train", "background_size": 3},
    "gradient_shap": {"background": "train", "background_size": 3, "samples": 5},
    "lrp": {"gamma": 0.25, "epsilon": 0.01},
    "occlusion": {"window": 5, "stride": 4, "baseline": "mean"},
    "activation_maximisation": {"baseline": "mean", "steps": 5, "lr": 0.01, "decay": 0.005},
}
"""Post-hoc method -> short settings."""

ONE_BY_ONE = ("smoothgrad", "deep_shap", "gradient_shap")


def explainer(
    method: str, batch_size: int = 100, channels: int = 1, seed: int = 0, size: int = SIZE, **options: Any
) -> Explainer:
    """An explainer whose training images are random."""
    own = {**OPTIONS[method], **options}
    if method != "activation_maximisation":
        own.setdefault("translations", 0)
        if method not in ONE_BY_ONE:
            own["batch_size"] = batch_size
    train = torch.rand(8, channels, size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    made = EXPLAINERS[method](**{"label": method, "seed": seed, "train": train, **own})
    assert isinstance(made, Explainer)
    return made


class Residual(nn.Module):
    """A ReLU module used three times, a sum, functions where modules are usual, and strided overlapping pooling."""

    def __init__(self, channels: int = 1, inplace: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 3), nn.Conv2d(6, 6, 3, padding=1)
        self.norm, self.relu = nn.BatchNorm2d(6), nn.ReLU(inplace)
        self.out = nn.Linear(6, 3)
        self.inplace = inplace

    def forward(self, images: Tensor) -> Tensor:
        features = F.max_pool2d(self.relu(self.conv1(images)), 3, stride=2, padding=1)
        block = self.norm(self.conv2(features))
        if self.inplace:
            block += features
        else:
            block = block + features
        features = self.relu(self.conv2(F.dropout(self.relu(block), training=self.training)))
        return self.out(F.avg_pool2d(features, 2).mean((2, 3)))


class Functional(nn.Module):
    """ReLU as a function."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv1, self.conv2, self.out = nn.Conv2d(channels, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4 * 144, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(torch.flatten(F.relu(self.conv2(F.relu(self.conv1(images)))), 1))


def _built(name: str, **options: Any) -> Callable[[int], nn.Module]:
    return lambda channels: build(name, (channels, SIZE, SIZE), 3, **options)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "vgg_small": _built("vgg_small", dropout=0.5),  # BatchNorm after ReLU, before maximum pooling
    "lenet_avgpool": _built("lenet_avgpool", dropout=0.25, nonpositive_bias=True),
    "dropout_cnn": _built("dropout_cnn", dropout=0.5),  # maximum pooling next to ReLU
    "cam_net": _built("cam_net", width=4),  # BatchNorm before ReLU
    "resnet10": _built("resnet10", width=2),  # torchvision's blocks, and shortcuts that add channels of zeros
    "residual": lambda channels: Residual(channels),
    "inplace": lambda channels: Residual(channels, inplace=True),
    "functional": lambda channels: Functional(channels),
}


def network(name: str, channels: int = 1) -> nn.Module:
    """A network in training mode, in float64, with statistics and biases that matter."""
    torch.manual_seed(3)
    model = NETWORKS[name](channels).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_()
            module.bias.data.normal_()
        elif isinstance(module, Normalize):
            module.mean.fill_(0.3)
            module.std.fill_(0.4)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.uniform_(-0.1, 0.3)
    return model


def images(count: int = 9, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Random images (N, C, H, W) and targets (N,)."""
    generator = torch.Generator().manual_seed(7)
    pixels = torch.rand(count, channels, SIZE, SIZE, generator=generator, dtype=torch.float64)
    return pixels, torch.arange(count) % 3
