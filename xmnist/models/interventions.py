"""Interventions on a network for sanity checks of explanations: an equivalent rewriting, and randomised parameters."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xmnist.models.layers import plain
from xmnist.runtime.seeds import derive_seed


@torch.no_grad()
def rewritten(network: nn.Module, shape: tuple[int, ...], seed: int) -> nn.Module:
    """Return a copy that computes the same function of images in [0, 1] with other layers.

    The first convolution or linear layer, y = W x + b, becomes two with a ReLU between: y = M' (relu(M W x + M b + c) -
    c). M is orthogonal, and c is so large that the ReLU is the identity, also for images somewhat beyond [0, 1].

    Args:
        shape: of one image, (C, H, W).
        seed: of M.
    """
    twin = copy.deepcopy(network).eval()
    name, layer = next((n, m) for n, m in twin.named_modules() if isinstance(m, nn.Linear | nn.Conv2d) and _whole(m))
    largest: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, args: largest.append(args[0].abs().max()))
    # The range of the layer's input is taken from the two extreme images, all 0 and all 1.
    black = layer.weight.new_zeros(1, *shape)
    twin(torch.cat([black, black + 1]))
    handle.remove()
    count = len(layer.weight)
    generator = torch.Generator().manual_seed(derive_seed(seed, "another way to write a layer"))
    drawn = torch.randn(count, count, generator=generator, dtype=torch.float64)
    mixing = torch.linalg.qr(drawn).Q.to(layer.weight)
    first = plain(layer)
    second = nn.Conv2d(count, count, 1) if isinstance(layer, nn.Conv2d) else nn.Linear(count, count)
    weight = torch.einsum("ij,j...->i...", mixing, layer.weight)
    bias = mixing @ layer.bias if layer.bias is not None else weight.new_zeros(count)
    # The sum of absolute weights bounds the output; the factor 2 leaves room beyond [0, 1].
    shift = 2 * largest[0] * weight.flatten(1).abs().sum(1) + bias.abs()
    first.weight, first.bias = nn.Parameter(weight), nn.Parameter(bias + shift)
    back = mixing.T.contiguous()
    second.weight = nn.Parameter(back[:, :, None, None] if isinstance(second, nn.Conv2d) else back)
    second.bias = nn.Parameter(-back @ shift)
    twin.set_submodule(name, nn.Sequential(first, nn.ReLU(), second))
    return twin.requires_grad_(False)


def _whole(layer: nn.Module) -> bool:
    return getattr(layer, "groups", 1) == 1


@torch.no_grad()
def reset_from_the_top(network: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Yield copies for cascading parameter randomisation, from the logits down, each with the last layer's name.

    A module with weights after a convolution or linear layer (BatchNorm) is reset together with that layer. Weights
    are Glorot's, drawn from the seed; the explainer of a joint network comes after its classifier.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, arXiv 1810.03292, section 3.1, cascading.
    """
    twin = copy.deepcopy(network).eval()
    modules = [(name, module) for name, module in twin.named_modules() if list(module.parameters(recurse=False))]
    for name, module in sorted(reversed(modules), key=lambda pair: pair[0].startswith("explainer.")):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            generator = torch.Generator().manual_seed(derive_seed(seed, f"reset of {name}"))
            fresh = nn.init.xavier_uniform_(torch.empty(module.weight.shape), generator=generator)
            module.weight.copy_(fresh)
            if module.bias is not None:
                module.bias.zero_()
            yield name, copy.deepcopy(twin)
        elif isinstance(getattr(module, "running_mean", None), Tensor):
            module.reset_parameters()
