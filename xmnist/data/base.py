"""What every data set yields."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from xmnist.errors import InputError


@dataclass(frozen=True)
class Info:
    """Shape of one image (C, H, W) and the names of the classes, in label order."""

    shape: tuple[int, int, int]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) in [0, 1], labels (N,), and masks (N, 1, H, W), True on the object, where known."""

    images: Tensor
    labels: Tensor
    masks: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> "Split":
        return Split(self.images[rows], self.labels[rows], None if self.masks is None else self.masks[rows])

    def to(self, device: torch.device) -> "Split":
        """The same split on another device."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: v.to(device) for k, v in tensors.items() if v is not None})


@dataclass(frozen=True)
class Data:
    """A data set: training, validation and test images; the test images are only ever tested on."""

    train: Split
    validation: Split
    test: Split
    info: Info

    def to(self, device: torch.device) -> "Data":
        """The same data on another device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )


def cut_validation(train: Split, test: Split, info: Info, share: float, seed: int) -> Data:
    """Cut `share` of the training images, the same of every class, off as validation images.

    Raises:
        InputError: a class has too few images to be on both sides, or a label is no class.
    """
    for name, split in (("training", train), ("test", test)):
        low, high = int(split.labels.min()), int(split.labels.max())
        if low < 0 or high >= len(info.classes):
            raise InputError(f"the {name} labels run from {low} to {high}, but there are {len(info.classes)} classes")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held = torch.zeros(len(train), dtype=torch.bool)
    for label in range(len(info.classes)):
        rows = order[train.labels[order] == label]
        cut = max(1, round(share * len(rows)))
        if len(rows) and cut >= len(rows):
            raise InputError(f"class '{info.classes[label]}' has {len(rows)} training images: too few to hold any back")
        held[rows[:cut]] = True
    return Data(train[~held], train[held], test, info)
