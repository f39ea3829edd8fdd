"""Random test images: of all, of those that are misclassified, or some of both kinds."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.rules import SEED, maybe, whole
from xmnist.data.selection import AnyClass, Selection, counted, selection
from xmnist.runtime.lazy import Tensor, torch
from xmnist.runtime.seeds import derive_seed

Seed = Annotated[int, SEED, "of the choice"]


@selection("mixed")
class Mixed(Selection):
    """Random test images: some correctly classified ones, then some misclassified ones."""

    correct: Annotated[int, whole(0), "how many that are classified right"]
    wrong: Annotated[int, whole(0), "how many that are misclassified"]
    label: AnyClass
    seed: Seed

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        among, right = _of(labels, self.label), labels == predicted
        correct = _drawn(among & right, self.correct, self.seed, "classified right")
        return torch.cat([correct, _drawn(among & ~right, self.wrong, self.seed, "classified wrong")])


@selection("misclassified", wrong_alone=True)
class Misclassified(Selection):
    """Random test images that are misclassified."""

    count: Annotated[int, whole(1), "how many"]
    label: AnyClass
    seed: Seed

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        return _drawn(_of(labels, self.label) & (labels != predicted), self.count, self.seed, "classified wrong")


@selection("sample", later=("label",))
class Sample(Selection):
    """Random test images, whatever their predicted class."""

    count: Annotated[int | None, maybe(whole(1)), "how many; null: all"]
    label: AnyClass = None
    seed: Seed

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        among = _of(labels, self.label)
        return _drawn(among, int(among.sum()) if self.count is None else self.count, self.seed, "any")


def _of(labels: Tensor, label: str | int | None) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool) if label is None else labels == int(label)


def _drawn(among: Tensor, count: int, seed: int, description: str) -> Tensor:
    """Return `count` random rows where `among` (N,) is true; the seed of the draw also follows from `description`."""
    rows = among.nonzero()[:, 0]
    generator = torch.Generator().manual_seed(derive_seed(seed, description))
    return counted(rows[torch.randperm(len(rows), generator=generator)[:count]], count, description)
