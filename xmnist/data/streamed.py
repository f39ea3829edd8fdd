"""Images that stay on disk: decoded when asked for, by worker processes in training, and augmented there."""

import logging
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from typing import Any

import torch
from PIL import Image, ImageChops
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from xmnist.data import pixels, voc
from xmnist.data.base import Source, Split
from xmnist.data.layouts import Entry
from xmnist.runtime import distributed
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

Item = tuple[Tensor, Tensor | None]
"""An image (C, H, W) in [0, 1], and its mask (1, H, W) if there is one."""


CPU = torch.device("cpu")


@dataclass(frozen=True)
class Files:
    """The images of a folder, with the settings of their reading.

    Args:
        shape: of an image, (C, H, W).
        masks: `images`, `boxes` or `none`.
        exact: whether images must have this size already; else they are resized.
        background: the colour behind what is transparent.
        objects: the names of the objects whose boxes count; None for all.
        largest: the value of white in images of 16 bits.
    """

    entries: tuple[Entry, ...]
    shape: tuple[int, int, int]
    masks: str
    exact: bool
    background: str = "white"
    objects: tuple[str, ...] | None = None
    largest: int = 2**16 - 1

    def read(self, index: int) -> Item:
        """Return one image and its mask.

        Raises:
            InputError: names the file that cannot be read or does not fit.
        """
        image, mask = self.decoded(index)
        return image.float() / 255, mask

    def decoded(self, index: int) -> Item:
        """Return one image as it was decoded, with values from 0 to 255 in 8 bits, and its mask.

        Raises:
            InputError: names the file that cannot be read or does not fit.
        """
        entry, (channels, height, width) = self.entries[index], self.shape
        image = pixels.read_image(entry.image, channels, self.background, self.largest)
        if self.exact and image.size != (width, height):
            raise InputError(
                f"{entry.image} is {pixels.spelled(image.size)} pixels, the first image {width}x{height}; set "
                f"dataset.size to resize them"
            )
        values = _values(image.resize((width, height), Image.Resampling.BILINEAR))
        if self.masks == "none":
            return values, None
        mask = self._mask(entry).resize((width, height), Image.Resampling.BILINEAR)
        return values, _values(mask) >= 128

    def _mask(self, entry: Entry) -> Image.Image:
        """Return the mask of an image, the union where there are several."""
        if self.masks == "boxes":
            assert entry.boxes is not None, "a folder's boxes are all there, or not used"
            return voc.read_boxes(entry.boxes, entry.image, self.objects)
        masks = (pixels.read_mask(path, entry.image) for path in entry.masks)
        return reduce(ImageChops.lighter, masks)

    def checked(self) -> tuple["Files", dict[str, int]]:
        """Return these files with settings that fit them, and the number of images of each kind of change in reading.

        Raises:
            InputError: names the first file that is damaged, or does not fit.
        """
        counts: Counter[str] = Counter()
        deepest = 0
        for entry in self.entries:
            notes, largest = pixels.facts(entry.image)
            counts, deepest = counts + notes, max(deepest, largest)
            upright, stored = pixels.sizes(entry.image)
            if self.masks == "boxes":
                self._mask(entry)
            elif self.masks == "images":
                for path in entry.masks:
                    # Reading the header is enough where the sizes fit; `read_mask` raises the error where they do not.
                    if pixels.sizes(path)[0] not in (upright, stored):
                        pixels.read_mask(path, entry.image)
            if self.masks != "none" and notes[pixels.TURNED] and upright == stored:
                counts["whose ground truth is taken as drawn on the upright image"] += 1
            counts["with 16 bits"] += largest > 0
        if counts[pixels.TRANSPARENT]:
            counts[f"laid on {self.background}"] = counts.pop(pixels.TRANSPARENT)
        if 0 < deepest < 2**12:
            counts["with 12 of 16 bits, 4095 being white"] = counts.pop("with 16 bits")
        largest = 2**12 - 1 if 0 < deepest < 2**12 else self.largest
        return replace(self, largest=largest), dict(+counts)


def _values(image: Image.Image) -> Tensor:
    from torchvision.transforms.v2.functional import pil_to_tensor  # takes seconds

    return pil_to_tensor(image)


class _Reader(Dataset):
    """Reader of images by index, each augmented by its own seed; it returns an `InputError` instead of raising it."""

    def __init__(self, files: Files, aug_prob: float) -> None:
        self.files, self.aug_prob = files, aug_prob

    def __getitem__(self, wanted: tuple[int, int]) -> Item | InputError:
        index, seed = wanted
        try:
            if not self.aug_prob:
                return self.files.decoded(index)
            item = self.files.read(index)
        except InputError as error:
            return error
        return augmented(item, self.aug_prob, seed)


def augmented(item: Item, probability: float, seed: int) -> Item:
    """Augment an image and its mask, each change with this probability; image and mask move together."""
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    def maybe(change: Any) -> Any:
        return v2.RandomApply([change], probability)

    image, mask = item
    side = min(image.shape[1:])
    quarter = [v2.RandomRotation((angle, angle)) for angle in (90, 180, 270)]
    moves = [
        maybe(v2.RandomChoice(quarter)) if image.shape[1] == image.shape[2] else v2.Identity(),
        v2.RandomHorizontalFlip(probability),
        v2.RandomVerticalFlip(probability),
        maybe(v2.RandomAffine(45, translate=(0.06, 0.06), scale=(0.9, 1.1))),
        maybe(v2.ElasticTransform(alpha=side / 4, sigma=side / 16)),
    ]
    changes = [
        maybe(v2.GaussianNoise(sigma=0.05)),
        maybe(v2.GaussianBlur(3)),
        v2.RandomEqualize(probability),
        v2.RandomAdjustSharpness(2.0, probability),
        maybe(v2.ColorJitter(brightness=0.2, contrast=0.2)),
        *([maybe(v2.ColorJitter(saturation=0.3, hue=0.05))] if len(image) == 3 else []),
    ]
    together = v2.Compose([*moves, *changes])
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed the devices' generators
        if mask is None:
            return together(tv_tensors.Image(image)).as_subclass(Tensor).clamp(0, 1), None
        image, mask = together(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor).clamp(0, 1), mask.as_subclass(Tensor)


def _stacked(items: list[Item | InputError]) -> tuple[Any, Any] | InputError:
    """Stack a batch as NumPy arrays: they pass a worker's pipe, tensors pass /dev/shm, which may be small."""
    for item in items:
        if isinstance(item, InputError):
            return item
    images, masks = zip(*items, strict=True)
    return torch.stack(images).numpy(), None if masks[0] is None else torch.stack(masks).numpy()


@cache
def workers_work() -> bool:
    """Return whether worker processes can be started: they need semaphores, which a system may lack."""
    try:
        multiprocessing.get_context().Lock()
    except OSError as error:
        log.warning("images are read without workers: no semaphores can be made (%s)", error.strerror)
        return False
    return True


@dataclass(frozen=True)
class Column:
    """The images or masks at some positions of a folder; indexing reads them as a tensor."""

    files: Files
    places: Tensor
    name: str
    workers: int
    device: torch.device = CPU

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.files.shape
        return len(self), channels if self.name == "images" else 1, height, width

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        indices = self.places[_on_cpu(rows)]
        if not len(indices):
            return torch.empty(0, *self.shape[1:], dtype=torch.float if self.name == "images" else torch.bool)
        return torch.cat([getattr(part, self.name) for part in self._read(indices.split(250))])

    def to(self, device: torch.device) -> "Column":
        """Return the same images, moved to another device when they are read."""
        return replace(self, device=device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield the images or masks in parts of `size`."""
        return (getattr(part, self.name) for part in self._read(self.places.split(size)))

    def mean(self, dim: int) -> Tensor:
        """Return the mean image, with `dim` 0 as for a tensor."""
        assert dim == 0
        return sum((part.cpu().double().sum(0) for part in self.split(250)), torch.zeros(())).div(len(self)).float()

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (C,) of each channel, in one pass."""
        sums, squares = torch.zeros(2, self.shape[1], dtype=torch.float64)
        share = distributed.share(len(self))
        for part in replace(self, places=self.places[share.rows]).split(250):
            pixels = part.cpu().double()
            sums += pixels.sum((0, 2, 3))
            squares += pixels.square().sum((0, 2, 3))
        sums, squares = distributed.total(torch.stack([sums, squares]), share)
        count = len(self) * self.shape[2] * self.shape[3]
        variance = (squares - sums.square() / count) / (count - 1)
        return (sums / count).float(), variance.clamp_min(0).sqrt().float()

    def _read(self, batches: Sequence[Tensor], aug_prob: float = 0.0, seed: int = 0) -> Iterator[Split]:
        """Yield the images and masks at some positions, each batch as a split with its positions as labels.

        Raises:
            InputError: names a file that cannot be read.
        """
        wanted = [[(index, derive_seed(seed, str(index))) for index in batch.tolist()] for batch in batches]
        workers = min(self.workers, len(wanted) - 1)  # a single batch is not worth a process
        workers = workers if workers > 0 and workers_work() else 0
        reader: Any = _Reader(self.files, aug_prob)
        generator = torch.Generator().manual_seed(seed)  # else it draws from the global one, which dropout needs
        loader = DataLoader(
            reader,
            batch_sampler=wanted,
            num_workers=workers,
            collate_fn=_stacked,
            generator=generator,
        )
        for indices, answer in zip(batches, loader, strict=True):
            if isinstance(answer, InputError):
                raise answer
            images, masks = (None if array is None else torch.from_numpy(array) for array in answer)
            assert images is not None
            images = images.float().div_(255) if images.dtype == torch.uint8 else images
            yield Split(images, indices, masks).to(self.device)


def _on_cpu(rows: Tensor | slice) -> Tensor | slice:
    return rows.cpu() if isinstance(rows, Tensor) else rows


@dataclass(frozen=True)
class Streamed(Split):
    """A split whose images and masks are `Column`s; its parts are read when asked for, only training augments."""

    aug_prob: float = 0.0

    @staticmethod
    def of(files: Files, labels: Tensor, workers: int) -> "Streamed":
        """Return all images of a folder."""
        columns = [Column(files, torch.arange(len(labels)), name, workers) for name in ("images", "masks")]
        images, masks = columns[0], columns[1] if files.masks != "none" else None
        return Streamed(images, labels, masks)  # type: ignore[arg-type]

    @property
    def column(self) -> Column:
        """The images."""
        assert isinstance(self.images, Column)
        return self.images

    def __getitem__(self, rows: Tensor | slice) -> Split:
        """Return these rows, in memory."""
        parts = list(self.column._read(self.column.places[_on_cpu(rows)].split(250)))
        masks = None if self.masks is None else torch.cat([part.masks for part in parts if part.masks is not None])
        return Split(torch.cat([part.images for part in parts]), self.labels[rows], masks)

    def subset(self, rows: Tensor) -> "Streamed":
        indices = self.column.places[_on_cpu(rows)]
        both: dict[str, Any] = dict(self._columns())
        columns = {name: replace(both[name], places=indices) for name in ("images", "masks") if name in both}
        return replace(self, labels=self.labels[rows], **columns)

    def source(self, *names: str) -> Source:
        return _Stream(self, names)

    def parts(self, size: int = 250) -> Iterator[Split]:
        parts = self.column._read(self.column.places.split(size))
        return (replace(part, labels=labels) for part, labels in zip(parts, self.labels.split(size), strict=True))


class _Stream(Source):
    """Columns of a streamed split, for training."""

    def __init__(self, split: Streamed, names: Sequence[str]) -> None:
        self.split, self.names = split, names
        self.device = split.labels.device

    def __len__(self) -> int:
        return len(self.split)

    def batches(self, rows: Sequence[Tensor], seed: int) -> Iterator[tuple[Tensor, ...]]:
        column = self.split.column
        indices = [column.places[part.cpu()] for part in rows]
        for part, split in zip(rows, column._read(indices, self.split.aug_prob, seed), strict=True):
            batch = replace(split, labels=self.split.labels[part])
            yield tuple(getattr(batch, name) for name in self.names)
