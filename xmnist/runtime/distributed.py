"""Training on several processes: each computes its rows of a batch, DistributedDataParallel averages gradients.

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
"""Rank of this process and number of processes; one process, until `started` has connected them."""


@contextmanager
def started(device: torch.device) -> Iterator[None]:
    """Connect the processes that torchrun started.

    A process that fails leaves at once: the others find its connections closed, or are ended by torchrun.
    """
    global _rank, _size
    if processes.count() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(days=7))  # the first may wait for a run that is done elsewhere
    _rank, _size = dist.get_rank(), dist.get_world_size()
    yield
    # Not in a `finally`: a process that fails leaves at once, see above.
    _rank, _size = 0, 1
    dist.destroy_process_group()


def agreed(value: Any) -> Any:
    """Return the first process's value on all processes; none continues before the first has arrived here."""
    if _size == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, device=torch.device("cpu"))
    return values[0]


@contextmanager
def claimed(claim: Callable[[], AbstractContextManager[bool]]) -> Iterator[bool]:
    """Yield the result of `claim` of the first process, which holds it for all; they leave after its release."""
    with nullcontext(False) if _rank else claim() as needed:
        yield agreed(needed)
    agreed(None)


@contextmanager
def alone() -> Iterator[None]:
    """Compute without the other processes in this block, which only the first process may enter."""
    global _size
    before, _size = _size, 1
    try:
        yield
    finally:
        _size = before


@dataclass(frozen=True)
class Share:
    """This process's rows of a batch of `total`, and the weight of each process's rows in the batch's mean."""

    total: int
    rows: slice
    weights: tuple[float, ...]

    @property
    def weight(self) -> float:
        """The weight of this process's rows."""
        return self.weights[_rank]

    @property
    def scale(self) -> float:
        """The factor of the mean over the own rows that makes the mean over processes the mean over all rows."""
        return self.weight * len(self.weights)

    @property
    def everything(self) -> bool:
        """Whether each process computes all rows."""
        return self.rows == slice(0, self.total)


_share: Share | None = None
"""This process's share of the batch that is being trained on."""


def share(total: int) -> Share:
    """Return this process's share of `total` rows; with fewer than two for each process, each computes all rows.

    BatchNorm has no statistics of a single row.
    """
    if total < 2 * _size:
        return Share(total, slice(0, total), (1 / _size,) * _size)
    ends = [total * index // _size for index in range(_size + 1)]
    weights = tuple((end - start) / total for start, end in pairwise(ends))
    return Share(total, slice(ends[_rank], ends[_rank + 1]), weights)


def current() -> Share | None:
    """Return this process's share of the batch that is being trained on; None for a single process."""
    return _share


@contextmanager
def batch(part: Share) -> Iterator[None]:
    """Draw random numbers of rows, in this block, for the whole batch that `part` is a share of."""
    global _share
    _share = part if _size > 1 else None
    try:
        yield
    finally:
        _share = None


class _Loss(nn.Module):
    """A loss as the forward pass of a module that holds the network, for DistributedDataParallel to wrap."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.loss(*batch)


def parallel(model: nn.Module, loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the loss of `model` with gradients averaged over processes; all start from the first one's network.

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
    """Return whether each process normalises its own rows: BatchNorm on CPUs, for which torch has no SyncBatchNorm."""
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
    return _size > 1 and has_batch_norm and not next(model.parameters()).is_cuda


def summed(values: Tensor) -> Tensor:
    """Return the sum of these values over all processes."""
    if _size > 1:
        dist.all_reduce(values)
    return values


def weighted(mean: Tensor, weight: Tensor) -> Tensor:
    """Rescale a mean over the own rows from the sum of their weights to the sum of the whole batch's weights."""
    if _share is None:
        return mean
    return mean * (weight / (summed(weight.clone()) * _share.weight))


def measured(measure: Callable[[Any], dict[str, float]], split: Any) -> dict[str, float]:
    """Return the scores of `measure` on a split: means over its rows, of which each process measures its own."""
    if _size == 1:
        return measure(split)
    part = share(len(split))
    scores = measure(split.subset(torch.arange(len(split))[part.rows]))
    means = summed(torch.tensor(list(scores.values()), dtype=torch.float64) * part.weight)
    return dict(zip(scores, means.tolist(), strict=True))


def total(sums: Tensor, part: Share) -> Tensor:
    """Combine sums over the own rows into sums over all rows."""
    # Where each process computed all rows, the sum over processes counts every row `_size` times.
    return summed(sums) / _size if part.everything else summed(sums)
