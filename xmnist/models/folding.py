"""Folding of BatchNorm and input normalisation, which LRP has no good rules for, into a classifier's linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from zennit.layer import Sum

from xmnist.models.canonical import bypass, check_rules, flattens, source, sum_of, unrolled
from xmnist.models.layers import Normalize, gate, plain
from xmnist.runtime.errors import InputError


def folded(classifier: nn.Module, example: Tensor) -> fx.GraphModule:
    """Return the unrolled classifier without BatchNorm and input normalisation, and with sums as modules, for LRP.

    At a gate, the features receive all relevance and the map none (the rule for products of Arras et al., 2017, arXiv
    1706.07206).

    Each of these affine layers becomes part of the linear layer before it or, where there is none, of the next linear
    layer after it, past pooling and flattening. The function stays the same (in exact arithmetic).

    Args:
        example: one image (1, C, H, W) or more, to find the layers' shapes.

    Raises:
        InputError: as for `unrolled`.
    """
    graph_module = unrolled(classifier)
    modules = dict(graph_module.named_modules())
    for node in list(graph_module.graph.nodes):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            _fold_back(node, modules, graph_module)
    graph_module.recompile()
    # Folding forward needs the shape of each layer's input: next to padding a bias differs by position.
    ShapeProp(graph_module).propagate(example[:1])
    # From the output on, so that an affine layer is folded after those that follow it.
    for node in reversed(list(graph_module.graph.nodes)):
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | Normalize):
            _fold_forward(node, modules, graph_module)
        elif node.target is gate:
            node.target = gate_for_features
        elif node.target is sum_of:
            with node.graph.inserting_before(node):
                stacked = node.graph.call_function(torch.stack, (list(node.args), -1))
            modules[f"sum_{node.name}"] = Sum()
            graph_module.add_submodule(f"sum_{node.name}", modules[f"sum_{node.name}"])
            node.op, node.target, node.args = "call_module", f"sum_{node.name}", (stacked,)
    inserted = [module for module in graph_module.modules() if isinstance(module, Sum | _ExtremePool2d)]
    carrying = [node for node in carriers(graph_module.graph) if modules.get(str(node.target)) not in inserted]
    check_rules(graph_module, "lrp", carrying)
    graph_module.recompile()
    graph_module.delete_all_unused_submodules()
    return graph_module


def at_pixels(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether a layer's input is the image, pooled or flattened or neither."""
    before = source(node)
    while before.op != "placeholder":
        module = modules.get(str(before.target)) if before.op == "call_module" else None
        pools = isinstance(module, nn.MaxPool2d | _ExtremePool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d)
        if not (pools or flattens(before, modules)):
            return False
        before = source(before)
    return True


def carriers(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that relevance passes from the output to the image; those that compute a gate's map are not."""
    nodes: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in nodes:
            nodes.add(node)
            waiting += node.all_input_nodes[: 1 if node.target is gate_for_features else None]
    return nodes


class _FeaturesTakeAll(torch.autograd.Function):
    """A gate that passes its relevance unchanged to the features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, maps: Tensor) -> Tensor:
        return gate(features, maps)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None]:
        return relevance[0], None


def gate_for_features(features: Tensor, maps: Tensor) -> Tensor:
    """Apply a gate whose relevance the features receive."""
    return _FeaturesTakeAll.apply(features, maps.detach())  # else zennit's hooks meet gradients that are None


def _fold_back(node: fx.Node, modules: dict[str, nn.Module], root: fx.GraphModule) -> None:
    """Fold a BatchNorm into the linear layer directly before it, if there is one."""
    before = source(node)
    layer = modules.get(str(before.target)) if before.op == "call_module" else None
    fuse: Callable[..., nn.Module] | None = None
    if isinstance(layer, nn.Conv2d):
        fuse = fuse_conv_bn_eval
    elif isinstance(layer, nn.Linear):
        fuse = fuse_linear_bn_eval
    # A layer that others use too must keep its output, so the BatchNorm stays.
    if fuse is not None and isinstance(layer, nn.Conv2d | nn.Linear) and len(before.users) == 1:
        _replace(root, modules, before, fuse(plain(layer), modules[str(node.target)]))
        bypass(node)


def _replace(root: fx.GraphModule, modules: dict[str, nn.Module], node: fx.Node, module: nn.Module) -> None:
    root.add_submodule(str(node.target), module)
    modules[str(node.target)] = module


def _fold_forward(node: fx.Node, modules: dict[str, nn.Module], root: fx.GraphModule) -> None:
    """Fold an affine layer into all linear layers that it leads to, if only pooling and flattening lie between them.

    Maximum pooling commutes with a channel's affine function, but for a negative factor it becomes minimum pooling.

    Raises:
        InputError: it is the input's normalisation, and leads to other layers.
    """
    scale, shift = _affine(modules[str(node.target)])
    passed: list[fx.Node] = []
    linear: list[fx.Node] = []
    waiting = list(node.users)
    while waiting:
        after = waiting.pop()
        module = modules.get(str(after.target)) if after.op == "call_module" else None
        if isinstance(module, nn.Conv2d | nn.Linear):
            linear.append(after)
            continue
        # Zeros of padding take part in an average, so it would not commute with the offset.
        average = isinstance(module, nn.AvgPool2d) and module.padding in (0, (0, 0))
        pools = isinstance(module, nn.MaxPool2d | _ExtremePool2d | nn.AdaptiveAvgPool2d)
        if not (flattens(after, modules) or average or pools):
            if isinstance(modules[str(node.target)], Normalize) and node in carriers(node.graph):
                raise InputError(f"the input's normalisation leads to {after.name}, and not to linear layers only")
            return
        if after not in passed:
            passed.append(after)
            waiting += list(after.users)
    for linear_node in dict.fromkeys(linear):
        shape = source(linear_node).meta["tensor_meta"].shape
        _replace(root, modules, linear_node, _merged(modules[str(linear_node.target)], scale, shift, shape))
    for pool in passed:
        pooling = modules.get(str(pool.target))
        if isinstance(pooling, nn.MaxPool2d) and bool((scale < 0).any()):
            _replace(root, modules, pool, _ExtremePool2d(pooling, scale))
        elif isinstance(pooling, _ExtremePool2d):
            _replace(root, modules, pool, _ExtremePool2d(pooling.pool, scale * pooling.sign.flatten()))
    bypass(node)


def _affine(module: nn.Module) -> tuple[Tensor, Tensor]:
    """Return factor and offset (C,) of an affine layer."""
    if isinstance(module, Normalize):
        scale = 1 / module.std.flatten()
        return scale, -module.mean.flatten() * scale
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    assert module.running_mean is not None and module.running_var is not None
    scale = (module.running_var + module.eps).rsqrt()
    if module.affine:
        scale = scale * module.weight
    return scale, (module.bias if module.affine else 0) - module.running_mean * scale


def _merged(layer: nn.Module, scale: Tensor, shift: Tensor, shape: torch.Size) -> nn.Module:
    """Return a linear layer of `scale * x + shift` as a layer of x, which has shape (1, C, ...)."""
    if isinstance(layer, nn.Linear):
        # Flattening puts all positions of a channel next to each other.
        repeat = layer.in_features // len(scale)
        scale, shift = scale.repeat_interleave(repeat), shift.repeat_interleave(repeat)
        merged = nn.Linear(layer.in_features, layer.out_features, device="meta")  # draws no initial weights
        merged.weight = nn.Parameter(layer.weight * scale, requires_grad=False)
        merged.bias = nn.Parameter(layer(shift), requires_grad=False)
        return merged
    assert isinstance(layer, nn.Conv2d)
    return _Conv2dWithBiasMap(layer, scale, shift.view(1, -1, 1, 1).expand(shape))


class _Conv2dWithBiasMap(nn.Conv2d):
    """A convolution whose bias depends on the position: next to zero padding, a constant input is not constant."""

    def __init__(self, conv: nn.Conv2d, scale: Tensor, shift: Tensor) -> None:
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        options = {name: getattr(conv, name) for name in (*names, "padding_mode")}
        super().__init__(**options, bias=False, device="meta")  # draws no initial weights
        factors = scale.view(conv.groups, 1, -1, 1, 1)
        weight = conv.weight.unflatten(0, (conv.groups, -1)) * factors
        self.weight = nn.Parameter(weight.flatten(0, 1), requires_grad=False)
        self.bias = nn.Parameter(conv(shift)[0], requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return self._conv_forward(inputs, self.weight, None) + self.bias


class _ExtremePool2d(nn.Module):
    """Pooling of channels with a positive factor by their maximum, of the others by their minimum."""

    sign: Tensor

    def __init__(self, pool: nn.MaxPool2d, scale: Tensor) -> None:
        super().__init__()
        self.pool = pool
        self.register_buffer("sign", torch.where(scale < 0, -1.0, 1.0).to(scale).view(-1, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.sign * self.pool(self.sign * inputs)
