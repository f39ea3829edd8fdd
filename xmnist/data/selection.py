"""Which test images are explained."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from xmnist.data.names import numbered
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)


def choose(select: dict[str, Any], labels: Tensor, seen: Tensor, classes: Sequence[str]) -> Tensor:
    """Rows (K,) of the images that a selection takes.

    Args:
        select: its `name`, one of `SELECTIONS`, and its own options.
        labels: true classes (N,).
        seen: the classes that the classifier sees (N,).
        classes: their names.

    Raises:
        InputError: there is no such image, or no such class.
    """
    check_indices(select, len(labels))
    options = numbered(select, classes)
    name = options.pop("name")
    rows = SELECTIONS[name](labels.cpu(), seen.cpu(), **options)
    if not len(rows):
        raise InputError(f"select={name}: there is no such test image{_asked(options, classes)}")
    return rows


def check_indices(select: dict[str, Any], count: int) -> None:
    """Find out whether the images that are asked for by number are among `count`.

    Raises:
        InputError: names the first that is not.
    """
    beyond = [i for i in select.get("indices", []) if i >= count]
    if beyond:
        raise InputError(f"select.indices: there is no test image {beyond[0]} (they run from 0 to {count - 1})")


def _asked(options: dict[str, Any], classes: Sequence[str]) -> str:
    named = {"label": "true class", "true": "true class", "predicted": "predicted class"}
    said = [f"{what} {classes[options[key]]}" for key, what in named.items() if options.get(key) is not None]
    return f" ({', '.join(said)})" if said else ""


def _per_class(labels: Tensor, seen: Tensor, count: int, label: int | None) -> Tensor:
    among = labels.unique() if label is None else labels[labels == label][:1]
    rows = [(labels == each).nonzero()[:count, 0] for each in among]
    if not rows:
        return torch.empty(0, dtype=torch.long)
    wanted = count * len(rows)
    return _told(torch.cat(rows), wanted, f"{count} of each class")


def _mixed(labels: Tensor, seen: Tensor, correct: int, wrong: int, label: int | None, seed: int) -> Tensor:
    right = _drawn(_of(labels, label) & (labels == seen), correct, seed, "classified right")
    return torch.cat([right, _drawn(_of(labels, label) & (labels != seen), wrong, seed, "classified wrong")])


def _misclassified(labels: Tensor, seen: Tensor, count: int, label: int | None, seed: int) -> Tensor:
    return _drawn(_of(labels, label) & (labels != seen), count, seed, "classified wrong")


def _confusion(labels: Tensor, seen: Tensor, true: int, predicted: int, count: int) -> Tensor:
    rows = ((labels == true) & (seen == predicted)).nonzero()[:, 0]
    return _told(rows[:count], count, f"of true class {true} and predicted class {predicted}")


def _indices(labels: Tensor, seen: Tensor, indices: list[int]) -> Tensor:
    return torch.tensor(indices)


def _sample(labels: Tensor, seen: Tensor, count: int | None, label: int | None, seed: int) -> Tensor:
    among = _of(labels, label)
    return _drawn(among, int(among.sum()) if count is None else count, seed, "any")


SELECTIONS: dict[str, Callable[..., Tensor]] = {
    **{"per_class": _per_class, "mixed": _mixed, "misclassified": _misclassified},
    **{"confusion": _confusion, "indices": _indices, "sample": _sample},
}


def _of(labels: Tensor, label: int | None) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool) if label is None else labels == label


def _drawn(among: Tensor, count: int, seed: int, what: str) -> Tensor:
    """`count` random rows where `among` (N,) is true."""
    rows = among.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(derive_seed(seed, what))
    return _told(rows[torch.randperm(len(rows), generator=generator)[:count]], count, what)


def _told(rows: Tensor, wanted: int, what: str) -> Tensor:
    """The rows; fewer than wanted are told."""
    if 0 < len(rows) < wanted:  # none at all is an error
        log.warning("%d test images were asked for (%s), there are %d", wanted, what, len(rows))
    return rows
