"""One training on several processes: each computes its rows of every batch, and ends with the whole batch's result.

With one process, nothing here does anything, and torch.distributed is not started.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from xmnist.runtime import processes

_rank, _size = 0, 1
"""This process and how many there are; one, until `started` has brought them together."""


@contextmanager
def started(device: torch.device) -> Iterator[None]:
    """Bring the processes together that torchrun started.

    A process that fails leaves at once: the others find its connections closed, or are ended by torchrun.
    """
    global _rank, _size
    if processes.count() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    own = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(own, timeout=timedelta(days=7))  # the first may wait for a run that is done elsewhere
    _rank, _size = dist.get_rank(), dist.get_world_size()
    yield
    _rank, _size = 0, 1
    dist.destroy_process_group()


def agreed(value: Any) -> Any:
    """The first process's value, on all of them; none goes on before the first has come here."""
    if _size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


@contextmanager
def claimed(claim: Callable[[], AbstractContextManager[bool]]) -> Iterator[bool]:
    """What the first process is told by `claim`, which it holds for all; they leave once it has let go."""
    with nullcontext(False) if _rank else claim() as needed:
        yield agreed(needed)
    agreed(None)


@contextmanager
def alone() -> Iterator[None]:
    """In this block, which the first process alone may enter, it shares nothing with the others."""
    global _size
    before, _size = _size, 1
    try:
        yield
    finally:
        _size = before


@dataclass(frozen=True)
class Share:
    """The rows of a batch of `total` that this process computes, and what each process's rows weigh in its mean."""

    total: int
    rows: slice
    weights: tuple[float, ...]

    @property
    def weight(self) -> float:
        """What this process's rows weigh."""
        return self.weights[_rank]


_share: Share | None = None
"""This process's share of the batch that is being trained on."""


def share(total: int) -> Share:
    """A process's share of so many rows; where there are fewer than processes, each computes them all."""
    if total < _size:
        return Share(total, slice(0, total), (1 / _size,) * _size)
    ends = [total * place // _size for place in range(_size + 1)]
    weights = tuple((end - start) / total for start, end in pairwise(ends))
    return Share(total, slice(ends[_rank], ends[_rank + 1]), weights)


def current() -> Share | None:
    """This process's share of the batch that is being trained on; None where that is all of it."""
    return _share


@contextmanager
def batch(model: nn.Module, total: int) -> Iterator[None]:
    """In this block, the model treats its rows as part of a batch of `total`: BatchNorm has the statistics of all."""
    global _share
    if _size == 1:
        yield
        return
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    try:
        _share = share(total)
        for norm in norms if total >= _size else ():
            norm.forward = partial(_normalise, norm, _share)  # type: ignore[method-assign]
        yield
    finally:
        _share = None
        for norm in norms:
            vars(norm).pop("forward", None)


def backward(values: Tensor, model: nn.Module) -> Tensor:
    """Let the first of these means over the own rows have its gradients; returns the means over the whole batch.

    The parameters' gradients are then those of the whole batch too.
    """
    if _share is None:
        values[0].backward()
        return values.detach()
    own = values * _share.weight
    own[0].backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]  # of the same parameters everywhere
    flat = torch.cat([own.detach(), *(gradient.flatten() for gradient in gradients)])
    dist.all_reduce(flat)
    means, *parts = flat.split([len(own), *(gradient.numel() for gradient in gradients)])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return means


def weighted(mean: Tensor, weight: Tensor) -> Tensor:
    """A mean over the own rows, divided by the sum of their weights, as if it were divided by the whole batch's."""
    if _share is None:
        return mean
    whole = weight.clone()
    dist.all_reduce(whole)
    return mean * (weight / (whole * _share.weight))


def measured(measure: Callable[[Any], dict[str, float]], split: Any) -> dict[str, float]:
    """What `measure` finds in a split: means over its rows, of which each process looks at its own."""
    if _size == 1:
        return measure(split)
    own = share(len(split))
    found = measure(split.subset(torch.arange(len(split))[own.rows]))
    means = torch.tensor(list(found.values()), dtype=torch.float64) * own.weight
    dist.all_reduce(means)
    return dict(zip(found, means.tolist(), strict=True))


def total(sums: Tensor, own: Share) -> Tensor:
    """Sums over the own rows, made sums over all rows."""
    if _size == 1:
        return sums
    dist.all_reduce(sums)
    return sums / _size if own.total < _size else sums


def align(model: nn.Module) -> None:
    """Give a network the first process's weights: other machines may have drawn others."""
    if _size > 1:
        for tensor in model.state_dict().values():
            whole = tensor.contiguous()
            dist.broadcast(whole, 0)
            tensor.copy_(whole)


def _normalise(norm: nn.BatchNorm1d | nn.BatchNorm2d, own: Share, inputs: Tensor) -> Tensor:
    """BatchNorm of the rows in `inputs`, with the statistics of the batch that they are a share of."""
    if not norm.training:
        return type(norm).forward(norm, inputs)
    assert norm.momentum is not None and norm.running_mean is not None and norm.running_var is not None
    assert norm.num_batches_tracked is not None
    with torch.no_grad():
        # torch's own pass over the rows, many times as fast as var_mean; it gives their moments back, and would update
        # running statistics. The table has a row for each process, of which it fills its own.
        unused = norm.running_mean.clone(), norm.running_var.clone()
        moments = torch.stack(torch.batch_norm_update_stats(inputs, *unused, 0.0))
        table = moments.new_zeros(_size, *moments.shape)
        table[_rank] = moments
        dist.all_reduce(table)
        weights, (means, variances) = table.new_tensor(own.weights)[:, None], table.unbind(1)
        mean = (weights * means).sum(0)
        variance = (weights * (variances + (means - mean).square())).sum(0)
        count = own.total * inputs[0, 0].numel()
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
    return _Normalised.apply(inputs, norm.weight, norm.bias, mean, variance, norm.eps, count)


class _Normalised(torch.autograd.Function):
    """Normalisation with given moments, and BatchNorm's gradients: `count` values a channel had a part in them."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float, count: int
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, mean, variance)
        ctx.eps, ctx.count = eps, count
        return nn.functional.batch_norm(inputs, mean, variance, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        inputs, weight, mean, variance = ctx.saved_tensors
        direct, *own = torch.ops.aten.native_batch_norm_backward(
            *(gradients[0], inputs, weight, mean, variance, None, None, False, ctx.eps, [True, True, True])
        )
        both = torch.stack(own)
        dist.all_reduce(both)
        # What each value does through the moments of all: -weight / std * (sum(dy) + x_normalised * sum(dy x)) / count
        scale = weight * (variance + ctx.eps).rsqrt() / ctx.count
        slope = -scale * both[0] * (variance + ctx.eps).rsqrt()
        constant = -scale * both[1] - slope * mean
        slope, constant = (each.view(-1, *[1] * (inputs.dim() - 2)) for each in (slope, constant))
        wide = direct.to(slope.dtype)
        wide.addcmul_(inputs, slope).add_(constant)
        return wide.to(inputs.dtype), *own, None, None, None, None
