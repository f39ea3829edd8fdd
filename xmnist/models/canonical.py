"""Rewriting of a classifier so that the libraries' rules see every layer; the function stays the same.

Hooks reach modules, not functions, and one call of each. So a ReLU that is used twice, works in place or is a function
makes guided backpropagation, DeepLIFT and LRP fail, or silently give another method's attribution map. Here the
classifier is traced, and every call becomes a module of its own; a call without a module form is refused, never
passed over.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from xmnist.models.layers import Normalize, gate, pooled
from xmnist.runtime.errors import InputError


def private(classifier: nn.Module) -> nn.Module:
    """Return a frozen copy in eval mode that overwrites no activation in place; the classifier itself is not changed.

    Raises:
        InputError: its output for an image depends on the other images of the batch.
    """
    twin = copy.deepcopy(classifier).eval().requires_grad_(False)
    for name, module in twin.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise InputError(
                f"layer {name}, a {type(module).__name__}, has no running statistics: what the network answers for an "
                f"image depends on the others of its batch"
            )
        if getattr(module, "inplace", False):
            module.inplace = False
    return twin


_ELEMENTWISE: dict[str, type[nn.Module]] = {
    **{"relu": nn.ReLU, "relu_": nn.ReLU, "leaky_relu": nn.LeakyReLU, "leaky_relu_": nn.LeakyReLU},
    **{"elu": nn.ELU, "elu_": nn.ELU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "softplus": nn.Softplus},
    **{"gelu": nn.GELU, "silu": nn.SiLU, "relu6": nn.ReLU6, "hardtanh": nn.Hardtanh, "selu": nn.SELU},
}
_POOLS: dict[str, type[nn.Module]] = {
    **{"max_pool2d": nn.MaxPool2d, "avg_pool2d": nn.AvgPool2d, "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d},
}
# In eval mode these leave every value as it is, so no rule is needed for them.
_IDENTITIES = {"dropout", "dropout_", "dropout2d", "feature_dropout", "contiguous", "detach", "clone"}
_FLATTENINGS = {"flatten", "view", "reshape"}
_SHAPES = _FLATTENINGS | {"size", "getattr", "getitem", "permute", "transpose", "squeeze", "unsqueeze"}
_SUMS = {"add", "add_", "iadd", "iadd_"}
_NO_ACTIVATION = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)


class _Tracer(fx.Tracer):
    """Tracer that enters containers but not layers, including layers that another package derives from torch's."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        is_layer = isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | Normalize)
        return is_layer or super().is_leaf_module(module, name)

    def call_module(self, module: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Call a layer's forward hooks as well, which tracing passes over: gates are forward hooks."""
        answer = super().call_module(module, forward, args, kwargs)
        if self.is_leaf_module(module, self.path_of_module(module)):
            for hook in module._forward_hooks.values():
                changed = hook(module, args, answer)
                answer = answer if changed is None else changed
        return answer


def unrolled(classifier: nn.Module) -> fx.GraphModule:
    """Return the classifier as a graph in which every layer, activation and pooling is called once, as a module.

    Raises:
        InputError: its forward pass depends on the values in the images, or uses a function that no rule is known for.
    """
    root = private(classifier)
    try:
        graph = _Tracer().trace(_of_images(root))
    except Exception as error:  # tracing runs the classifier's own code, which may raise anything
        raise InputError(
            f"its forward pass cannot be traced ({str(error).splitlines()[0]}); it must not depend on pixels"
        ) from None
    called: set[str] = set()
    for node in list(graph.nodes):
        if node.op == "call_module":
            module = root.get_submodule(node.target)
            if isinstance(module, _NO_ACTIVATION):
                bypass(node)
            elif node.target in called:  # a second call of the same module: hooks need one module for each call
                _give(node, root, copy.deepcopy(module))
            called.add(str(node.target))
        elif node.op in ("call_function", "call_method"):
            _module_for(node, root)
    return fx.GraphModule(root, graph)


def _of_images(root: nn.Module) -> nn.Module:
    """Restrict `forward` of the network to images: tracing would also pass its other parameters."""
    forward = type(root).forward
    members = {"forward": lambda self, images: forward(self, images)}
    # A subclass for this instance alone: other networks of the same class keep their `forward`.
    root.__class__ = type(type(root).__name__, (type(root),), members)
    return root


def _module_for(node: fx.Node, root: nn.Module) -> None:
    """Replace the call of a function by the call of a module.

    Raises:
        InputError: there is no such module.
    """
    name = _name(node)
    options = {k: v for k, v in node.kwargs.items() if k not in ("inplace", "training", "input", "return_indices")}
    if name in _ELEMENTWISE or name in _POOLS:
        kind = _ELEMENTWISE.get(name) or _POOLS[name]
        settings = node.args[1 : 2 if kind is nn.LeakyReLU else 4 if name in _POOLS else 1]  # in the order of `kind`
        if len(settings) + 1 < len(node.args):
            raise InputError(f"it calls the function '{name}' with settings by position; name them, or use a module")
        _give(node, root, kind(*settings, **options))
    elif name == "mean" and _dims(node) in ((2, 3), (-2, -1)):
        _give(node, root, nn.AdaptiveAvgPool2d(1))
        # The module keeps height and width of 1, which `mean` without `keepdim` removes.
        if not (node.kwargs.get("keepdim") or True in node.args[2:]):
            with node.graph.inserting_after(node):
                flat = node.graph.call_function(torch.flatten, (node, 1))
                # All users but `flat` itself, which would otherwise become its own input.
                node.replace_all_uses_with(flat, delete_user_cb=lambda user: user is not flat)
    elif name in _IDENTITIES:
        bypass(node)
    elif name in _SUMS and not node.kwargs and all(isinstance(arg, fx.Node) for arg in node.args):
        node.op, node.target = "call_function", sum_of
    elif node.target is not gate and name not in _SHAPES:
        raise InputError(f"it calls the function '{name}', which no rule is known for; use a module of torch.nn")


def _name(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def flattens(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether a node only flattens its input."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.Flatten)
    return node.op in ("call_function", "call_method") and _name(node) in _FLATTENINGS


def _dims(node: fx.Node) -> tuple[int, ...] | None:
    dims: Any = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return tuple(dims) if isinstance(dims, list | tuple) else None


def sum_of(left: Tensor, right: Tensor) -> Tensor:
    """Add two activations; every sum in a graph becomes this function, so that it can be recognised later."""
    return left + right


def source(node: fx.Node) -> fx.Node:
    """Return the node that a node takes its (first) input from."""
    input_node = node.args[0] if node.args else node.kwargs["input"]
    assert isinstance(input_node, fx.Node)
    return input_node


def bypass(node: fx.Node) -> None:
    """Remove a node from its graph; its users take its input instead."""
    node.replace_all_uses_with(source(node))
    node.graph.erase_node(node)


def _give(node: fx.Node, root: nn.Module, module: nn.Module) -> None:
    """Let a node call a module that no other node calls."""
    name = f"own_{node.name}"
    root.add_module(name, module)
    node.args, node.kwargs = (source(node),), {}
    node.op, node.target = "call_module", name


LINEAR = (nn.Conv2d, nn.Linear)
AFFINE = (nn.BatchNorm1d, nn.BatchNorm2d, Normalize)
AVERAGES = (nn.AvgPool2d, nn.AdaptiveAvgPool2d)
SHAPES = (nn.Flatten, nn.Unflatten, nn.ConstantPad2d, nn.ConstantPad3d, nn.PixelShuffle, nn.PixelUnshuffle)
"""Types of layers that methods have rules for, in addition to activations and maximum pooling."""

RULES: dict[str, tuple[type[nn.Module], ...]] = {
    "lrp": (
        *(*LINEAR, *AFFINE, *AVERAGES, *SHAPES, nn.MaxPool2d, nn.AdaptiveMaxPool2d, nn.ReLU, nn.LeakyReLU, nn.ELU),
        *(nn.Sigmoid, nn.Tanh, nn.Softplus, nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardtanh, nn.SELU),
    ),
    "rescale": (
        *(*LINEAR, *AFFINE, *AVERAGES, *SHAPES, nn.ConvTranspose2d, nn.Upsample, nn.MaxPool2d, nn.ReLU, nn.ELU),
        *(nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.Softplus),
    ),
}
"""Allowed types of the layers of an unrolled network, by method; every other type is refused."""


def check_rules(network: fx.GraphModule, method: str, nodes: Iterable[fx.Node]) -> None:
    """Check that a method, one of `RULES`, has a rule for the layers at these nodes of an unrolled network.

    Raises:
        InputError: names a layer that it has no rule for.
    """
    for node in nodes:
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and not isinstance(module, RULES[method]):
            raise InputError(
                f"it has no rule for layer {node.target}, a {type(module).__name__}; saliency, "
                f"integrated_gradients and occlusion take any network"
            )


def check_activations(network: nn.Module, allowed: tuple[type[nn.Module], ...]) -> None:
    """Check that a network has only activations that a method has a rule for.

    Raises:
        InputError: names one that is not among them.
    """
    for name, module in network.named_modules():
        if type(module).__module__ == nn.ReLU.__module__ and not isinstance(module, allowed):
            rules = ", ".join(kind.__name__ for kind in allowed)
            raise InputError(f"it has no rule for layer {name}, a {type(module).__name__} (rules: {rules})")


def separated(classifier: nn.Module) -> fx.GraphModule:
    """Return the unrolled classifier in the form in which captum's DeepLIFT satisfies completeness.

    Captum's rules replace the whole gradient of a layer's input tensor and read the gradient of its output tensor, so
    each layer needs an input tensor that no other layer uses. Its rule for maximum pooling loses the contributions
    that several windows share, so no windows may overlap. It has no rule for products, so gates get one.

    Raises:
        InputError: as for `unrolled`.
    """
    root = unrolled(classifier)
    check_rules(root, "rescale", root.graph.nodes)
    for node in list(root.graph.nodes):
        if node.target is gate:
            node.target = _shared_gate
        if node.op != "call_module":
            continue
        module = root.get_submodule(str(node.target))
        if isinstance(module, nn.MaxPool2d) and module.stride != module.kernel_size:
            if module.ceil_mode or module.dilation not in (1, (1, 1)):
                raise InputError("it pools overlapping windows with dilation or ceil_mode, which no rule is known for")
            root.add_submodule(str(node.target), _SeparateWindows(module))
        # The clone is the input tensor that no other layer uses.
        with root.graph.inserting_before(node):
            node.args = (root.graph.call_method("clone", (source(node),)),)
    root.recompile()
    return root


class _Product(torch.autograd.Function):
    """A product whose change is distributed evenly: each factor gets its own change times the other's mean.

    With factors a, b and their baselines a0, b0: a b - a0 b0 = (a - a0) (b + b0) / 2 + (b - b0) (a + a0) / 2. The batch
    holds the images, then their baselines.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(features, maps)
        return features * maps

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        features, maps = (sum(factor.chunk(2)).repeat(2, 1, 1, 1) / 2 for factor in ctx.saved_tensors)
        # The map has one channel, which all channels of the features were multiplied by.
        return grads[0] * maps, (grads[0] * features).sum(1, keepdim=True)


def _shared_gate(features: Tensor, maps: Tensor) -> Tensor:
    """Apply a gate with DeepLIFT's rule for products; one map for all images is a constant, which needs no rule."""
    if len(maps) != len(features):
        return gate(features, maps)
    return _Product.apply(features, pooled(maps, features))


class _SeparateWindows(nn.Module):
    """Maximum pooling on copies of its windows, so that no two windows overlap."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        (self.rows, self.columns), self.strides = _pair(pool.kernel_size), _pair(pool.stride)
        self.padding = _pair(pool.padding)
        self.largest = nn.MaxPool2d((1, self.rows * self.columns))

    def forward(self, inputs: Tensor) -> Tensor:
        (down, across), lowest = self.padding, torch.finfo(inputs.dtype).min / 2
        # `unfold` does not pad; padding that no activation is below never wins, as in `MaxPool2d`.
        padded = nn.functional.pad(inputs, (across, across, down, down), value=lowest)
        windows = padded.unfold(2, self.rows, self.strides[0]).unfold(3, self.columns, self.strides[1])
        return self.largest(windows.flatten(4).flatten(2, 3)).view(windows.shape[:4])


def _pair(size: int | tuple[int, ...]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def with_relus(classifier: nn.Module) -> nn.Module:
    """Return the unrolled classifier with ReLUs as its only rectifiers, so that captum's rules reach all of them.

    Sigmoid and tanh, which rectify nothing, keep their own derivative.

    Raises:
        InputError: it has other activations, or cannot be unrolled.
    """
    network = unrolled(classifier)
    check_activations(network, (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh))
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.LeakyReLU):
            network.add_submodule(name, _Leaky(module.negative_slope))
    return network


class _Leaky(nn.ReLU):
    """A leaky ReLU that captum treats as a ReLU: its backpropagated signal is rectified too."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.leaky_relu(inputs, self.slope)
