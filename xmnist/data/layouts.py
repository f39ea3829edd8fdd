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
        paths = (path for e in self.entries for path in (e.image, *e.masks, *([e.boxes] if e.boxes else [])))
        return sorted({*self.tables, *paths})

    def line(self, kind: str) -> str:
        """Return a line on the files read, with masks of this kind (`images`, `boxes`, `none`), and those left out."""
        counts = Counter(entry.label for entry in self.entries)
        per_class = ", ".join(f"{name} {counts[name]}" for name in self.classes[:12])
        more = f", ... ({len(self.classes)} classes)" if len(self.classes) > 12 else ""
        parts = [f"{len(self.entries)} images: {per_class}{more}", *self._truth(kind), *self.told]
        omitted = [f"{len(paths)} {_counted(reason, len(paths))}" for reason, paths in self.left_out.items()]
        return "; ".join([*parts, *([f"left out: {', '.join(omitted)}"] if omitted else [])])

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
    tree = _Listed(root)
    inner = root
    while not tree[inner].files and len(tree.folders(inner)) == 1 and not _parts(tree, inner):
        inner = tree.folders(inner)[0]  # a single folder in the folder, as an archive leaves it
        if tree[inner].images:
            raise InputError(f"{inner.parent} has images of one class only: {inner.name}")
    if inner != root:
        tree.told.append(f"read from {inner.relative_to(root)}{os.sep}")
    parts, split = _parts(tree, inner), None
    if not parts:
        entries = _entries(tree, inner)
        classes = _classes(tree, inner, entries)
    else:
        both = [[entry for part in several for entry in _entries(tree, part)] for several in parts]
        entries, split = [*both[0], *both[1]], len(both[0])
        classes = _classes(tree, parts[0][0], both[0], inner)
        for entry in both[1]:
            if entry.label not in classes:
                raise InputError(
                    f"{entry.image}: the test split has class '{entry.label}', the training split only "
                    f"{', '.join(classes)}"
                )
    listing = Listing(inner, tuple(entries), classes, split, tuple(tree.tables), {}, tuple(tree.told))
    return _with_the_rest(tree, listing)


def _parts(tree: _Listed, root: Path) -> tuple[list[Path], list[Path]] | None:
    """Return the training folders and the test folders, where the folder has both."""
    train, validation, test = (tree.named(root, names) for names in (TRAIN, VALIDATION, TEST))
    if train is None or not (test or validation):
        return None
    if test is None and validation is not None:
        note = f"{validation.name}{os.sep} is tested on: there is no test{os.sep}"
    elif validation is not None:
        note = f"{validation.name}{os.sep} is trained on: dataset.validation is drawn from both"
    else:
        note = ""
    if note and note not in tree.told:
        tree.told.append(note)
    if test is None:
        return [train], [validation] if validation else []
    return [train, *([validation] if validation else [])], [test]


def _entries(tree: _Listed, root: Path) -> list[Entry]:
    """Return the images of one split."""
    table = next((path for path in tree[root].files if path.name.lower() == "data.csv"), None)
    if table is not None:
        tree.tables.append(table)
        return _from_table(tree, root, table)
    images = tree.named(root, IMAGES)
    if images is not None and not tree.folders(images) and (len(tree.folders(root)) == 1 or tree.named(root, MASKS)):
        raise InputError(
            f"{images} holds {len(tree[images].images)} images without a class: dataset=folder needs one folder of "
            f"images for each class, or {root / 'data.csv'} with a line imageID,label for each"
        )
    apart = images is not None and images.name.lower() == "images" and bool(tree.folders(images))
    base = images if apart and images is not None else root
    entries: list[Entry] = []
    paired = _paired(tree, base)
    for folder in tree.folders(base):
        contents = tree[folder]
        for file in contents.images:
            named, name = MASK.fullmatch(file.stem), tables.key(file.stem)
            if named and (paired or tables.key(named["image"]) in contents.by_name):
                continue  # a mask, be it of no image
            label = tables.key(folder.name)
            if apart:
                entries.append(_apart(tree, root, file, label))
            else:
                entries.append(Entry(file, label, tuple(contents.masks.get(name, ())), contents.boxes.get(name)))
    if not entries:
        raise InputError(_nothing(tree, root))
    labels = {entry.label.lower() for entry in entries}
    if labels & {*TRAIN} and all(re.match("|".join((*TRAIN, *VALIDATION, *TEST)), label) for label in labels):
        first = next(entry.image.parent for entry in entries if entry.label.lower() in TRAIN)
        raise InputError(_nothing(tree, first))
    return entries


def _paired(tree: _Listed, base: Path) -> bool:
    """Return whether some file is the mask of an image beside it; if not, images may have any name."""
    return any(tree[folder].masks.keys() & tree[folder].by_name.keys() for folder in tree.folders(base))


def _apart(tree: _Listed, root: Path, image: Path, label: str) -> Entry:
    """Return an image in images/CLASS/, whose masks and boxes lie in masks/CLASS/ and annotations/CLASS/."""
    name, flat = tables.key(image.stem), image.parent.name.lower() == "images"
    masks, notes = (
        tree[folder if flat else folder / image.parent.name] if (folder := tree.named(root, [part])) else None
        for part in ("masks", "annotations")
    )
    mask_paths: list[Path] = []
    if masks:  # where they lie apart, they may have their images' names
        mask_paths = masks.masks.get(name) or masks.by_name.get(name, [])
    return Entry(image, label, tuple(mask_paths), notes.boxes.get(name) if notes else None)


def _nothing(tree: _Listed, root: Path) -> str:
    """Return the reason that a folder has no images of any class, and the remedy."""
    wanted = "one folder of images for each class"
    files = tree[root].files
    if tree[root].images:
        tables = [path.name for path in files if path.suffix.lower() in (".csv", ".tsv", ".json", ".txt")]
        beside = f"; {tables[0]} is not read: a table is data.csv, with lines imageID,label" if tables else ""
        return f"{root} holds {len(tree[root].images)} images in no folder of a class: it needs {wanted}{beside}"
    if deeper := tree.below(root):
        return (
            f"{root} holds images deeper than in {wanted}, such as {deeper[0].relative_to(root)}: give the folder "
            f"whose own folders are the classes, as dataset.path={deeper[0].parent.parent}"
        )
    kinds = Counter(path.suffix.lower() for _, contents in tree.all() for path in contents.files)
    summary = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in kinds.most_common(3))
    return f"{root} holds neither data.csv nor {wanted}{f' (there are: {summary})' if summary else ''}"


def _classes(tree: _Listed, root: Path, entries: list[Entry], above: Path | None = None) -> tuple[str, ...]:
    """Return the classes of images, in the order of classes.txt if there is one."""
    labels = {entry.label for entry in entries}
    orders = (folder / "classes.txt" for folder in (root, above) if folder)
    order = next((path for path in orders if path in tree[path.parent].files), None)
    names = sorted(labels)
    if order is not None:
        tree.tables.append(order)
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


def _from_table(tree: _Listed, root: Path, table: Path) -> list[Entry]:
    rows = list(tables.rows(table))
    images = tree.named(root, ["images"]) or root
    files: dict[Path, dict[str, Path]] = {}
    entries, missing = [], []
    pairs: set[tuple[str, str]] = set()
    for stem, label in rows:
        if (label, stem) in pairs:
            raise InputError(f"{table} names {stem} of class {label} more than once")
        pairs.add((label, stem))
        image = None
        # macOS may store the name of a class folder decomposed.
        for folder in (*(f for f in (images / label, images / _decomposed(label)) if tree[f].files), images):
            if folder not in files:
                files[folder] = {tables.key(name): p for p in tree[folder].images for name in (p.stem, p.name)}
            image = image or files[folder].get(stem)
        if image is None:
            missing.append(images / label / stem)
            continue
        entries.append(_apart(tree, root, image, label) if image.parent != root else Entry(image, label, (), None))
    if missing:
        raise InputError(f"{table} names {len(missing)} of {len(rows)} images that are not there, first {missing[0]}")
    return entries


def _decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def _with_the_rest(tree: _Listed, listing: Listing) -> Listing:
    """Return a listing with all other files of its folder, by the reason that they are not read."""
    left_out: dict[str, list[Path]] = defaultdict(list)
    read, folders = set(listing.read()), {entry.image.parent for entry in listing.entries}
    stems = {tables.key(entry.image.stem) for entry in listing.entries}
    for folder, contents in tree.all():
        for path in contents.files:
            if path in read:
                continue
            suffix, named = path.suffix.lower(), MASK.fullmatch(path.stem)
            if suffix in SUFFIXES and named and tables.key(named["image"]) not in stems:
                left_out["masks of no image"].append(path)
            elif suffix in SUFFIXES and any(part in folders for part in folder.parents):
                left_out["in subfolders"].append(path)
            elif suffix in SUFFIXES and folder in folders and any(t.name.lower() == "data.csv" for t in listing.tables):
                left_out["not in data.csv"].append(path)
            elif suffix in SUFFIXES:
                left_out["in no folder of a class"].append(path)
            elif suffix in UNREAD:
                left_out[suffix].append(path)
            else:
                left_out["boxes of no image" if suffix == ".xml" else "other files"].append(path)
    left_out |= {"hidden": tree.hidden} if tree.hidden else {}
    return Listing(**{**vars(listing), "left_out": {reason: tuple(paths) for reason, paths in left_out.items()}})
