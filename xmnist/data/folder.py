"""Images on disk, with masks or boxes beside them where there are any: data.csv or one folder a class."""

import logging
from collections import defaultdict
from dataclasses import replace

import torch

from xmnist.data import pixels
from xmnist.data.base import Info, Split, few, stratified
from xmnist.data.fingerprint import of_file
from xmnist.data.layouts import Listing, listed
from xmnist.data.streamed import Files, Streamed
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed

log = logging.getLogger(__name__)

NAMED = 5
"""So many files that are not read are told by name."""

IN_MEMORY = 2**30
"""Bytes that the images may take in memory; where they need more, they are read anew in every epoch."""


def info(path: str, size: int | None, channels: int, masks: str, objects: list[str] | None = None, **_: object) -> Info:
    """Shape and classes, from the names of the files and the size of the first image.

    Raises:
        InputError: no images there, or not those that it says are.
    """
    listing = listed(path)
    width, height = pixels.sizes(listing.entries[0].image)[0] if size is None else (size, size)
    kind = _kind(listing, masks)
    if objects is not None and kind != "boxes":
        raise InputError(f"dataset.objects chooses among boxes, but the ground truth here is {kind}")
    return Info((channels, height, width), listing.classes, masks=kind != "none")


def load(
    data_dir: str,
    path: str,
    size: int | None,
    channels: int,
    masks: str,
    test: float | int,
    seed: int,
    aug_prob: float,
    stream: bool | None,
    workers: int,
    background: str = "white",
    objects: list[str] | None = None,
    train: int | None = None,
    name: str = "folder",
) -> tuple[Split, Split, Info]:
    """Training and test images, in memory where they fit and are not augmented.

    Args:
        size: height and width that images are resized to; None if they all have the same size already.
        masks: `images`, `boxes`, `none`, or `auto` for what every image has.
        test: share of every class that is tested on, drawn by `seed`, where the folder has no split of its own; a whole
            number: so many images are tested on, drawn by `seed`.
        train: so many of the other images are trained on, drawn by `seed`; None for all.
        aug_prob: probability of each augmentation of a training image.
        stream: whether images are read anew in every epoch; None: if they take more than `IN_MEMORY`.
        workers: processes that read them.
        background: the colour behind what is transparent.
        objects: the names of the objects whose boxes count; None for all.

    Raises:
        InputError: names the file that is missing, cannot be read or does not fit.
    """
    facts, listing = info(path, size, channels, masks, objects), listed(path)
    kind = _kind(listing, masks)
    unread = [path.name for paths in listing.left_out.values() for path in paths]
    told = [listing.line(kind) + (f" ({', '.join(unread)})" if 0 < len(unread) <= NAMED else "")]
    log.info("%s", told[0])
    own = tuple(objects) if objects is not None else None
    files, notes = Files(listing.entries, facts.shape, kind, size is None, background, own).checked()
    labels = torch.tensor([facts.classes.index(entry.label) for entry in listing.entries])
    held = _held(listing, labels, facts, test, seed)
    told += [f"{count} images {what}" for what, count in notes.items()] + _twice(listing, held.tolist())
    numbers = facts.shape[0] * facts.shape[1] * facts.shape[2]
    large = 4 * numbers * len(labels) > IN_MEMORY if stream is None else stream
    whole = Streamed.of(files, labels, workers)
    parts = {"train": _cut(~held, labels, train, seed, "train"), "test": held}
    if isinstance(test, int):
        parts["test"] = _cut(held, labels, test, seed, "test")
    learnt: Split = replace(whole.subset(parts["train"]), aug_prob=aug_prob)
    tested: Split = whole.subset(parts["test"])
    if not large:
        learnt, tested = learnt if aug_prob else learnt[:], tested[:]
        masked = [split.masks for split in (learnt, tested) if isinstance(split.masks, torch.Tensor)]
        if empty := sum(int((~each.flatten(1).any(1)).sum()) for each in masked):
            told.append(f"{empty} images have no pixel of an object at {facts.shape[1]}x{facts.shape[2]} pixels")
    for line in told[1:]:
        log.warning("%s", line)
    names = [listing.entries[place].image.relative_to(listing.root) for place in parts["test"].nonzero()[:, 0].tolist()]
    return learnt, tested, replace(facts, read=tuple(told), files=tuple(name.as_posix() for name in names))


def _held(listing: Listing, labels: torch.Tensor, facts: Info, test: float, seed: int) -> torch.Tensor:
    """Which images (N,) are tested on: those that the folder says, or a share or number of them, alike of each class.

    Raises:
        InputError: a class has too few images to be on both sides.
    """
    if listing.split is not None:
        return torch.arange(len(labels)) >= listing.split
    own = derive_seed(seed, "test images of a folder")
    if not isinstance(test, int):
        return stratified(labels, facts, test, own)
    if test >= len(labels) - 1:
        raise InputError(f"dataset.test={test}: there are {len(labels)} images in all")
    return few(labels, test, own)


def _cut(among: torch.Tensor, labels: torch.Tensor, count: int | None, seed: int, name: str) -> torch.Tensor:
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
    for place, entry in enumerate(listing.entries):
        by_size[entry.image.stat().st_size].append(place)
    groups = defaultdict[str, list[int]](list)
    for places in by_size.values():
        if len(places) > 1:
            for place in places:
                groups[of_file(listing.entries[place].image)].append(place)
    alike = [places for places in groups.values() if len(places) > 1]
    both = [places for places in alike if len({held[place] for place in places}) > 1]
    labels = [places for places in alike if len({listing.entries[place].label for place in places}) > 1]
    lines = []
    for found, what in ((both, "are both trained and tested on"), (labels, "have two labels")):
        if found:
            first = [listing.entries[place].image.relative_to(listing.root).as_posix() for place in found[0][:2]]
            lines.append(f"{len(found)} pictures {what}, such as {' = '.join(first)}")
    return lines


def _kind(listing: Listing, masks: str) -> str:
    """`images`, `boxes` or `none`.

    Raises:
        InputError: masks were asked for, and an image has none.
    """
    entries = listing.entries
    there = {"images": [bool(e.masks) for e in entries], "boxes": [e.boxes is not None for e in entries]}
    if masks == "auto":
        return next((kind for kind, found in there.items() if all(found)), "none")
    if masks in there and not all(there[masks]):
        missing = entries[there[masks].index(False)].image
        file = "mask" if masks == "images" else "XML file"
        raise InputError(
            f"dataset.masks={masks}: {missing} has no {file} ({there[masks].count(False)} images have none)"
        )
    return masks
