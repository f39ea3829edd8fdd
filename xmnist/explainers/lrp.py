"""Layer-wise relevance propagation with zennit: the logit is distributed over the input, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from xmnist.config.rules import number
from xmnist.explainers.base import Heatmap, explainer, summed
from xmnist.runtime.lazy import Tensor, fx, nn, torch

if TYPE_CHECKING:
    from zennit.core import Hook

STABILIZER = 1e-12
"""Value that is added to denominators, with their sign, against division by 0; too small to absorb relevance."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Lrp(Heatmap):
    """A method with a rule for each linear layer, into which BatchNorm and normalisation are folded before.

    Activations pass relevance on unchanged, maximum pooling to the maximum, average pooling and sums by contribution.
    """

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        from xmnist.models.folding import folded

        return folded(classifier, example)

    axiom: ClassVar[str] = "conservation"

    def completeness_gap(self, classifier: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor | None:
        """Return sum(map) - the distributed logit (deep Taylor: its magnitude), (N,); None for shifted images."""
        if self.translations:
            return None
        from xmnist.models.canonical import private
        from xmnist.models.layers import batched

        network = private(classifier)
        logits = batched(network, images).gather(1, targets[:, None])[:, 0]
        return maps.flatten(1).sum(1) - self.start(logits)

    def rules(self, layers: list[nn.Module], seeing: list[bool]) -> list[Hook]:
        """Return a rule for each linear layer, from input to logits; `seeing` marks those that take the image."""
        raise TypeError(f"{type(self).__name__} has no rules")

    def start(self, logits: Tensor) -> Tensor:
        """Return the values to distribute, one for each class."""
        return logits

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        from zennit.attribution import Gradient
        from zennit.composites import NameLayerMapComposite, layer_map_base

        from xmnist.models.folding import at_pixels, carriers

        assert isinstance(network, fx.GraphModule)
        modules = dict(network.named_modules())
        carrying = carriers(network.graph)
        called = [node for node in network.graph.nodes if node.op == "call_module" and node in carrying]
        linear = [node for node in called if isinstance(modules[str(node.target)], nn.Conv2d | nn.Linear)]
        seeing = [index == 0 or at_pixels(node, modules) for index, node in enumerate(linear)]
        rules = self.rules([modules[str(node.target)] for node in linear], seeing)
        names = [([str(node.target)], rule) for node, rule in zip(linear, rules, strict=True)]
        # By name, since two layers of one type may need different rules.
        composite = NameLayerMapComposite(name_map=names, layer_map=layer_map_base(STABILIZER))

        def relevance_of(logits: Tensor) -> Tensor:
            # Only the target starts with relevance: the map is about its logit alone.
            return self.start(logits.detach()) * nn.functional.one_hot(targets, logits.shape[1])

        with Gradient(network, composite) as attributor:
            _, relevance = attributor(images.detach().clone(), relevance_of)
        return summed(relevance)


@explainer("lrp", title="LRP", presets={"lrp_shifted": "LRP\naveraged over shifts"}, place=3)
class Lrp(_Lrp):
    """zB at the input, gamma at the convolutions, epsilon at the linear layers, 0 at the logits.

    Source: Montavon et al., "Layer-wise relevance propagation: an overview", 2019, sections 10.2 and 10.3.

    Args:
        gamma: extra weight of positive contributions; 0 for none.
        epsilon: value in the denominator, which absorbs relevance of weak contributions.
    """

    gamma: Annotated[float, number(0)]
    epsilon: Annotated[float, number(0)]

    def rules(self, layers: list[nn.Module], seeing: list[bool]) -> list[Hook]:
        from zennit.rules import Epsilon, Gamma

        def rule(layer: nn.Module, sees: bool) -> Hook:
            if sees:
                return _box()
            convolution = isinstance(layer, nn.Conv2d)
            return Gamma(self.gamma, stabilizer=STABILIZER) if convolution else Epsilon(self.epsilon)

        return [*map(rule, layers[:-1], seeing[:-1]), Epsilon(STABILIZER)]


@explainer("deep_taylor", title="deep Taylor", place=15)
class DeepTaylor(_Lrp):
    """Deep Taylor decomposition: alpha1-beta0 (z+) everywhere, zB at the input, without biases.

    The magnitude of the logit is distributed, so that evidence for the class is positive also where its logit is not.

    Source: Montavon et al., "Explaining nonlinear classification decisions with deep Taylor decomposition", 2017,
    arXiv 1512.02479, section 5.
    """

    def start(self, logits: Tensor) -> Tensor:
        return logits.abs()

    def rules(self, layers: list[nn.Module], seeing: list[bool]) -> list[Hook]:
        from zennit.rules import AlphaBeta

        positive = {"stabilizer": STABILIZER, "zero_params": ["bias"]}
        return [_box() if sees else AlphaBeta(1, 0, **positive) for sees in seeing]


def _box() -> Hook:
    """Return the rule for pixels, which lie in [0, 1]."""
    from zennit.rules import ZBox

    return ZBox(torch.tensor(0.0), torch.tensor(1.0), stabilizer=STABILIZER)
