"""A digit somewhere on a larger canvas, among pieces of other digits: something to find before it is read.

The idea is that of Mnih et al., "Recurrent models of visual attention", arXiv 1406.6247.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from xmnist.config.rules import maybe, whole
from xmnist.data.base import Info, Split, box_masks
from xmnist.data.dataset import Dataset, Masks, Seed, dataset
from xmnist.data.sets.downloaded import Mnist
from xmnist.data.sets.glyphs import Glyphs
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, torch
from xmnist.runtime.seeds import derive_seed

INK = 0.5
"""The smallest value of a pixel of MNIST that belongs to the digit."""

CHUNK = 2000


@dataclass(frozen=True, kw_only=True, eq=False)
class Cluttered(Dataset):
    """Digits placed on a canvas, the same for the same `seed`."""

    masked = True

    seed: Seed
    masks: Masks
    size: Annotated[int, whole(28, 1024), "pixels of the canvas, height and width"]
    fragments: Annotated[int, whole(0, 1000), "pieces of other digits beside the digit"]
    fragment_size: Annotated[int, whole(1, 28), "pixels of a piece, height and width"]

    def digits(self) -> Dataset:
        """The data set that the digits are from."""
        raise TypeError(f"{type(self).__name__} has no digits")

    def info(self) -> Info:
        return Info((1, self.size, self.size), tuple("0123456789"), masks=True)

    def present(self, data_dir: str) -> bool:
        return self.digits().present(data_dir)

    def digest(self, data_dir: str) -> str | None:
        return self.digits().digest(data_dir)

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        out = []
        for part, digits in zip(("train", "test"), self.digits().parts(data_dir)[:2], strict=True):
            random = torch.Generator().manual_seed(derive_seed(self.seed, f"clutter {part}"))
            placed = [
                _placed(digits, slice(start, start + CHUNK), random, self.size, self.fragments, self.fragment_size)
                for start in range(0, len(digits), CHUNK)
            ]
            images, ink, boxes = (torch.cat(column) for column in zip(*placed, strict=True))
            masks = ink if self.masks == "pixels" else box_masks(boxes, images.shape)
            out.append(Split(images, digits.labels, masks, boxes))
        return out[0], out[1], self.info()


@dataset("cluttered_mnist", title="Cluttered MNIST")
class ClutteredMnist(Cluttered):
    """A digit of MNIST somewhere on a larger canvas, among pieces of other digits."""

    train: Annotated[int | None, maybe(whole(20)), "use only the first so many training images; null: all"]
    test: Annotated[int | None, maybe(whole(1)), "use only the first so many test images; null: all"]

    def digits(self) -> Mnist:
        return Mnist(train=self.train, test=self.test)

    def source_note(self) -> str:
        return self.digits().source_note()


@dataset("cluttered_glyphs", drawn=True)
class ClutteredGlyphs(Cluttered, Glyphs):
    """A drawn digit somewhere on a larger canvas, among pieces of other digits."""

    def digits(self) -> Glyphs:
        return Glyphs(**{key: getattr(self, key) for key in Glyphs.keys})


def _placed(
    digits: Split, rows: slice, random: torch.Generator, size: int, fragments: int, piece: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the digits on their canvases: images, ink (N, 1, H, W) and its boxes (N, 1, 4)."""
    batch = digits[rows]
    n, edge = len(batch), batch.images.shape[-1]
    room = size - edge + 1
    positions = torch.randint(room, (2, n), generator=random)
    ink = batch.images >= INK if batch.masks is None else batch.masks
    mask = _pasted(ink.float(), positions, size) > 0
    canvas = _pasted(batch.images, positions, size)
    for _ in range(fragments):
        fragment_rows = _of_another_class(digits.labels, batch.labels, random)
        corner = torch.randint(edge - piece + 1, (2, n), generator=random)
        cut = torch.arange(piece)
        pieces = digits.images[
            fragment_rows[:, None, None], 0, (corner[0, :, None] + cut)[:, :, None], (corner[1, :, None] + cut)[:, None]
        ]
        where = torch.randint(size - piece + 1, (2, n), generator=random)
        canvas = torch.maximum(canvas, _pasted(pieces[:, None], where, size))
    return canvas, mask, _around(mask)


def _pasted(images: Tensor, positions: Tensor, size: int) -> Tensor:
    """Images (N, 1, h, w) on black canvases (N, 1, size, size), their upper left corners at `positions` (2, N)."""
    n, _, height, width = images.shape
    canvas = images.new_zeros(n, 1, size, size)
    rows, columns = positions[0, :, None] + torch.arange(height), positions[1, :, None] + torch.arange(width)
    canvas[torch.arange(n)[:, None, None], 0, rows[:, :, None], columns[:, None]] = images[:, 0]
    return canvas


def _of_another_class(labels: Tensor, excluded: Tensor, random: torch.Generator) -> Tensor:
    """A random row of `labels` for each of `excluded`, with another label."""
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=int(labels.max()) + 1)
    if len(labels) == int(counts.max()):
        raise InputError("cluttered images need digits of two classes at least")
    starts = counts.cumsum(0) - counts
    candidate_counts = len(labels) - counts[excluded]
    drawn = (torch.rand(len(excluded), generator=random, dtype=torch.float64) * candidate_counts).long()
    return order[torch.where(drawn < starts[excluded], drawn, drawn + counts[excluded])]


def _around(mask: Tensor) -> Tensor:
    """The box (N, 1, 4) around what is true in a mask (N, 1, H, W): first column and row, last column and row."""
    rows, columns = mask[:, 0].any(2).int(), mask[:, 0].any(1).int()
    first = [line.argmax(1) for line in (columns, rows)]
    last = [line.shape[1] - 1 - line.flip(1).argmax(1) for line in (columns, rows)]
    boxes = torch.stack([*first, *last], 1)[:, None].int()
    return torch.where(rows.any(1)[:, None, None], boxes, -1)
