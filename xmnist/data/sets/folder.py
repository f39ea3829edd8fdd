"""Images on disk, with masks or boxes beside them where there are any: data.csv or one folder a class."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Self

from xmnist.config.components import Options
from xmnist.config.rules import SEED, Rule, choice, list_of, maybe, number, raise_unless, sha256, text, whole, yes_or_no
from xmnist.data import fingerprint
from xmnist.data.base import Data, Info, Split, few, stratified
from xmnist.data.dataset import Dataset, dataset
from xmnist.data.layouts import Listing, listed
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, torch
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

NAMED = 5
"""The largest number of unread files that are reported by name."""

IN_MEMORY = 2**30
"""Bytes that the images may take in memory; where they need more, they are read anew in every epoch."""


def _convert_share(value: Any) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(1).convert(value)
    return number(0, 0.9, above=True).convert(value)


def _convert_colour(value: Any) -> str:
    if isinstance(value, str) and (re.fullmatch(r"#[0-9a-fA-F]{6}", value) or value.lower() in ("white", "black")):
        return value.lower()
    from PIL import ImageColor  # knows all others, and takes a tenth of a second

    return raise_unless(value.lower() in ImageColor.colormap, value.lower())


CHANNELS = Rule("1 or 3", lambda value: raise_unless(whole(1, 3).convert(value) != 2, value))
SHARE = Rule("a share from 0 (not included) to 0.9, or a number of images", _convert_share)
COLOUR = Rule("a colour: its name, or #rrggbb", _convert_colour)


@dataset("folder", masked=True)
class Folder(Dataset):
    """Images on disk; training and test images are in memory where they fit and are not augmented."""

    unseen = ("workers", "stream")
    later = ("train", "objects", "background", "fingerprint")
    places = ("path",)

    path: Annotated[str, text("a folder"), "where the images are"]
    size: Annotated[
        int | None, maybe(whole(8, 4096)), "height and width to resize to; null: all images have one size already"
    ]
    channels: Annotated[int, CHANNELS, "3 (colour) or 1 (gray)"]
    masks: Annotated[
        str, choice("auto", "images", "boxes", "none"), "the kind of ground truth; auto: what every image has"
    ]
    train: Annotated[int | None, maybe(whole(2)), "so many training images, drawn by the seed; null for all"] = None
    test: Annotated[float | int, SHARE, "test images of a folder without a split: a share of each class, or a number"]
    objects: Annotated[
        list[str] | None, maybe(list_of(text("the name of an object"))), "whose boxes count; null for all"
    ] = None
    background: Annotated[str, COLOUR, "the colour behind what is transparent"] = "white"
    fingerprint: Annotated[
        str | None, maybe(sha256("what is read of the folder")), "worked out: runs are named by it, not by the path"
    ] = None
    seed: Annotated[int, SEED, "of the test images' choice; the run's own seed does not change them"]
    aug_prob: Annotated[float, number(0, 1), "probability of each augmentation of a training image and its mask"]
    class_weights: Annotated[
        str | None, maybe(choice("balanced")), "balanced: rare classes count as much as frequent ones in training"
    ]
    stream: Annotated[bool | None, maybe(yes_or_no()), "read images in every epoch; null: if they take more than 1 GiB"]
    workers: Annotated[int, whole(0, 64), "processes that read them; 0 for none"]

    def info(self) -> Info:
        """Shape and classes, from the names of the files and the size of the first image.

        Raises:
            InputError: no images there, or not those that it says are.
        """
        from xmnist.data import pixels

        listing = listed(self.path)
        size = self.size
        width, height = pixels.sizes(listing.entries[0].image)[0] if size is None else (size, size)
        kind = _kind(listing, self.masks)
        if self.objects is not None and kind != "boxes":
            raise InputError(f"dataset.objects chooses among boxes, but the ground truth here is {kind}")
        return Info((self.channels, height, width), listing.classes, masks=kind != "none")

    def class_names(self) -> tuple[str, ...]:
        return listed(self.path).classes

    def resolved(self) -> Self:
        """The same folder with its digest; where it is gone, one that is given is believed: a finished run is found."""
        if not self.present(""):
            return self
        digest = fingerprint.of_folder(self.path)
        if self.fingerprint not in (None, digest):
            raise InputError(
                f"dataset.path={self.path} has the fingerprint {digest}, not dataset.fingerprint={self.fingerprint}"
            )
        return replace(self, fingerprint=digest)

    def identity(self) -> Options:
        """Return name and options for the names of runs: the content of the folder identifies a run, not its path."""
        options = super().identity()
        return {key: value for key, value in options.items() if key != "path"} if self.fingerprint else options

    @property
    def augmented(self) -> bool:
        return self.aug_prob > 0

    def training_images(self) -> int:
        if not self.present(""):
            return 0
        listing = listed(self.path)
        total = len(listing.entries)
        test = self.test if isinstance(self.test, int) else total * self.test
        train = float(listing.split or total - test)
        return max(1, int(min(train, self.train or train) * (1 - self.validation)))

    def present(self, data_dir: str) -> bool:
        return Path(self.path).expanduser().is_dir()

    def digest(self, data_dir: str) -> str | None:
        return fingerprint.of_folder(self.path) if self.present(data_dir) else None

    def stated_digest(self) -> str | None:
        return self.fingerprint

    def source_note(self) -> str:
        return f"Its images are not in here: give their folder by dataset.path=DIR ({Path(self.path).name})."

    def load(self, data_dir: str, seed: int) -> Data:
        cut = super().load(data_dir, seed)
        return cut.balanced() if self.class_weights else cut

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        """The training and the test images; of a folder without a split of its own, `seed` draws those to test on.

        Raises:
            InputError: names the file that is missing, cannot be read or does not fit.
        """
        from xmnist.data.streamed import Files, Streamed

        facts, listing = self.info(), listed(self.path)
        kind = _kind(listing, self.masks)
        unread = [path.name for paths in listing.left_out.values() for path in paths]
        lines = [listing.line(kind) + (f" ({', '.join(unread)})" if 0 < len(unread) <= NAMED else "")]
        log.info("%s", lines[0])
        objects = tuple(self.objects) if self.objects is not None else None
        files = Files(listing.entries, facts.shape, kind, self.size is None, self.background, objects)
        files, notes = files.checked()
        labels = torch.tensor([facts.classes.index(entry.label) for entry in listing.entries])
        held = _held(listing, labels, facts, self.test, self.seed)
        lines += [f"{count} images {change}" for change, count in notes.items()] + _twice(listing, held.tolist())
        numbers = facts.shape[0] * facts.shape[1] * facts.shape[2]
        large = 4 * numbers * len(labels) > IN_MEMORY if self.stream is None else self.stream
        whole = Streamed.of(files, labels, self.workers)
        parts = {"train": _cut(~held, labels, self.train, self.seed, "train"), "test": held}
        if isinstance(self.test, int):
            parts["test"] = _cut(held, labels, self.test, self.seed, "test")
        learnt: Split = replace(whole.subset(parts["train"]), aug_prob=self.aug_prob)
        tested: Split = whole.subset(parts["test"])
        if not large:
            learnt, tested = learnt if self.aug_prob else learnt[:], tested[:]
            masked = [split.masks for split in (learnt, tested) if isinstance(split.masks, torch.Tensor)]
            if empty := sum(int((~masks.flatten(1).any(1)).sum()) for masks in masked):
                lines.append(f"{empty} images have no pixel of an object at {facts.shape[1]}x{facts.shape[2]} pixels")
        for line in lines[1:]:
            log.warning("%s", line)
        indices = parts["test"].nonzero()[:, 0].tolist()
        names = [listing.entries[index].image.relative_to(listing.root).as_posix() for index in indices]
        return learnt, tested, replace(facts, read=tuple(lines), files=tuple(names))


def _held(listing: Listing, labels: Tensor, facts: Info, test: float, seed: int) -> Tensor:
    """Return the test images (N,): the folder's own split, or a share or number of them, alike of each class.

    Raises:
        InputError: a class has too few images to be on both sides.
    """
    if listing.split is not None:
        return torch.arange(len(labels)) >= listing.split
    test_seed = derive_seed(seed, "test images of a folder")
    if not isinstance(test, int):
        return stratified(labels, facts, test, test_seed)
    if test >= len(labels) - 1:
        raise InputError(f"dataset.test={test}: there are {len(labels)} images in all")
    return few(labels, test, test_seed)


def _cut(among: Tensor, labels: Tensor, count: int | None, seed: int, name: str) -> Tensor:
    """These images (N,), or so many of them, of each class the same share.

    Raises:
        InputError: there are fewer.
    """
    rows = among.nonzero()[:, 0]
    if count is None:
        return among
    if count > len(rows):
        raise InputError(f"dataset.{name}={count}: there are {len(rows)} such images")
    out = torch.zeros_like(among)
    out[rows[few(labels[rows], count, derive_seed(seed, f"{name} images of a folder"))]] = True
    return out


def _twice(listing: Listing, held: list[bool]) -> list[str]:
    """A line each, where the same file is both trained and tested on, or has two labels."""
    by_size = defaultdict[int, list[int]](list)
    for index, entry in enumerate(listing.entries):
        by_size[entry.image.stat().st_size].append(index)
    groups = defaultdict[str, list[int]](list)
    for indices in by_size.values():
        if len(indices) > 1:
            for index in indices:
                groups[fingerprint.of_file(listing.entries[index].image)].append(index)
    alike = [indices for indices in groups.values() if len(indices) > 1]
    both = [indices for indices in alike if len({held[index] for index in indices}) > 1]
    labels = [indices for indices in alike if len({listing.entries[index].label for index in indices}) > 1]
    lines = []
    for duplicates, description in ((both, "are both trained and tested on"), (labels, "have two labels")):
        if duplicates:
            first = [listing.entries[index].image.relative_to(listing.root).as_posix() for index in duplicates[0][:2]]
            lines.append(f"{len(duplicates)} pictures {description}, such as {' = '.join(first)}")
    return lines


def _kind(listing: Listing, masks: str) -> str:
    """`images`, `boxes` or `none`.

    Raises:
        InputError: masks were asked for, and an image has none.
    """
    entries = listing.entries
    available = {"images": [bool(e.masks) for e in entries], "boxes": [e.boxes is not None for e in entries]}
    if masks == "auto":
        return next((kind for kind, flags in available.items() if all(flags)), "none")
    if masks in available and not all(available[masks]):
        missing = entries[available[masks].index(False)].image
        file = "mask" if masks == "images" else "XML file"
        raise InputError(
            f"dataset.masks={masks}: {missing} has no {file} ({available[masks].count(False)} images have none)"
        )
    return masks
