"""Data structures of all data sets. Imports torch when it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol

from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, torch


class Source(Protocol):
    """Rows that belong together, given in batches."""

    device: torch.device

    def __len__(self) -> int: ...

    def batches(self, rows: Sequence[Tensor], seed: int) -> Iterator[tuple[Tensor, ...]]:
        """Yield the rows of each batch; `seed` draws their random changes."""
        ...


class Columns(Source):
    """Tensors in memory, with one row an example."""

    def __init__(self, *columns: Tensor) -> None:
        self.columns = columns
        self.device = columns[0].device

    def __len__(self) -> int:
        return len(self.columns[0])

    def batches(self, rows: Sequence[Tensor], seed: int = 0) -> Iterator[tuple[Tensor, ...]]:
        """Yield the rows of each batch."""
        return (tuple(column[part] for column in self.columns) for part in rows)


@dataclass(frozen=True)
class Info:
    """Shape of one image (C, H, W), the names of the classes in label order, and whether images have masks.

    `read` lists the files that were read, those that were not, and changes in reading; `files` are the names of the
    test images' files, where these are images of their own.
    """

    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    masks: bool = False
    read: tuple[str, ...] = field(default=(), compare=False)
    files: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) in [0, 1], labels (N,), and where known masks (N, 1, H, W), True on the object.

    Where the objects have boxes, these are whole numbers (N, K, 4): first column, first row, last column, last row; -1
    for none.
    """

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None
    boxes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Split:
        return replace(self, **{name: column[rows] for name, column in self._columns().items()})

    def subset(self, rows: Tensor) -> Split:
        """Return these rows, in memory or on disk as the split itself."""
        return self[rows]

    def source(self, *names: str) -> Source:
        """Return a source of these columns, for training."""
        return Columns(*(getattr(self, name) for name in names))

    def parts(self, size: int = 250) -> Iterator[Split]:
        """Yield the split in parts of `size` images."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def _columns(self) -> dict[str, Tensor]:
        columns = {f.name: getattr(self, f.name) for f in fields(Split)}
        return {name: column for name, column in columns.items() if column is not None}

    def to(self, device: torch.device) -> Split:
        """Return the same split on another device."""
        return replace(self, **{name: column.to(device) for name, column in self._columns().items()})


def box_masks(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the pixels (N, 1, H, W) in any box (N, K, 4) of each image, for images of `shape` (N, C, H, W)."""
    masks = torch.zeros(len(boxes), 1, *shape[2:], dtype=torch.bool)
    rows, columns = torch.arange(shape[2]), torch.arange(shape[3])
    for left, top, right, bottom in boxes.permute(1, 2, 0)[..., None]:
        down = (rows >= top) & (rows <= bottom) & (bottom >= 0)
        masks[:, 0] |= down[:, :, None] & ((columns >= left) & (columns <= right))[:, None]
    return masks


@dataclass(frozen=True)
class Data:
    """A data set: training, validation and test images; the test images are only ever tested on.

    `class_weights` (K,) are the weights of the classes in training; None if all are equal.
    """

    train: Split
    validation: Split
    test: Split
    info: Info
    class_weights: Tensor | None = None

    def description(self) -> dict[str, Any]:
        """Return shape, classes, masks, and the number of images of each class in every split, as plain values."""
        count = len(self.info.classes)
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = {name: split.labels.bincount(minlength=count).tolist() for name, split in splits.items()}
        facts = {key: value for key, value in asdict(self.info).items() if value != () and key != "files"}
        return facts | {"images": counts}

    def balanced(self) -> Data:
        """Return the same data with class weights N / (K n_k): in training, all classes count alike."""
        counts = self.train.labels.bincount(minlength=len(self.info.classes)).float()
        return replace(self, class_weights=len(self.train) / (len(counts) * counts))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Data:
        """Return the same data with `function` applied to the images, in memory, and without masks."""

        def mapped(split: Split) -> Split:
            return Split(torch.cat([function(part.images) for part in split.parts()]), split.labels)

        return replace(self, train=mapped(self.train), validation=mapped(self.validation), test=mapped(self.test))

    def to(self, device: torch.device) -> Data:
        """Return the same data on another device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
            class_weights=None if self.class_weights is None else self.class_weights.to(device),
        )


def cut_validation(train: Split, test: Split, info: Info, share: float, seed: int) -> Data:
    """Split off `share` of the training images, the same of every class, as validation images.

    Raises:
        InputError: a class has too few images to be on both sides, or a label is no class.
    """
    for name, split in (("training", train), ("test", test)):
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(info.classes):
            raise InputError(f"the {name} labels run from {low} to {high}, but there are {len(info.classes)} classes")
    held = stratified(train.labels, info, share, seed)
    return Data(train.subset(~held), train.subset(held), test, info)


def stratified(labels: Tensor, info: Info, share: float, seed: int) -> Tensor:
    """Return the rows (N,) to hold back: `share` of every class, at least one image.

    Raises:
        InputError: a class has too few images to be on both sides.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in range(len(info.classes)):
        rows = order[labels[order] == label]
        cut = max(1, round(share * len(rows)))  # every class is validated, however small
        if len(rows) and cut >= len(rows):
            raise InputError(f"class '{info.classes[label]}' has {len(rows)} images: too few to hold any back")
        held[rows[:cut]] = True
    return held


def few(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return the rows (N,) of a random subset of `count` with the same share of each class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # Ranks in (0, 1) within each class: the smallest ranks overall take the same share of every class.
    ranks = torch.empty(len(labels))
    for label in labels.unique():
        rows = order[labels[order] == label]
        ranks[rows] = (torch.arange(len(rows)) + 0.5) / len(rows)
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[ranks.argsort(stable=True)[:count]] = True
    return chosen
