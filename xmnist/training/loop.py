"""The training loop of all models. It is independent of the model: a loss and tensors go in, a history comes out."""

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmnist.config.optimizers import OptimizerDeclaration, ScheduleDeclaration
from xmnist.data.base import Source
from xmnist.runtime import devices, distributed, processes, progress
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

CHECKED = 50
"""Steps between the checks of several processes for a finite loss: all check at the same ones, or some would wait."""

Row = dict[str, float]
"""One epoch: `epoch` (from 1), `lr` at its end, `train_...`, `val_...`, `seconds`, `images_per_second`."""


class NotFiniteError(RuntimeError):
    """The loss became NaN or infinite; the message names epoch and step."""


class StateError(ValueError):
    """A saved state does not belong to this training."""


def fit(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Source,
    validate: Callable[[], Row],
    *,
    figures: Sequence[str] = (),
    seed: int,
    epochs: int,
    batch_size: int,
    precision: str,
    optimizer: OptimizerDeclaration,
    lr: float | Mapping[str, float],
    weight_decay: float,
    schedule: ScheduleDeclaration,
    keep: str,
    stop_patience: int | None,
    stop_delta: float,
    state: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] = lambda state: None,
) -> list[Row]:
    """Train `model` in place and leave the best or the last epoch's weights in it.

    All randomness of an epoch comes from `seed` and the epoch's number, so that a training that is resumed from a saved
    state ends bit for bit like one that was never stopped (on a CPU with the same number of threads).

    Args:
        loss: mean loss of a batch of `data`, or a vector of it and the mean `figures` of that batch.
        data: the training examples, on the model's device.
        validate: figures after an epoch, `loss` among them; called with the model in eval mode.
        figures: names of what `loss` returns beside the loss; the history has their means over an epoch.
        precision: `fp32`, or `bf16`: bfloat16 where that is safe (autocast), while weights and figures stay float32.
        lr: learning rate, or one for each child of the model, by its name; parameters without gradient stay.
        keep: `best` (lowest validation loss) or `last`.
        stop_patience: stop once the validation loss has not fallen by `stop_delta` for more epochs than this.
        state: what `save` was given last, to resume from there.
        save: called after every epoch with everything that is needed to resume.

    Raises:
        NotFiniteError: the training or validation loss is NaN or infinite.
        StateError: `state` belongs to another network or optimiser.
    """
    groups = _groups(model, lr)
    highest = [group["lr"] for group in groups]
    descent = optimizer.build(groups, highest[0], weight_decay)
    scheduler = schedule.build(descent, highest, math.ceil(len(data) / batch_size) * epochs)
    parts = {"model": model, "optimizer": descent, "scheduler": scheduler}
    history, best = _restore(parts, state) if state is not None else ([], {})
    lowered = distributed.parallel(model, devices.autocast(precision, data.device)(loss))
    while len(history) < epochs and not _stopped(history, stop_patience, stop_delta):
        epoch = len(history) + 1
        # A seed per epoch, not a running generator: a resumed training needs no generator state to draw the same.
        own_seed = derive_seed(seed, f"epoch {epoch}")
        torch.manual_seed(own_seed)
        start = time.perf_counter()
        per_step = scheduler if schedule.steps == "step" else None
        means = _epoch(model, lowered, data, batch_size, descent, per_step, epoch, epochs, own_seed)
        seconds = time.perf_counter() - start
        model.eval()
        with progress.activity(f"epoch {epoch}/{epochs}: validating"):
            scores = validate()
        if not math.isfinite(scores["loss"]):
            raise NotFiniteError(f"the validation loss is {scores['loss']} after epoch {epoch}")
        if per_step is None:
            scheduler.step(*([scores["loss"]] if schedule.steps == "loss" else []))
        row = {"epoch": epoch, "lr": descent.param_groups[0]["lr"]}
        row |= {f"train_{name}": value for name, value in zip(("loss", *figures), means, strict=True)}
        row |= {f"val_{name}": value for name, value in scores.items()}
        history.append(row | {"seconds": seconds, "images_per_second": len(data) / seconds})
        # A copy, since the state dict shares its memory with the weights that the next epoch changes.
        if keep == "last" or not best or scores["loss"] < best["loss"]:
            best = {"loss": scores["loss"], "model": copy.deepcopy(model.state_dict())}
        save({**{name: part.state_dict() for name, part in parts.items()}, "history": history, "best": best})
        log.info(_line(history[-1], epochs))
    model.load_state_dict(best["model"])
    model.eval()
    return history


def _groups(model: nn.Module, lr: float | Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the optimiser's parameter groups: the parameters that learn, with their learning rates."""
    children = {"": lr} if isinstance(lr, float | int) else lr
    groups = [
        {"params": [p for p in model.get_submodule(name).parameters() if p.requires_grad], "lr": rate}
        for name, rate in children.items()
    ]
    return [group for group in groups if group["params"]]


def _restore(parts: dict[str, Any], state: dict[str, Any]) -> tuple[list[Row], dict[str, Any]]:
    """Load a saved state into model, optimiser and scheduler; returns its history and its best weights."""
    try:
        parts["model"].load_state_dict(state["best"]["model"])  # a misfit must be reported now, not after the training
        for name, part in parts.items():
            part.load_state_dict(state[name])
        history, best = [dict(row) for row in state["history"]], dict(state["best"])
    except (RuntimeError, LookupError, ValueError, TypeError) as error:
        raise StateError(str(error)) from None
    log.info("going on after epoch %d", len(history))
    return history, best


def _batches(order: Tensor, size: int, model: nn.Module) -> list[Tensor]:
    """Return the rows of each batch; a single last image joins the batch before where there is BatchNorm.

    BatchNorm has no statistics of a single image.
    """
    batches = list(order.split(size))
    alone = len(batches) > 1 and len(batches[-1]) == 1
    if alone and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _epoch(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Source,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    number: int,
    epochs: int,
    seed: int,
) -> list[float]:
    """Train on every row once, in random order; returns the means over rows of the loss and of the other figures.

    Where several processes train, each computes its own rows of every batch and gets the result of the whole batch.
    """
    model.train()
    order = torch.randperm(len(data)).to(data.device)  # drawn on the CPU: the same order on every device
    batches = _batches(order, batch_size, model)
    losses: list[Tensor] = []
    checked = 0

    def check() -> Tensor:
        """Sum the losses since the last check over the processes, and check that they are finite; returns them."""
        nonlocal checked
        losses[checked:] = distributed.summed(torch.stack(losses[checked:]))
        new = torch.stack(losses[checked:])[:, 0]
        _check_finite(new, number, checked)
        checked = len(losses)
        return new

    shares = [distributed.share(len(rows)) for rows in batches]
    local_batches = [rows[share.rows] for rows, share in zip(batches, shares, strict=True)]
    with progress.activity(f"epoch {number}/{epochs}", len(order)) as advance:
        for rows, share, batch in zip(batches, shares, data.batches(local_batches, seed), strict=True):
            with distributed.batch(share):
                values = loss(*batch).reshape(-1)
                optimizer.zero_grad(set_to_none=True)
                (values[0] * share.scale).backward()
            losses.append(values.detach() * share.weight)
            optimizer.step()
            # The one-cycle schedule ends with the last step, after which it has no rate to set.
            if scheduler is not None and scheduler.last_epoch + 1 < scheduler.total_steps:
                scheduler.step()
            progress.display.trained(len(rows))
            drawn = advance(len(rows))  # true now and then, where it is shown: the only time to wait for the device
            if drawn if processes.count() == 1 else len(losses) % CHECKED == 0:
                advance(0, f"loss {check().mean().item():.4g}")
    if checked < len(losses):
        check()
    distributed.share_buffers(model)
    columns = torch.stack(losses)
    # Weighted by size, since the last batch may be smaller than the others.
    sizes = torch.tensor([len(rows) for rows in batches], dtype=torch.float64)
    return (sizes @ columns.cpu().double() / sizes.sum()).tolist()


def _check_finite(losses: Tensor, epoch: int, first: int) -> None:
    bad = (~losses.isfinite()).nonzero().flatten()
    if len(bad):
        step = first + int(bad[0]) + 1
        raise NotFiniteError(
            f"the loss is {losses[bad[0]].item()} in epoch {epoch}, step {step}: try a smaller trainer.lr"
        )


def _stopped(history: Sequence[Row], patience: int | None, delta: float) -> bool:
    """Return whether the validation loss has not fallen by `delta` for more than `patience` epochs."""
    if patience is None:
        return False
    best, waited = math.inf, 0
    for row in history:
        if row["val_loss"] < best - delta:
            best, waited = row["val_loss"], 0
        else:
            waited += 1
    return waited > patience


LOGGED = ("loss", "accuracy", "reconstruction_mse", "reconstruction_bce", "explanation_loss")
"""Validation figures for the log: a line has the first three that exist; history.csv has all."""


def _line(row: Row, epochs: int) -> str:
    names = [name for name in LOGGED if f"val_{name}" in row][:3]
    scores = "  ".join(f"{name.replace('_', ' ')} {row[f'val_{name}']:.4f}" for name in names)
    speed = f"{row['images_per_second']:,.0f} images/s"
    return f"epoch {row['epoch']}/{epochs}  training loss {row['train_loss']:.4f}  validation {scores}  {speed}"
