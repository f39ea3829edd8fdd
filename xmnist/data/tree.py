"""The files below a folder, as the layouts of data sets ask for them. No torch."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from xmnist.config.schema import IMAGE_SUFFIXES as SUFFIXES
from xmnist.data.tables import key
from xmnist.runtime.errors import InputError

MASK = re.compile(r"(?P<image>.+)_mask(_?\d+)?$", re.IGNORECASE)
"""Names of masks: x_mask, or x_mask_1, x_mask_2, ... for several objects."""


class Folder:
    """The files of one folder, by name; names are compared without their suffixes."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self.files = list(files)

    @cached_property
    def images(self) -> list[Path]:
        """The images, masks among them."""
        return [path for path in self.files if path.suffix.lower() in SUFFIXES]

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """The images of each name."""
        out = defaultdict[str, list[Path]](list)
        for path in self.images:
            out[key(path.stem)].append(path)
        return dict(out)

    @cached_property
    def masks(self) -> dict[str, list[Path]]:
        """The masks of each image, by its name, also those of none."""
        out = defaultdict[str, list[Path]](list)
        for path in self.images:
            if named := MASK.fullmatch(path.stem):
                out[key(named["image"])].append(path)
        return dict(out)

    @cached_property
    def boxes(self) -> dict[str, Path]:
        """The XML file of each name."""
        # Reversed, so that of several files with one name the first is kept.
        return {key(path.stem): path for path in reversed(self.files) if path.suffix.lower() == ".xml"}


class Tree:
    """All files below a folder: those of each folder that may be data, and the hidden ones."""

    def __init__(self, root: Path) -> None:
        self.hidden: list[Path] = []
        self._folders: dict[Path, Folder] = {}
        self._inside: dict[Path, set[Path]] = defaultdict(set)
        self._walk(root, frozenset())
        for folder in self._folders:
            while folder != root:
                self._inside[folder.parent].add(folder)
                folder = folder.parent

    def _walk(self, folder: Path, above: frozenset[str], hidden: bool = False) -> None:
        real_path = os.path.realpath(folder)
        if real_path in above:  # a link that leads back
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from None
        files: list[Path] = []
        for entry in entries:
            unseen = hidden or entry.name.startswith(".") or entry.name == "__MACOSX"
            if entry.is_dir():
                self._walk(Path(entry.path), above | {real_path}, unseen)
            else:
                (self.hidden if unseen else files).append(Path(entry.path))
        if files:
            self._folders[folder] = Folder(files)

    def __getitem__(self, folder: Path) -> Folder:
        """Return the files of a folder; empty where it has none that may be data."""
        return self._folders.get(folder) or Folder()

    def all(self) -> Iterable[tuple[Path, Folder]]:
        """Return every folder that has files, with these."""
        return self._folders.items()

    def folders(self, root: Path) -> list[Path]:
        """Return the folders in a folder that hold files, at any depth."""
        return sorted(self._inside.get(root, ()))

    def below(self, root: Path) -> list[Path]:
        """Return the images anywhere below a folder, but not in it."""
        inside = (contents.images for folder, contents in self.all() if folder != root and folder.is_relative_to(root))
        return [path for images in inside for path in images]

    def named(self, root: Path, names: Iterable[str]) -> Path | None:
        """Return the folder in a folder that has one of these names, in any case."""
        by_name = {folder.name.lower(): folder for folder in reversed(self.folders(root))}
        return next((by_name[name] for name in names if name in by_name), None)
