"""Joint explainer-classifiers: networks that multiply their features by an attribution map of their own.

Source: Rio-Torto et al., "Understanding the decisions of CNNs: an in-model approach", Pattern Recognition Letters 133
(2020).
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn

from xmnist.models.layers import Normalize, gate, initialise, names_of
from xmnist.runtime.errors import InputError, unknown

PARTS = ("classifier", "explainer")

fx.wrap("gate")  # stays one call when a network is traced


class Explainer(nn.Module):
    """A U-Net that returns an attribution map (N, 1, H, W) in [0, 1) of an image (N, C, H, W).

    It is as published, except for the input's normalisation: two convolutions at each depth, skips that are added, a
    1x1 convolution, BatchNorm whose bias starts at `init_bias`, tanh, ReLU. Images that cannot be halved `depth` times
    are padded with their edge, and the map is cut back.

    Args:
        shape: of an image, (C, H, W).
        width: channels at full resolution, doubled at each halving.
        depth: how often the image is halved.
        init_bias: the map starts around tanh of this value, 0.995 for 3.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, depth: int, init_bias: float) -> None:
        super().__init__()
        channels, *self.size = shape
        down, right = (-size % 2**depth for size in self.size)
        if down >= self.size[0] or right >= self.size[1]:
            raise InputError(f"model.depth={depth} is too deep for images of {shape[1]}x{shape[2]} pixels")
        self.normalize = Normalize(channels)
        self.pad = nn.ReplicationPad2d((0, right, 0, down)) if down or right else nn.Identity()
        widths = [width * 2**level for level in range(depth)]
        self.down = nn.ModuleList(_twice(a, b) for a, b in zip([channels, *widths], widths, strict=False))
        self.pool = nn.ModuleList(nn.MaxPool2d(2) for _ in widths)
        below = [widths[-1], *widths[:0:-1]]
        self.grow = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip(below, reversed(widths), strict=True)
        )
        self.up = nn.ModuleList(_twice(b, b) for b in reversed(widths))
        norm = nn.BatchNorm2d(1)
        self.head = nn.Sequential(nn.Conv2d(width, 1, 1), norm, nn.Tanh(), nn.ReLU())
        initialise(self)
        nn.init.constant_(norm.bias, init_bias)

    def forward(self, images: Tensor) -> Tensor:
        features, skips = self.pad(self.normalize(images)), []
        for down, pool in zip(self.down, self.pool, strict=True):
            skips.append(down(features))
            features = pool(skips[-1])
        for grow, up in zip(self.grow, self.up, strict=True):
            features = up(grow(features) + skips.pop())
        return self.head(features)[:, :, : self.size[0], : self.size[1]]


def _twice(inputs: int, outputs: int) -> nn.Sequential:
    convolutions = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
    return nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU())


class Joint(nn.Module):
    """A classifier whose features are multiplied, at its gates, by the attribution map of an explainer.

    A gate is a forward hook on one of the classifier's own modules, set for one forward pass; no hook outlives it.

    Args:
        classifier: takes images, returns logits.
        explainer: takes images, returns maps (N, 1, H, W) in [0, 1].
        gates: dotted names of submodules whose feature maps are multiplied; None for the classifier's own `gates`.

    Raises:
        InputError: there is no such submodule, or no gate.
    """

    def __init__(self, classifier: nn.Module, explainer: nn.Module, gates: Sequence[str] | None = None) -> None:
        super().__init__()
        self.classifier, self.explainer = classifier, explainer
        self.gates = names_of(classifier, "gates") if gates is None else tuple(gates)
        self.frozen: tuple[str, ...] = ()
        modules = {name for name, _ in classifier.named_modules() if name}
        missing = [name for name in self.gates if name not in modules]
        if missing:
            allowed = names_of(classifier, "gates") or sorted(modules)
            raise unknown("gate", missing[0], allowed, "the classifier's own; any submodule by its dotted path")
        if not self.gates:
            raise InputError("this classifier names no gates: name layers with feature maps by model.gates=[NAME,...]")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, gated by the explainer's map."""
        return self.gated(images, self.explainer(images))

    def gated(self, images: Tensor, maps: Tensor) -> Tensor:
        """Return the logits (N, K), gated by these maps, (N, 1, H, W) or one map for all images."""

        def multiply(module: nn.Module, args: Any, features: Tensor) -> Tensor:
            return gate(features, maps)

        with ExitStack() as hooks:
            for name in self.gates:
                hooks.callback(self.classifier.get_submodule(name).register_forward_hook(multiply).remove)
            return self.classifier(images)

    def freeze(self, *parts: str) -> None:
        """Freeze these of `PARTS`: their weights and BatchNorm statistics stay, and dropout is off."""
        self.frozen = parts
        for part in PARTS:
            self.get_submodule(part).requires_grad_(part not in parts)
        self.train(self.training)  # `train` puts frozen parts into eval mode

    def train(self, mode: bool = True) -> "Joint":
        super().train(mode)
        for part in self.frozen:
            self.get_submodule(part).eval()
        return self


class FixedMapClassifier(nn.Module):
    """A joint network with one map for all images: the map is part of the network and does not depend on the image."""

    map: Tensor

    def __init__(self, joint: Joint, single: Tensor) -> None:
        super().__init__()
        self.joint = joint
        self.register_buffer("map", single)

    def forward(self, images: Tensor) -> Tensor:
        return self.joint.gated(images, self.map)


def check_gates(joint: Joint, example: Tensor) -> None:
    """Check that every gate has feature maps for images like `example` (1, C, H, W).

    Raises:
        InputError: names one that has none.
    """

    def look(name: str, features: object) -> None:
        if not isinstance(features, Tensor) or features.ndim != 4:
            shape = "x".join(map(str, features.shape[1:])) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"gate {name} has no feature maps to multiply: it answers with {shape}")

    with ExitStack() as hooks, torch.no_grad():
        for name in joint.gates:
            module = joint.classifier.get_submodule(name)
            handle = module.register_forward_hook(lambda _, args, features, name=name: look(name, features))
            hooks.callback(handle.remove)
        joint.classifier(example)
