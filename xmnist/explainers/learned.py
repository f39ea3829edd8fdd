"""Explanations from fitted networks and prototypes: reconstructions from a layer, joint maps, prototypes of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Self

from xmnist.config.components import given
from xmnist.config.declarations import Answer
from xmnist.config.rules import choice, number, whole
from xmnist.explainers.base import Explainer, explainer
from xmnist.explainers.baselines import BASELINES, references
from xmnist.runtime.lazy import Tensor, nn, torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned(Explainer):
    """An explainer whose results are images from a fitted network."""

    answer: ClassVar[Answer] = "image"
    fitted: nn.Module = given()

    def answering(self, networks: Sequence[nn.Module], layer: str) -> Self:
        """Return a copy with fitted networks of the kinds in `models`, in their order, for a layer."""
        return replace(self, fitted=networks[0])


@explainer("cladec", title="ClaDec", models=("cladec",), fits=("cladec",), place=5)
class ClaDec(Learned):
    """The reconstruction of the image from the activations of a layer, by a trained decoder.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109.

    Args:
        fitted: the decoder.
        layer: dotted name of the layer.
    """

    layer: str = given("")

    def answering(self, networks: Sequence[nn.Module], layer: str) -> Self:
        return replace(self, fitted=networks[0], layer=layer)

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        from xmnist.models.layers import Encoder, batched

        encoder, decoder = Encoder(network, self.layer), self.fitted.eval()
        return batched(lambda part: decoder(encoder(part)), images, self.batch_size)


@explainer("refae", title="RefAE", models=("refae",), fits=("cladec", "refae"), place=4)
class RefAE(Learned):
    """The reference autoencoder's reconstruction of the image, which is independent of the classifier.

    Args:
        fitted: the autoencoder.
    """

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        from xmnist.models.layers import batched

        return batched(self.fitted.eval(), images, self.batch_size)


@explainer("cladec_vae", title="variational\nClaDec", models=("cladec_vae",), fits=("cladec_vae",), place=13)
class VariationalClaDec(ClaDec):
    """The reconstruction from a layer by a trained variational decoder, from the posterior mean."""


@explainer("refvae", title="RefVAE", models=("refvae",), fits=("cladec_vae", "refvae"), place=12)
class RefVAE(RefAE):
    """The variational reference's reconstruction of the image, from the posterior mean."""


@explainer("difference", title="RefAE − ClaDec", models=("cladec", "refae"), fits=("cladec",), place=22)
class Difference(ClaDec):
    """Information discarded by a layer: the reference's image minus ClaDec's, averaged over channels; in [-1, 1].

    It is positive where the reference autoencoder, whose code has the same size, retains lighter pixels than the layer.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109, who
    show both images side by side.

    Args:
        reference: the autoencoder.
    """

    answer: ClassVar[Answer] = "difference"
    reference: nn.Module = given()

    def answering(self, networks: Sequence[nn.Module], layer: str) -> Self:
        return replace(self, fitted=networks[0], reference=networks[1], layer=layer)

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        from xmnist.models.layers import batched

        kept = batched(self.reference.eval(), images, self.batch_size)
        return (kept - super().explain(network, images, targets)).mean(1, keepdim=True)


@explainer("joint", title="joint model's map", models=("joint",), fits=("joint",), place=7)
class InModel(Explainer):
    """The map that a joint network multiplies its own features with; it is the same for every target.

    Source: Rio-Torto et al., Pattern Recognition Letters 133 (2020).
    """

    answer: ClassVar[Answer] = "map"

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        from xmnist.models.joint import Joint

        assert isinstance(network, Joint)
        return network.explainer(images)


@explainer("activation_maximisation", place=21)
class ActivationMaximisation(Explainer):
    """A prototype of the target: the image that maximises log softmax_c(x) - decay * |x - x0|^2, by gradient ascent.

    Source: Montavon et al., "Methods for interpreting and understanding deep neural networks", arXiv 1706.07979,
    section 3.1, where x0 is black.

    Args:
        baseline: x0, from which the ascent starts; one of `baselines.BASELINES` but `blur`.
        steps: of Adam, in pixel space; after each, values are cut to [0, 1].
        lr: its learning rate.
        decay: weight of the penalty for the distance to x0.
    """

    answer: ClassVar[Answer] = "image"
    batch_size: int = field(default=1, init=False)
    # Not `blur`, which differs from image to image, while a prototype belongs to a class.
    baseline: Annotated[str, choice(*(name for name in BASELINES if name != "blur"))]
    steps: Annotated[int, whole(1, 100_000)]
    lr: Annotated[float, number(0, above=True)]
    decay: Annotated[float, number(0)]

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        # One ascent per class: a prototype depends on its class alone, not on the image.
        classes, which = targets.unique(return_inverse=True)
        start = references(self.baseline, images[:1], self.train, self.seed)[0]
        prototypes = start.repeat(len(classes), 1, 1, 1).requires_grad_()
        optimizer = torch.optim.Adam([prototypes], self.lr)
        for _ in range(self.steps):
            optimizer.zero_grad()
            evidence = network(prototypes).log_softmax(1).gather(1, classes[:, None])
            (self.decay * (prototypes - start).square().sum() - evidence.sum()).backward()
            optimizer.step()
            with torch.no_grad():
                prototypes.clamp_(0, 1)
        return prototypes.detach()[which]
