"""An explainer as a command has set it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xmnist.explainers.base import Explainer
from xmnist.runtime.lazy import Tensor, nn, torch


@dataclass(frozen=True)
class ConfiguredExplainer:
    """One explainer, set up; with `fixed`, the map of a joint network that it explains is that of each image.

    `layer` is the one that a learned explainer answers from, if there is one.
    """

    name: str
    title: str
    explainer: Explainer
    target: str
    fixed: bool = False
    layer: str = ""

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The answers for all images."""
        parts = [self.explainer(*part) for part in self.parts(network, images, targets)]
        return torch.cat(parts)

    def gap(self, network: nn.Module, images: Tensor, targets: Tensor, answers: Tensor) -> Tensor | None:
        """What the sum of each map (N,) misses of what it should add up to, where the method has such a sum."""
        places = answers.split(1) if self.fixed else [answers]
        parts = zip(self.parts(network, images, targets), places, strict=True)
        gaps = [self.explainer.completeness_gap(*part, own) for part, own in parts]
        return None if gaps[0] is None else torch.cat([gap for gap in gaps if gap is not None])

    def parts(self, network: nn.Module, images: Tensor, targets: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """Networks, and the images and targets that each is explained for."""
        if not self.fixed:
            yield network, images, targets
            return
        for image, own in zip(images.split(1), targets.split(1), strict=True):
            yield with_its_map(network, image), image, own


def with_its_map(network: nn.Module, image: Tensor) -> nn.Module:
    """A joint network with the map that it makes of one image (1, C, H, W)."""
    from xmnist.models.joint import FixedMapClassifier, Joint

    assert isinstance(network, Joint)
    with torch.no_grad():
        return FixedMapClassifier(network, network.explainer(image))
