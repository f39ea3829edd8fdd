"""Layouts of image folders: the images of each class, their ground truth, and the files not read. No torch."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from xmnist.config.schema import IMAGE_SUFFIXES as SUFFIXES
from xmnist.data import tables
from xmnist.data.tree import MASK, Tree
from xmnist.runtime.errors import InputError, unknown

UNREAD = (
    *(".heic", ".avif", ".svg", ".psd", ".raw", ".jp2"),
    *(".npy", ".npz", ".mat", ".dcm", ".nii", ".gz", ".pt", ".zip"),
)
"""Suffixes of images and arrays that are not read, and are reported by suffix."""

TRAIN = ("train", "trainval", "training")
VALIDATION = ("val", "valid", "validation")
TEST = ("test", "testing")
IMAGES = ("images", "jpegimages", "image", "imgs")
MASKS = ("masks", "mask", "segmentationclass", "segmentationobject", "ground_truth", "labels", "annotations")
"""Names of folders that hold all images, or their ground truth."""


@dataclass(frozen=True)
class Entry:
    """An image's files: itself, and its masks and boxes where it has them."""

    image: Path
    label: str
    masks: tuple[Path, ...]
    boxes: Path | None


@dataclass(frozen=True)
class Listing:
    """The images of a folder, in the order of classes and names, and its other files.

    Args:
        split: the number of training images, which come first, where the folder has a split itself.
        tables: other files that were read.
        left_out: files that were not read, by the reason.
        told: notes on the interpretation of the folder, where it is not obvious.
    """

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    split: int | None = None
    tables: tuple[Path, ...] = ()
    left_out: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    told: tuple[str, ...] = ()

    def read(self) -> list[Path]:
        """Return all files that are read, each once."""
        own = (path for e in self.entries for path in (e.image, *e.masks, *([e.boxes] if e.boxes else [])))
        return sorted({*self.tables, *own})

    def line(self, kind: str) -> str:
        """Return a line on the files read, with masks of this kind (`images`, `boxes`, `none`), and those left out."""
        counts = Counter(entry.label for entry in self.entries)
        each = ", ".join(f"{name} {counts[name]}" for name in self.classes[:12])
        more = f", ... ({len(self.classes)} classes)" if len(self.classes) > 12 else ""
        parts = [f"{len(self.entries)} images: {each}{more}", *self._truth(kind), *self.told]
        left = [f"{len(paths)} {_counted(reason, len(paths))}" for reason, paths in self.left_out.items()]
        return "; ".join([*parts, *([f"left out: {', '.join(left)}"] if left else [])])

    def _truth(self, kind: str) -> Iterator[str]:
        for name in ("masks", "boxes"):
            lacking = [entry.image.name for entry in self.entries if not getattr(entry, name)]
            count, used = len(self.entries) - len(lacking), kind == {"masks": "images", "boxes": "boxes"}[name]
            if count and lacking:
                yield f"{name} {count} of {len(self.entries)} (none used: {lacking[0]} has none)"
            elif count:
                united = sum(len(entry.masks) > 1 for entry in self.entries) if name == "masks" else 0
                several = f", those of {united} images united of several" if united else ""
                yield f"{name} of all{several}{'' if used else ', not used'}"


def _counted(reason: str, count: int) -> str:
    return re.sub(r"^(other file|mask)s\b", r"\1", reason) if count == 1 else reason


class _Listed(Tree):
    """The files of a folder while it is listed, with the tables that were read and notes for the user."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tables: list[Path] = []
        self.told: list[str] = []


@lru_cache(maxsize=4)
def listed(path: str) -> Listing:
    """List a folder in one of the layouts of docs/data.md.

    Raises:
        InputError: there is no such folder, or it has another layout; the message describes it and the remedy.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise InputError(f"dataset.path={path}: there is no such folder")
    found = _Listed(root)
    inner = root
    while not found[inner].files and len(found.folders(inner)) == 1 and not _parts(found, inner):
        inner = found.folders(inner)[0]  # a single folder in the folder, as an archive leaves it
        if found[inner].images:
            raise InputError(f"{inner.parent} has images of one class only: {inner.name}")
    if inner != root:
        found.told.append(f"read from {inner.relative_to(root)}{os.sep}")
    parts, split = _parts(found, inner), None
    if not parts:
        entries = _entries(found, inner)
        classes = _classes(found, inner, entries)
    else:
        both = [[entry for part in several for entry in _entries(found, part)] for several in parts]
        entries, split = [*both[0], *both[1]], len(both[0])
        classes = _classes(found, parts[0][0], both[0], inner)
        for entry in both[1]:
            if entry.label not in classes:
                raise InputError(
                    f"{entry.image}: the test split has class '{entry.label}', the training split only "
                    f"{', '.join(classes)}"
                )
    listing = Listing(inner, tuple(entries), classes, split, tuple(found.tables), {}, tuple(found.told))
    return _with_the_rest(found, listing)


def _parts(found: _Listed, root: Path) -> tuple[list[Path], list[Path]] | None:
    """Return the training folders and the test folders, where the folder has both."""
    train, validation, test = (found.named(root, names) for names in (TRAIN, VALIDATION, TEST))
    if train is None or not (test or validation):
        return None
    if test is None and validation is not None:
        told = f"{validation.name}{os.sep} is tested on: there is no test{os.sep}"
    elif validation is not None:
        told = f"{validation.name}{os.sep} is trained on: dataset.validation is drawn from both"
    else:
        told = ""
    if told and told not in found.told:
        found.told.append(told)
    if test is None:
        return [train], [validation] if validation else []
    return [train, *([validation] if validation else [])], [test]


def _entries(found: _Listed, root: Path) -> list[Entry]:
    """Return the images of one split."""
    table = next((path for path in found[root].files if path.name.lower() == "data.csv"), None)
    if table is not None:
        found.tables.append(table)
        return _from_table(found, root, table)
    images = found.named(root, IMAGES)
    if images is not None and not found.folders(images) and (len(found.folders(root)) == 1 or found.named(root, MASKS)):
        raise InputError(
            f"{images} holds {len(found[images].images)} images without a class: dataset=folder needs one folder of "
            f"images for each class, or {root / 'data.csv'} with a line imageID,label for each"
        )
    apart = images is not None and images.name.lower() == "images" and bool(found.folders(images))
    base = images if apart and images is not None else root
    entries: list[Entry] = []
    paired = _paired(found, base)
    for folder in found.folders(base):
        own = found[folder]
        for file in own.images:
            named, name = MASK.fullmatch(file.stem), tables.key(file.stem)
            if named and (paired or tables.key(named["image"]) in own.by_name):
                continue  # a mask, be it of no image
            label = tables.key(folder.name)
            if apart:
                entries.append(_apart(found, root, file, label))
            else:
                entries.append(Entry(file, label, tuple(own.masks.get(name, ())), own.boxes.get(name)))
    if not entries:
        raise InputError(_nothing(found, root))
    labels = {entry.label.lower() for entry in entries}
    if labels & {*TRAIN} and all(re.match("|".join((*TRAIN, *VALIDATION, *TEST)), label) for label in labels):
        first = next(entry.image.parent for entry in entries if entry.label.lower() in TRAIN)
        raise InputError(_nothing(found, first))
    return entries


def _paired(found: _Listed, base: Path) -> bool:
    """Return whether some file is the mask of an image beside it; if not, images may have any name."""
    return any(found[folder].masks.keys() & found[folder].by_name.keys() for folder in found.folders(base))


def _apart(found: _Listed, root: Path, image: Path, label: str) -> Entry:
    """Return an image in images/CLASS/, whose masks and boxes lie in masks/CLASS/ and annotations/CLASS/."""
    name, flat = tables.key(image.stem), image.parent.name.lower() == "images"
    masks, notes = (
        found[each if flat else each / image.parent.name] if (each := found.named(root, [part])) else None
        for part in ("masks", "annotations")
    )
    own: list[Path] = []
    if masks:  # where they lie apart, they may have their images' names
        own = masks.masks.get(name) or masks.by_name.get(name, [])
    return Entry(image, label, tuple(own), notes.boxes.get(name) if notes else None)


def _nothing(found: _Listed, root: Path) -> str:
    """Return the reason that a folder has no images of any class, and the remedy."""
    wanted = "one folder of images for each class"
    there = found[root].files
    if found[root].images:
        tables = [path.name for path in there if path.suffix.lower() in (".csv", ".tsv", ".json", ".txt")]
        beside = f"; {tables[0]} is not read: a table is data.csv, with lines imageID,label" if tables else ""
        return f"{root} holds {len(found[root].images)} images in no folder of a class: it needs {wanted}{beside}"
    if deeper := found.below(root):
        return (
            f"{root} holds images deeper than in {wanted}, such as {deeper[0].relative_to(root)}: give the folder "
            f"whose own folders are the classes, as dataset.path={deeper[0].parent.parent}"
        )
    kinds = Counter(path.suffix.lower() for _, own in found.all() for path in own.files)
    seen = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in kinds.most_common(3))
    return f"{root} holds neither data.csv nor {wanted}{f' (there are: {seen})' if seen else ''}"


def _classes(found: _Listed, root: Path, entries: list[Entry], above: Path | None = None) -> tuple[str, ...]:
    """Return the classes of images, in the order of classes.txt if there is one."""
    labels = {entry.label for entry in entries}
    orders = (place / "classes.txt" for place in (root, above) if place)
    order = next((path for path in orders if path in found[path.parent].files), None)
    names = sorted(labels)
    if order is not None:
        found.tables.append(order)
        names = [tables.key(name.strip()) for name in tables.text(order).split("\n")]
        if not labels & set(names):  # as CUB-200 has it, with a number before each name
            names = [name.partition(" ")[2] if name.partition(" ")[0].isdecimal() else name for name in names]
    missing = labels - set(names)
    if missing:
        raise unknown("class", min(missing), names, f"classes in {order}")
    classes = tuple(name for name in names if name)
    if len(classes) < 2:
        raise InputError(f"{root} has images of one class only: {', '.join(classes)}")
    return classes


def _from_table(found: _Listed, root: Path, table: Path) -> list[Entry]:
    rows = list(tables.rows(table))
    images = found.named(root, ["images"]) or root
    files: dict[Path, dict[str, Path]] = {}
    entries, missing = [], []
    seen: set[tuple[str, str]] = set()
    for stem, label in rows:
        if (label, stem) in seen:
            raise InputError(f"{table} names {stem} of class {label} more than once")
        seen.add((label, stem))
        image = None
        # macOS may store the name of a class folder decomposed.
        for folder in (*(f for f in (images / label, images / _decomposed(label)) if found[f].files), images):
            if folder not in files:
                files[folder] = {tables.key(name): p for p in found[folder].images for name in (p.stem, p.name)}
            image = image or files[folder].get(stem)
        if image is None:
            missing.append(images / label / stem)
            continue
        entries.append(_apart(found, root, image, label) if image.parent != root else Entry(image, label, (), None))
    if missing:
        raise InputError(f"{table} names {len(missing)} of {len(rows)} images that are not there, first {missing[0]}")
    return entries


def _decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def _with_the_rest(found: _Listed, listing: Listing) -> Listing:
    """Return a listing with all other files of its folder, by the reason that they are not read."""
    left: dict[str, list[Path]] = defaultdict(list)
    read, folders = set(listing.read()), {entry.image.parent for entry in listing.entries}
    stems = {tables.key(entry.image.stem) for entry in listing.entries}
    for folder, own in found.all():
        for path in own.files:
            if path in read:
                continue
            suffix, named = path.suffix.lower(), MASK.fullmatch(path.stem)
            if suffix in SUFFIXES and named and tables.key(named["image"]) not in stems:
                left["masks of no image"].append(path)
            elif suffix in SUFFIXES and any(part in folders for part in folder.parents):
                left["in subfolders"].append(path)
            elif suffix in SUFFIXES and folder in folders and any(t.name.lower() == "data.csv" for t in listing.tables):
                left["not in data.csv"].append(path)
            elif suffix in SUFFIXES:
                left["in no folder of a class"].append(path)
            elif suffix in UNREAD:
                left[suffix].append(path)
            else:
                left["boxes of no image" if suffix == ".xml" else "other files"].append(path)
    left |= {"hidden": found.hidden} if found.hidden else {}
    return Listing(**{**vars(listing), "left_out": {reason: tuple(paths) for reason, paths in left.items()}})
