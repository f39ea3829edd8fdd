"""Images on disk, with masks or boxes beside them where there are any: data.csv or one folder a class."""

import csv
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import torch

from xmnist.data import voc
from xmnist.data.base import Info, Split, stratified
from xmnist.data.streamed import Entry, Files, Streamed
from xmnist.errors import InputError, unknown
from xmnist.layers import derive_seed

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
TRAIN, TEST = ("train", "trainval"), "test"
IN_MEMORY = 2**30
"""Bytes that the images may take in memory; where they need more, they are read anew in every epoch."""


@dataclass(frozen=True)
class _Listing:
    """The images of a folder; `split` tells how many, the first ones, are to train on where it says so itself."""

    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    split: int | None


def info(path: str, size: int | None, channels: int, masks: str, **_: object) -> Info:
    """Shape and classes, from the names of the files and the size of the first image.

    Raises:
        InputError: no images there, or not those that it says are.
    """
    listing = _listed(path)
    first = voc.size_of(listing.entries[0].image)
    height, width = (first[1], first[0]) if size is None else (size, size)
    return Info((channels, height, width), listing.classes, masks=_kind(listing, masks) != "none")


def load(
    data_dir: str,
    path: str,
    size: int | None,
    channels: int,
    masks: str,
    test: float,
    seed: int,
    aug_prob: float,
    stream: bool | None,
    workers: int,
    name: str = "folder",
) -> tuple[Split, Split, Info]:
    """Training and test images, in memory where they fit and are not augmented.

    Args:
        size: height and width that images are resized to; None if they all have the same size already.
        masks: `images`, `boxes`, `none`, or `auto` for what every image has.
        test: share of every class that is tested on, drawn by `seed`, where the folder has no split of its own.
        aug_prob: probability of each augmentation of a training image.
        stream: whether images are read anew in every epoch; None: if they take more than `IN_MEMORY`.
        workers: processes that read them.

    Raises:
        InputError: names the file that is missing, cannot be read or does not fit.
    """
    facts, listing = info(path, size, channels, masks), _listed(path)
    files = Files(listing.entries, facts.shape, _kind(listing, masks), size is None)
    labels = torch.tensor([facts.classes.index(entry.label) for entry in listing.entries])
    if listing.split is not None:
        held = torch.arange(len(labels)) >= listing.split
    else:
        held = stratified(labels, facts, test, derive_seed(seed, "test images of a folder"))
    files.check()
    numbers = facts.shape[0] * facts.shape[1] * facts.shape[2]
    large = 4 * numbers * len(labels) > IN_MEMORY if stream is None else stream
    whole = Streamed.of(files, labels, workers)
    train: Split = replace(whole.subset(~held), aug_prob=aug_prob)
    tested: Split = whole.subset(held)
    if not large:
        train, tested = train if aug_prob else train[:], tested[:]
    return train, tested, facts


def _kind(listing: _Listing, masks: str) -> str:
    """`images`, `boxes` or `none`.

    Raises:
        InputError: masks were asked for, and an image has none.
    """
    entries = listing.entries
    there = {"images": [e.mask is not None for e in entries], "boxes": [e.boxes is not None for e in entries]}
    if masks == "auto":
        return next((kind for kind, found in there.items() if all(found)), "none")
    if masks in there and not all(there[masks]):
        missing = entries[there[masks].index(False)].image
        file = "mask" if masks == "images" else "XML file"
        raise InputError(
            f"dataset.masks={masks}: {missing} has no {file} ({there[masks].count(False)} images have none)"
        )
    return masks


@lru_cache(maxsize=4)
def _listed(path: str) -> _Listing:
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"dataset.path={path}: there is no such folder")
    parts = [next((root / name for name in TRAIN if (root / name).is_dir()), None), root / TEST]
    if parts[0] is None or not root.joinpath(TEST).is_dir():
        entries = _entries(root)
        return _Listing(tuple(entries), _classes(root, entries), None)
    train, test = (_entries(part) for part in parts if part is not None)
    classes = _classes(parts[0], train)
    for entry in test:
        if entry.label not in classes:
            raise InputError(
                f"{entry.image}: the test split has class '{entry.label}', the training split only {', '.join(classes)}"
            )
    return _Listing((*train, *test), classes, len(train))


def _classes(root: Path, entries: list[Entry]) -> tuple[str, ...]:
    """The classes that images have, in the order of classes.txt if there is one."""
    found = {entry.label for entry in entries}
    order = root / "classes.txt"
    names = _text(order).split("\n") if order.is_file() else sorted(found)
    missing = found - set(names)
    if missing:
        raise unknown("class", min(missing), names, f"classes in {order}")
    classes = tuple(name for name in names if name)
    if len(classes) < 2:
        raise InputError(f"{root} has images of one class only: {', '.join(classes)}")
    return classes


def _entries(root: Path) -> list[Entry]:
    """The images of one split, by data.csv or by class folders."""
    table = root / "data.csv"
    if table.is_file():
        return _from_table(root, table)
    entries = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        for file in sorted(folder.iterdir()):
            if file.suffix.lower() in SUFFIXES and not file.stem.endswith("_mask"):
                boxes = file.with_suffix(".xml")
                entries.append(Entry(file, folder.name, _masked(folder, file.stem), boxes if boxes.is_file() else None))
    if not entries:
        raise InputError(f"{root} holds neither data.csv nor one folder of images for each class")
    return entries


def _from_table(root: Path, table: Path) -> list[Entry]:
    rows = list(csv.DictReader(_text(table).splitlines(), skipinitialspace=True))
    if not rows or not {"imageID", "label"} <= rows[0].keys():
        raise InputError(f"{table} must have a line for each image, under a first line imageID,label")
    entries, missing = [], []
    seen: set[tuple[str, str]] = set()
    for row in rows:
        label, stem = str(row["label"]), str(row["imageID"])
        if (label, stem) in seen:
            raise InputError(f"{table} names {stem} of class {label} more than once")
        seen.add((label, stem))
        image = _found(root / "images" / label, stem)
        if image is None:
            missing.append(root / "images" / label / stem)
            continue
        boxes = root / "annotations" / label / f"{image.stem}.xml"
        own = _masked(root / "masks" / label, image.stem)
        entries.append(Entry(image, label, own, boxes if boxes.is_file() else None))
    if missing:
        raise InputError(f"{table} names {len(missing)} of {len(rows)} images that are not there, first {missing[0]}")
    return entries


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not written in UTF-8: {error}") from None


def _masked(folder: Path, stem: str) -> Path | None:
    return _found(folder, f"{stem}_mask")


def _found(folder: Path, name: str) -> Path | None:
    """The image of that name, given with or without its suffix."""
    names = [name, *(name + suffix for lower in SUFFIXES for suffix in (lower, lower.upper()))]
    return next((folder / n for n in names if n in _names(folder)), None)


@cache
def _names(folder: Path) -> frozenset[str]:
    return frozenset(p.name for p in folder.iterdir()) if folder.is_dir() else frozenset()
