"""Explainers with the settings of a command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xmnist.explainers.base import Explainer
from xmnist.runtime.lazy import Tensor, nn, torch


@dataclass(frozen=True)
class ConfiguredExplainer:
    """An explainer with its settings; with `fixed`, a joint network keeps the map of the whole image while explained.

    `layer` is the one that a learned explainer reconstructs from, if there is one.
    """

    name: str
    title: str
    explainer: Explainer
    target: str
    fixed: bool = False
    layer: str = ""

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the maps or images for all images."""
        parts = [self.explainer(*part) for part in self.parts(network, images, targets)]
        return torch.cat(parts)

    def gap(self, network: nn.Module, images: Tensor, targets: Tensor, answers: Tensor) -> Tensor | None:
        """Return each map's completeness or conservation gap (N,), or None where the method has no such axiom."""
        # A fixed map belongs to one image, so the network differs from image to image.
        chunks = answers.split(1) if self.fixed else [answers]
        parts = zip(self.parts(network, images, targets), chunks, strict=True)
        gaps = [self.explainer.completeness_gap(*part, chunk) for part, chunk in parts]
        return None if gaps[0] is None else torch.cat([gap for gap in gaps if gap is not None])

    def parts(self, network: nn.Module, images: Tensor, targets: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
        """Yield networks, and the images and targets that each is explained for."""
        if not self.fixed:
            yield network, images, targets
            return
        for image, target in zip(images.split(1), targets.split(1), strict=True):
            yield with_its_map(network, image), image, target


def with_its_map(network: nn.Module, image: Tensor) -> nn.Module:
    """Return a joint network with its map fixed to that of one image (1, C, H, W)."""
    from xmnist.models.joint import FixedMapClassifier, Joint

    assert isinstance(network, Joint)
    with torch.no_grad():
        return FixedMapClassifier(network, network.explainer(image))
