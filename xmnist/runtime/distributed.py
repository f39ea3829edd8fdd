"""One training on several processes: each computes its rows of every batch, and DistributedDataParallel the gradients.

With one process, nothing here does anything, and torch.distributed is not started.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

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

    @property
    def scale(self) -> float:
        """What the mean over the own rows is multiplied by, so that the mean over processes is that over all rows."""
        return self.weight * len(self.weights)

    @property
    def everything(self) -> bool:
        """Whether each process computes all rows."""
        return self.rows == slice(0, self.total)


_share: Share | None = None
"""This process's share of the batch that is being trained on."""


def share(total: int) -> Share:
    """A process's share of so many rows; where there are fewer than two for each process, each computes them all.

    BatchNorm has no statistics of a single row.
    """
    if total < 2 * _size:
        return Share(total, slice(0, total), (1 / _size,) * _size)
    ends = [total * place // _size for place in range(_size + 1)]
    weights = tuple((end - start) / total for start, end in pairwise(ends))
    return Share(total, slice(ends[_rank], ends[_rank + 1]), weights)


def current() -> Share | None:
    """This process's share of the batch that is being trained on; None where that is all of it."""
    return _share


@contextmanager
def batch(own: Share) -> Iterator[None]:
    """In this block, what is random about rows is drawn for the whole batch that `own` is a share of."""
    global _share
    _share = own if _size > 1 else None
    try:
        yield
    finally:
        _share = None


class _Loss(nn.Module):
    """A loss as the forward pass of a module that holds the network: what DistributedDataParallel wraps."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(*batch)


def parallel(model: nn.Module, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The loss of `model`, whose gradients are averaged over the processes; all begin with the first one's network.

    Other machines may have drawn other weights. On GPUs, BatchNorm has the statistics of the whole batch from now on.
    """
    if _size == 1:
        return loss
    if next(model.parameters()).is_cuda:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    # A weight with one channel, or a kernel of one pixel, has several layouts that are the same in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # A static graph may leave parameters unused, as the layers of a RefAE's classifier behind the one that it encodes.
    return DistributedDataParallel(_Loss(model, loss), static_graph=True)


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers, as DistributedDataParallel does before a step, and not after it."""
    for buffer in model.buffers() if _size > 1 else ():
        dist.broadcast(buffer, 0)


def normalises_apart(model: nn.Module) -> bool:
    """Whether each process normalises its own rows: BatchNorm on CPUs, for which torch has no SyncBatchNorm."""
    there = any(isinstance(module, _BatchNorm) for module in model.modules())
    return _size > 1 and there and not next(model.parameters()).is_cuda


def summed(values: Tensor) -> Tensor:
    """The sum of these values over all processes."""
    if _size > 1:
        dist.all_reduce(values)
    return values


def weighted(mean: Tensor, weight: Tensor) -> Tensor:
    """A mean over the own rows, divided by the sum of their weights, as if it were divided by the whole batch's."""
    if _share is None:
        return mean
    return mean * (weight / (summed(weight.clone()) * _share.weight))


def measured(measure: Callable[[Any], dict[str, float]], split: Any) -> dict[str, float]:
    """What `measure` finds in a split: means over its rows, of which each process looks at its own."""
    if _size == 1:
        return measure(split)
    own = share(len(split))
    found = measure(split.subset(torch.arange(len(split))[own.rows]))
    means = summed(torch.tensor(list(found.values()), dtype=torch.float64) * own.weight)
    return dict(zip(found, means.tolist(), strict=True))


def total(sums: Tensor, own: Share) -> Tensor:
    """Sums over the own rows, made sums over all rows."""
    return summed(sums) / _size if own.everything else summed(sums)
