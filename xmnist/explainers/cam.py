"""Class activation maps: the evidence for the target in a layer's feature maps."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import LAYER, maybe
from xmnist.explainers.base import Heatmap, explainer, summed
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import F, Tensor, attr, fx, nn, torch


@explainer("cam", title="CAM", place=20)
class Cam(Heatmap):
    """The feature maps before global average pooling, weighted by the target's row of the linear layer after it.

    Source: Zhou et al., "Learning deep features for discriminative localization", arXiv 1512.04150, eq. 2.
    """

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        from xmnist.models.canonical import unrolled

        network = unrolled(classifier)
        _head(network)
        return network

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(network, fx.GraphModule)
        pool, linear = _head(network)
        features: list[Tensor] = []
        handle = network.get_submodule(pool).register_forward_pre_hook(lambda _, args: features.append(args[0]))
        with torch.no_grad():
            network(images)
        handle.remove()  # the network is a private copy, but it is used for the next batch too
        weights = network.get_submodule(linear).weight
        assert isinstance(weights, torch.Tensor)
        return _enlarged(torch.einsum("nkhw,nk->nhw", features[0], weights[targets])[:, None], images)


def _head(network: fx.GraphModule) -> tuple[str, str]:
    """Return the names of the global average pooling and of the linear layer after it, which must be the last.

    Raises:
        InputError: the network ends in another way.
    """
    from xmnist.models.canonical import flattens

    modules = dict(network.named_modules())
    nodes = [node for node in network.graph.nodes if not flattens(node, modules) and node.op != "output"]
    pool, linear = (modules.get(str(node.target)) for node in nodes[-2:])
    if isinstance(linear, nn.Linear) and isinstance(pool, nn.AdaptiveAvgPool2d) and pool.output_size in (1, (1, 1)):
        return str(nodes[-2].target), str(nodes[-1].target)
    raise InputError(
        "it needs a classifier that ends in global average pooling and one linear layer (such as classifier=cam_net "
        "or resnet18); gradcam takes any with convolutions"
    )


@explainer("gradcam", title="Grad-CAM", place=2)
class GradCam(Heatmap):
    """The positive part of the sum of a layer's feature maps, weighted by the mean gradient of the logit in each.

    Source: Selvaraju et al., "Grad-CAM", arXiv 1610.02391, eq. 1 and 2.

    Args:
        layer: dotted name of a layer with feature maps; None for the last convolution.
    """

    layer: Annotated[str | None, maybe(LAYER)]

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.ModuleDict:
        from xmnist.models.canonical import private
        from xmnist.models.layers import Encoder

        network = private(classifier)
        layer = self.layer or _last_convolution(network, example)
        with torch.no_grad():
            code = Encoder(network, layer)(example)
        if code.ndim != 4:
            raise InputError(
                f"layer {layer} has no feature maps: it answers with {'x'.join(map(str, code.shape[1:]))} numbers; "
                f"name one that comes before the images are flattened"
            )
        return nn.ModuleDict({"whole": network, "layer": network.get_submodule(layer)})

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(network, nn.ModuleDict)
        method = attr.LayerGradCam(network["whole"], network["layer"])
        return _enlarged(method.attribute(images, target=targets, relu_attributions=True), images)


def _last_convolution(network: nn.Module, example: Tensor) -> str:
    """Return the convolution that is called last, which need not be the one that was defined last."""
    called: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    if not called:
        raise InputError("it needs a classifier with a convolution")
    return called[-1]


@explainer("guided_gradcam", title="guided Grad-CAM", place=10)
class GuidedGradCam(GradCam):
    """Grad-CAM times guided backpropagation: the former's localisation, the latter's detail.

    Source: Selvaraju et al., arXiv 1610.02391, section 3.2.
    """

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.ModuleDict:
        from xmnist.models.canonical import with_relus

        return nn.ModuleDict({**super().prepare(classifier, example), "guided": with_relus(classifier)})

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        assert isinstance(network, nn.ModuleDict)
        guided = attr.GuidedBackprop(network["guided"]).attribute(images, target=targets)
        return super().attribute(network, images, targets) * summed(guided)


def _enlarged(maps: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)
