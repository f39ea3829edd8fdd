"""Building blocks: input normalisation, the published initialisation, and access to a layer by its name."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmnist.runtime import distributed
from xmnist.runtime.errors import InputError, unknown
from xmnist.runtime.seeds import derive_seed

HALF_A_LEVEL = 0.5 / 255
"""Half of the difference between two values of a pixel of 8 bits."""


class Normalize(nn.Module):
    """Input normalisation: subtracts a mean and divides by a standard deviation for each channel.

    It is a classifier's first layer, so that everything outside works on pixels in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    @torch.no_grad()
    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Set mean and standard deviation (C,) of the training images.

        A channel that varies by less than half a gray level is centred and not scaled: scaling would amplify the
        smallest noise of a test image until it dominates the input.
        """
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(std.masked_fill(std < HALF_A_LEVEL, 1).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def fit_normalisation(model: nn.Module, images: Tensor) -> None:
    """Fit a model's `Normalize` layers to training images (N, C, H, W), in memory or on disk."""
    on_disk = getattr(images, "moments", None)
    mean, std = on_disk() if on_disk else (images.mean((0, 2, 3)), images.std((0, 2, 3)))
    for module in model.modules():
        if isinstance(module, Normalize):
            module.fit(mean, std)


def plain(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Return a copy of a linear layer as torch's own class: a subclass may change its bias, such as clamp it."""
    twin = copy.deepcopy(layer)
    twin.__class__ = nn.Conv2d if isinstance(layer, nn.Conv2d) else nn.Linear
    return twin


def initialise(model: nn.Module) -> None:
    """Draw every weight from Glorot's uniform distribution and set every bias to 0, as Keras does."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def sequence(**parts: nn.Module) -> nn.Sequential:
    """Return a sequence of named parts with the published initial weights."""
    network = nn.Sequential(OrderedDict(parts))
    initialise(network)
    return network


def normed_convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution without biases, followed by BatchNorm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def names_of(network: nn.Module, attribute: str) -> tuple[str, ...]:
    """Return the dotted names in a classifier's `layers` or `gates`; none where the attribute is something else."""
    names = getattr(network, attribute, ())
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if named else ()


def _clamp(layer: nn.Conv2d | nn.Linear) -> None:
    """Clamp a layer's biases to at most 0, as LRP's theory assumes."""
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias.clamp_(max=0)


class ClampedConv2d(nn.Conv2d):
    """A convolution with no bias above 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        _clamp(self)
        return super().forward(inputs)


class ClampedLinear(nn.Linear):
    """A linear layer with no bias above 0."""

    def forward(self, inputs: Tensor) -> Tensor:
        _clamp(self)
        return super().forward(inputs)


class Dropout(nn.Dropout):
    """torch's dropout, with a mask that is drawn three to four times as fast on CPUs, where torch draws bit by bit.

    Where several processes train, each draws the mask of the whole batch and takes its rows.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        share = distributed.current()
        # Dropout of ones gives the mask itself, drawn for the whole batch so that it does not depend on the processes.
        if share is not None and self.training and self.p:
            return inputs * self._dropped(inputs.new_ones(share.total, *inputs.shape[1:]))[share.rows]
        return self._dropped(inputs)

    def _dropped(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.p or inputs.device.type != "cpu":
            return super().forward(inputs)
        kept = torch.rand(inputs.shape, device=inputs.device) >= self.p
        return inputs * (kept.to(inputs.dtype) / (1 - self.p))


class ThinConvTranspose2d(nn.ConvTranspose2d):
    """torch's transposed convolution, for few output channels: a matrix product, its patches added up to an image.

    Twice as fast on CPUs as torch's own with one output channel; and its gradients are the same with one thread and
    with two.
    """

    def forward(self, inputs: Tensor, output_size: list[int] | None = None) -> Tensor:
        if inputs.device.type != "cpu" or output_size is not None or self.groups > 1 or self.dilation != (1, 1):
            return super().forward(inputs, output_size)
        assert self.bias is not None and not isinstance(self.padding, str)
        height, width = (
            (size - 1) * self.stride[i] - 2 * self.padding[i] + self.kernel_size[i] + self.output_padding[i]
            for i, size in enumerate(inputs.shape[2:])
        )
        patches = F.linear(inputs.flatten(2).transpose(1, 2), self.weight.flatten(1).t())
        image = F.fold(
            patches.transpose(1, 2), (height, width), self.kernel_size, padding=self.padding, stride=self.stride
        )
        bias = self.bias.expand(len(image), -1)[:, :, None, None]  # an image at a time: one sum over all uses threads
        return image + bias.to(image.dtype)


def freeze(model: nn.Module) -> nn.Module:
    """Put a model into eval mode and disable the gradients of its parameters; return it."""
    return model.eval().requires_grad_(False)


class _Scaled(torch.autograd.Function):
    """Batch normalisation with fixed statistics, whose gradient is scaled by the kernel that scales its output."""

    @staticmethod
    def forward(context: Any, inputs: Tensor, mean: Tensor, *rest: Any) -> Tensor:
        variance, weight, bias, epsilon = rest
        context.save_for_backward(variance, weight, torch.zeros_like(mean))
        context.epsilon = epsilon
        return F.batch_norm(inputs, mean, variance, weight, bias, eps=epsilon)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        variance, weight, zero = context.saved_tensors
        scaled = F.batch_norm(gradients[0], zero, variance, weight, zero, eps=context.epsilon)
        return scaled, None, None, None, None, None


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """torch's batch normalisation in eval mode, without the gradients of its parameters that torch computes unasked."""

    def forward(self, inputs: Tensor) -> Tensor:
        assert not self.training
        rest = self.running_var, self.weight, self.bias, self.eps
        return _Scaled.apply(inputs, self.running_mean, *rest)


def quick_gradient(model: nn.Module) -> nn.Module:
    """Make a frozen model's input gradient cheaper, which saves a tenth of each step of ClaDec; return the model."""
    for module in model.modules():
        # The exact type only: a subclass may normalise in its own way.
        if type(module) is nn.BatchNorm2d and module.affine and module.track_running_stats:
            module.__class__ = FrozenBatchNorm2d
    return model


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, with the faster layout channels last on CPUs and GPUs; return it."""
    return nn.Module.to(model.to(device), memory_format=torch.channels_last)


def gate(features: Tensor, maps: Tensor) -> Tensor:
    """Multiply features (N, C, h, w) by a map (N, 1, H, W), averaged over windows to their size.

    Every gate calls this function, so that explanation methods that rewrite a network find it again.
    """
    return features * pooled(maps, features)


def pooled(maps: Tensor, features: Tensor) -> Tensor:
    """Average maps (N, 1, H, W) over windows to the size of features (N, C, h, w)."""
    height, width = features.shape[2:]
    return F.adaptive_avg_pool2d(maps, (height, width))


class _Reached(Exception):
    """Signal that the requested layer has its output; the rest of the forward pass is not needed."""


class Encoder(nn.Module):
    """The part of a classifier up to and including one named layer: images to codes.

    Args:
        classifier: any module; it is shared, not copied.
        layer: dotted name of one of its submodules.

    Raises:
        InputError: there is no such layer, or it does not answer with a tensor.
    """

    def __init__(self, classifier: nn.Module, layer: str) -> None:
        super().__init__()
        modules = {name: module for name, module in classifier.named_modules() if name}
        if layer not in modules:
            named = names_of(classifier, "layers") or modules
            raise unknown("layer", layer, named, "its named layers; any other submodule by its dotted path")
        self.classifier = classifier
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        code: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            code.append(output)
            raise _Reached

        handle = self.classifier.get_submodule(self.layer).register_forward_hook(keep)
        try:
            self.classifier(images)
        except _Reached:
            pass
        finally:
            handle.remove()
        if not code or not isinstance(code[0], Tensor):
            reason = "answers with something else" if code else "has no part in the classifier's answer"
            raise InputError(f"layer={self.layer} cannot be looked at: a tensor is needed, and it {reason}")
        return code[0]


class Units(nn.Module):
    """Some units of a layer: numbers of a vector (N, F), or whole feature maps of a spatial code (N, C, H, W)."""

    which: Tensor

    def __init__(self, which: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("which", torch.tensor(which))

    def forward(self, codes: Tensor) -> Tensor:
        return codes.index_select(1, self.which)


Neurons = float | Sequence[int] | None
"""The units of a layer that a decoder gets: a share of them, or their numbers; None for all."""


def units(neurons: float | Sequence[int], width: int, seed: int) -> list[int]:
    """Return selected units of a layer of `width`, in ascending order: a share drawn by seed, or the listed ones.

    Raises:
        InputError: the layer has no such unit.
    """
    if isinstance(neurons, float):
        generator = torch.Generator("cpu").manual_seed(derive_seed(seed, "neurons"))
        drawn = torch.randperm(width, generator=generator, device="cpu")[: max(1, round(neurons * width))]
        return drawn.sort().values.tolist()
    if beyond := [unit for unit in neurons if unit >= width]:
        raise InputError(f"neurons: this layer's units are 0 to {width - 1}, got {beyond[0]}")
    return sorted(neurons)


@torch.no_grad()
def batched(function: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = 250) -> Tensor:
    """Compute `function` of every row of `inputs` without gradients, in batches that fit a processor's cache."""
    results = (function(part) for part in inputs.split(batch_size))
    first = next(results)  # shape, type and layout of the result are known only from a first batch
    layout = torch.channels_last if first.dim() == 4 and first.stride(1) == 1 else torch.contiguous_format
    out = torch.empty((len(inputs), *first.shape[1:]), dtype=first.dtype, device=first.device, memory_format=layout)
    out[: len(first)] = first
    # Each to its place: to join them all at the end would take twice the memory.
    for index, part in enumerate(results, 1):
        out[index * batch_size :][: len(part)] = part
    return out


def blurred(images: Tensor) -> Tensor:
    """Blur images (N, C, H, W) by a Gaussian with a standard deviation of an eighth of their size."""
    from torchvision.transforms.v2.functional import gaussian_blur

    sigma = min(images.shape[2:]) / 8
    size = 2 * min(round(2 * sigma), min(images.shape[2:]) - 1) + 1
    return gaussian_blur(images, [size, size], [sigma, sigma])
