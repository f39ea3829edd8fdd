"""Model-independent controls: maps that an explanation must outperform."""

from __future__ import annotations

import hashlib

from xmnist.explainers.base import Heatmap, explainer
from xmnist.runtime.lazy import F, Tensor, nn, torch
from xmnist.runtime.seeds import derive_seed


@explainer("random", control=True)
class Random(Heatmap):
    """Uniform noise in [0, 1), drawn for each image from the seed and its pixels."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        maps = []
        # Seeded by the pixels: an image then has the same map in any batch and at any place in it.
        for image in images.detach().cpu():
            pixels = hashlib.sha256(image.numpy().tobytes()).hexdigest()
            generator = torch.Generator().manual_seed(derive_seed(self.seed, f"random map of {pixels}"))
            maps.append(torch.rand(1, *image.shape[1:], generator=generator))
        return torch.stack(maps).to(images)


@explainer("sobel", title="Sobel", control=True)
class Sobel(Heatmap):
    """Edge strength: the magnitude of the Sobel gradient of the mean over channels."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(images) / 8
        gray = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        edges = F.conv2d(gray, torch.stack([across, across.T])[:, None])
        return edges.square().sum(1, keepdim=True).sqrt()


@explainer("otsu", title="Otsu", control=True)
class Otsu(Heatmap):
    """1 where the mean over channels is above Otsu's threshold, which separates the pixels best, else 0.

    Source: Otsu, "A threshold selection method from gray-level histograms", 1979, eq. 18, on 256 levels.
    """

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        gray = images.mean(1, keepdim=True)
        levels = (gray.clamp(0, 1) * 255).round().long()
        counts = torch.zeros(len(images), 256).to(images)
        counts.scatter_add_(1, levels.flatten(1), torch.ones_like(levels.flatten(1), dtype=images.dtype))
        share = counts / counts.sum(1, keepdim=True)
        below = share.cumsum(1)
        mean = (share * torch.arange(256).to(images)).cumsum(1)
        # Variance between the two classes; the clamp covers thresholds that leave a class without pixels.
        spread = (mean[:, -1:] * below - mean) ** 2 / (below * (1 - below)).clamp_min(1e-12)
        threshold = spread.argmax(1).view(-1, 1, 1, 1)
        return (levels > threshold).to(images)
