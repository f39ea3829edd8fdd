"""Attribution methods from gradients, or from differences, of the target's logit, computed with captum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from xmnist.config.rules import choice, number, whole
from xmnist.explainers.base import Heatmap, OneByOne, explainer, summed, target_logits
from xmnist.explainers.baselines import BASELINES, references
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, attr, nn, np, torch
from xmnist.runtime.seeds import derive_seed

Baseline = Annotated[str, choice(*BASELINES), "what images are compared with"]
Samples = Annotated[int, whole(1, 100_000)]


@explainer("sensitivity", place=16)
class Sensitivity(Heatmap):
    """(df_c/dx)^2, summed over channels.

    Source: Montavon et al., "Methods for interpreting and understanding deep neural networks", arXiv 1706.07979, eq. 8.
    """

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return summed(_gradient(network, images, targets) ** 2)


@explainer("saliency", place=0)
class Saliency(Heatmap):
    """|df_c/dx|, its maximum over channels. Source: Simonyan et al., arXiv 1312.6034, section 3.1."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return _gradient(network, images, targets).abs().amax(1, keepdim=True)


@explainer("input_x_gradient", title="input x gradient", presets={"simple_taylor": "simple Taylor"}, place=17)
class InputXGradient(Heatmap):
    """x * df_c/dx: also the simple Taylor decomposition of Montavon et al., arXiv 1706.07979, section 4.2."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return summed(attr.InputXGradient(network).attribute(images, target=targets))


@explainer("smoothgrad", title="SmoothGrad", place=8)
class SmoothGrad(OneByOne):
    """The gradient, averaged over noisy copies of the image; every image gets the same noise.

    Source: Smilkov et al., arXiv 1706.03825.

    Args:
        samples: noisy copies.
        noise: standard deviation of the noise, in pixel values.
    """

    samples: Samples
    noise: Annotated[float, number(0)]

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        with _drawn_from(derive_seed(self.seed, "smoothgrad")):
            tunnel = attr.NoiseTunnel(attr.Saliency(network))
            # Signed gradients: the noise would not cancel in a mean of absolute values.
            options = {"abs": False, "nt_samples": self.samples, "stdevs": self.noise}
            return summed(tunnel.attribute(images, target=targets, **options))


@dataclass(frozen=True, kw_only=True, eq=False)
class _ReluRule(Heatmap):
    """A method with another backward rule for ReLU, which must therefore be seen wherever it is used."""

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        from xmnist.models.canonical import with_relus

        return with_relus(classifier)


@explainer("guided_backprop", place=18)
class GuidedBackprop(_ReluRule):
    """The gradient, with negative values cut off at every ReLU. Source: Springenberg et al., arXiv 1412.6806."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return summed(attr.GuidedBackprop(network).attribute(images, target=targets))


@explainer("deconvolution", place=19)
class Deconvolution(_ReluRule):
    """The gradient, with every ReLU's derivative replaced by a ReLU of the backpropagated signal.

    Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv 1311.2901.
    """

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return summed(attr.Deconvolution(network).attribute(images, target=targets))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Complete(Heatmap):
    """A method whose maps add up to f(x) - f(x0), for one reference x0 or on average over several."""

    def references(self, images: Tensor) -> Tensor:
        """Return the references (B, N, C, H, W), or (B, 1, C, H, W) where all images have the same."""
        raise TypeError(f"{type(self).__name__} has no reference")

    def completeness_gap(self, classifier: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor | None:
        """Return sum(map) - (f(x) - f(x0)), (N,), where f is the target's logit; None for maps of shifted images."""
        if self.translations:
            return None
        # Logits of the classifier itself, not of the copy that a method may have rewritten.
        network, changes = Heatmap.prepare(self, classifier, images), list[Tensor]()
        with torch.no_grad():
            for part, part_targets in zip(images.split(100), targets.split(100), strict=True):
                compared = self.references(part).expand(-1, len(part), -1, -1, -1)
                reference_logits = torch.stack([target_logits(network, one, part_targets) for one in compared]).mean(0)
                changes.append(target_logits(network, part, part_targets) - reference_logits)
        return maps.flatten(1).sum(1) - torch.cat(changes)


@dataclass(frozen=True, kw_only=True, eq=False)
class _FromBaseline(_Complete):
    """A method that compares each image with one baseline.

    Args:
        baseline: one of `baselines.BASELINES`.
    """

    baseline: Baseline

    def references(self, images: Tensor) -> Tensor:
        return references(self.baseline, images, self.train, self.seed)

    def start(self, images: Tensor) -> Tensor:
        """Return the baseline (N, C, H, W) of each image."""
        return self.references(images)[0].expand_as(images)


@explainer("integrated_gradients", place=1)
class IntegratedGradients(_FromBaseline):
    """The mean gradient on the line from a baseline to the image, times their difference (Gauss-Legendre quadrature).

    Source: Sundararajan et al., arXiv 1703.01365.

    Args:
        steps: points of the quadrature.
    """

    steps: Annotated[int, whole(1, 100_000)]

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        options = {"n_steps": self.steps, "internal_batch_size": self.batch_size}
        method = attr.IntegratedGradients(network)
        return summed(method.attribute(images, baselines=self.start(images), target=targets, **options))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rescale(_Complete):
    """A method by the rescale rule, which must be applied to every nonlinear layer."""

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        from xmnist.models.canonical import separated

        return separated(classifier)


@explainer("deeplift", title="DeepLIFT", place=9)
class DeepLift(_FromBaseline, _Rescale):
    """Differences to a baseline, backpropagated by the rescale rule. Source: Shrikumar et al., arXiv 1704.02685."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return summed(attr.DeepLift(network).attribute(images, baselines=self.start(images), target=targets))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shap(OneByOne, _Complete):
    """A method that averages over a background.

    Args:
        background: `train` for training images, or one of `baselines.BASELINES`.
        background_size: number of training images.
    """

    background: Annotated[str, choice("train", *BASELINES)]
    background_size: Annotated[int, whole(1, 100_000)]

    def references(self, images: Tensor) -> Tensor:
        return references(self.background, images, self.train, self.seed, self.background_size)


@explainer("deep_shap", title="Deep SHAP", place=6)
class DeepShap(_Shap, _Rescale):
    """DeepLIFT, averaged over a background. Source: Lundberg and Lee, arXiv 1705.07874, section 4.2."""

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        method = attr.DeepLiftShap(network)
        background = self.references(images)[:, 0]
        # With one background image, the average is DeepLIFT itself.
        if len(background) > 1:
            return summed(method.attribute(images, baselines=background, target=targets))
        return summed(attr.DeepLift(network).attribute(images, baselines=background, target=targets))


@explainer("gradient_shap", title="Gradient SHAP", place=14)
class GradientShap(_Shap):
    """Expected gradients: at random points between the image and random background images, times their difference.

    Source: Erion et al., "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients", arXiv 1906.10670.

    Args:
        samples: random points.
    """

    samples: Samples

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        with _drawn_from(derive_seed(self.seed, "gradient_shap")):
            background = self.references(images)[:, 0]
            method = attr.GradientShap(network)
            return summed(method.attribute(images, background, n_samples=self.samples, target=targets))


@explainer("occlusion", place=11)
class Occlusion(Heatmap):
    """The fall of the logit when a window is covered, averaged over the windows that cover a pixel.

    Source: Zeiler and Fergus, arXiv 1311.2901, section 4.2.

    Args:
        window: edge of the window, in pixels.
        stride: from one window to the next, in pixels.
        baseline: the image that covers; one of `baselines.BASELINES`.
    """

    window: Annotated[int, whole(1)]
    stride: Annotated[int, whole(1)]
    baseline: Baseline

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        if self.stride > self.window:
            raise InputError(f"stride {self.stride} is more than window {self.window}: pixels would be left out")
        return super().prepare(classifier, example)

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        channels, height, width = images.shape[1:]
        window = (channels, min(self.window, height), min(self.window, width))
        options = {
            "sliding_window_shapes": window,
            "strides": (channels, *(min(self.stride, edge) for edge in window[1:])),
        }
        cover = references(self.baseline, images, self.train, self.seed)[0].expand_as(images)
        with torch.no_grad():
            maps = attr.Occlusion(network).attribute(images, baselines=cover, target=targets, **options)
        maps = maps.to(images)  # captum averages over windows in float32
        return maps.mean(1, keepdim=True)  # the channels are covered together: each holds the whole effect


def _gradient(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return attr.Saliency(network).attribute(images, target=targets, abs=False)


@contextmanager
def _drawn_from(seed: int) -> Iterator[None]:
    """Seed torch's and numpy's global generators, which captum draws from, in this block; then restore them."""
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # numpy accepts 32 bits only
        try:
            yield
        finally:
            np.random.set_state(state)
