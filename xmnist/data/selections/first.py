"""Test images in their own order: the first of each class or of a confusion, or those with given numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

from xmnist.config.rules import CLASS, list_of, whole
from xmnist.data.selection import AnyClass, Selection, counted, selection
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, torch


@selection("per_class", later=("label",))
class PerClass(Selection):
    """The first test images of each class."""

    count: Annotated[int, whole(1), "of each class"]
    label: AnyClass = None

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        among = labels.unique() if self.label is None else labels[labels == int(self.label)][:1]
        rows = [(labels == label).nonzero()[: self.count, 0] for label in among]
        if not rows:
            return torch.empty(0, dtype=torch.long)
        return counted(torch.cat(rows), self.count * len(rows), f"{self.count} of each class")


@selection("confusion")
class Confusion(Selection):
    """The first test images of one class that are misclassified as another."""

    true: Annotated[str | int, CLASS, "true class, by name or number"]
    predicted: Annotated[str | int, CLASS, "predicted class, by name or number"]
    count: Annotated[int, whole(1), "how many"]

    def numbered(self, classes: Sequence[str]) -> Self:
        resolved = super().numbered(classes)
        if resolved.true == resolved.predicted:
            raise InputError("select=confusion needs two classes, but select.true and select.predicted are the same")
        return resolved

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        rows = ((labels == int(self.true)) & (predicted == int(self.predicted))).nonzero()[:, 0]
        description = f"of true class {self.true} and predicted class {self.predicted}"
        return counted(rows[: self.count], self.count, description)


@selection("indices")
class Indices(Selection):
    """Test images by their numbers, from 0."""

    indices: Annotated[list[int], list_of(whole(0)), "numbers of test images, from 0"]

    def check(self, count: int) -> None:
        beyond = [index for index in self.indices if index >= count]
        if beyond:
            raise InputError(f"select.indices: there is no test image {beyond[0]} (they run from 0 to {count - 1})")

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        return torch.tensor(self.indices)
