"""The published data sets that torchvision fetches and reads, with their official splits."""

from __future__ import annotations

import string
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self
from zipfile import BadZipFile

from xmnist.config.declarations import DATASETS
from xmnist.config.rules import choice, maybe, whole
from xmnist.data import files, fingerprint
from xmnist.data.base import Info, Split
from xmnist.data.dataset import Dataset, dataset
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import F, Tensor, torch

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

DIGITS = tuple(string.digits)

TIMEOUT = 20.0
"""Seconds without an answer after which a download is given up."""

# torchvision spells classes with numbers (MNIST, KMNIST), knows them only from the files (CIFAR), or takes seconds.
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
    "Ankle boot",
)
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_LETTERS = sorted(string.digits + string.ascii_letters)
_MERGED = tuple(letter for letter in _LETTERS if letter not in "cijklmopsuvwxyz")
EMNIST = {
    **{"balanced": _MERGED, "byclass": tuple(_LETTERS), "bymerge": _MERGED},
    **{"digits": DIGITS, "letters": tuple(string.ascii_lowercase), "mnist": DIGITS},
}
"""Split of EMNIST -> its classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Published(Dataset):
    """A data set that torchvision fetches: the first images of its official splits, or all.

    Attributes:
        library: what torchvision calls it.
        classes: their names, where these are always the same; those of CIFAR-100 stand in its files only.
        channels: of an image.
        pixels: of an image as published, height and width.
    """

    library: ClassVar[str]
    classes: ClassVar[tuple[str, ...]] = ()
    channels: ClassVar[int] = 1
    pixels: ClassVar[int] = 28
    later = ("size",)

    train: Annotated[int | None, maybe(whole(20)), "use only the first so many training images; null: all"]
    test: Annotated[int | None, maybe(whole(1)), "use only the first so many test images; null: all"]
    size: Annotated[int | None, maybe(whole(8, 512)), "pixels a side, to their nearest ones; null: as published"] = None

    def info(self) -> Info:
        edge = self.size or self.pixels
        return Info((self.channels, edge, edge), self.classes)

    def resolved(self) -> Self:
        return replace(self, size=None) if self.size == self.pixels else self

    def files(self, data_dir: str) -> list[Path]:
        """The files that it is read from, in torchvision's layout."""
        raise TypeError(f"{type(self).__name__} has no files")

    def read(self, data_dir: str, train: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Training or test images (N, C, H, W) of bytes, their labels (N,), and the names of the classes."""
        raise TypeError(f"{type(self).__name__} has no files")

    def source(self, folder: str, **options: Any) -> VisionDataset:
        """torchvision's own data set."""
        from torchvision import datasets

        return getattr(datasets, self.library)(folder, **options)

    def present(self, data_dir: str) -> bool:
        return all(path.is_file() for path in self.files(data_dir))

    def digest(self, data_dir: str) -> str | None:
        with suppress(OSError):
            return fingerprint.of_files(Path(data_dir), self.files(data_dir))
        return None

    def source_note(self) -> str:
        return f"Its data set, {self.name}, is fetched, or given by data_dir=DIR."

    def check(self, data_dir: str) -> None:
        """Check that the files are complete.

        Raises:
            InputError: names the one that is damaged.
        """

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        if not self.present(data_dir):
            self._download(data_dir)
        self.check(data_dir)
        out, facts = [], self.info()
        for key, count in (("train", self.train), ("test", self.test)):
            images, labels, classes = self.read(data_dir, key == "train")
            if count is not None and count > len(images):
                raise InputError(f"dataset.{key}={count}: {self.name} has {len(images)} such images")
            images = images[:count]
            if self.size is not None:
                images = F.interpolate(images, self.size, mode="nearest-exact")
            out.append(Split(images.float().div_(255).contiguous(), labels[:count].long()))
            facts = replace(facts, classes=classes)
        return out[0], out[1], facts

    def _download(self, data_dir: str) -> None:
        """Let torchvision fetch, show progress and compare checksums; the files appear only once all are whole."""
        folder = Path(data_dir).absolute()
        missing = next(p for p in self.files(data_dir) if not p.is_file())
        created = [p for p in (folder, *folder.parents) if not p.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partly = tempfile.TemporaryDirectory(prefix=f".{self.name}-", dir=folder)
            with partly as partial, files.socket_timeout(TIMEOUT):
                self.source(partial, train=True, download=True)
                for path in Path(partial).rglob("*"):
                    if path.is_file() and path.suffix not in (".gz", ".zip"):
                        target = folder / path.relative_to(partial)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        path.replace(target)
        except (RuntimeError, OSError, HTTPException, TarError, BadZipFile) as error:
            for path in created:
                with suppress(OSError):
                    path.rmdir()
            similar = files.alike(missing, data_dir)
            way = f"{'unpack and rename' if similar.suffix == '.gz' else 'rename'} it" if similar else ""
            hint = f" (there is {similar}: {way})" if similar else ""
            drawn = ", ".join(declaration.name for declaration in DATASETS.values() if declaration.drawn)
            raise InputError(
                f"{self.name}: {missing} is missing{hint} and cannot be fetched ({_line(error)[:160]}); put its files "
                f"there, name their folder with data_dir= or XMNIST_DATA, or use a built-in data set: {drawn}"
            ) from None


@dataclass(frozen=True, kw_only=True, eq=False)
class Idx(Published):
    """A data set in the format of MNIST's files."""

    def parts_of_names(self) -> tuple[str, str]:
        """Return the prefixes of the names of the training and of the test files."""
        return "train", "t10k"

    def files(self, data_dir: str) -> list[Path]:
        raw = Path(data_dir) / self.library / "raw"
        kinds = ("images-idx3", "labels-idx1")
        return [raw / f"{part}-{kind}-ubyte" for part in self.parts_of_names() for kind in kinds]

    def check(self, data_dir: str) -> None:
        files.check(self.files(data_dir))

    def read(self, data_dir: str, train: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        from torchvision.datasets.mnist import read_image_file, read_label_file

        paths = self.files(data_dir)
        images, labels = paths[:2] if train else paths[2:]
        return read_image_file(str(images)).unsqueeze(1), read_label_file(str(labels)), self.info().classes


@dataset("mnist", title="MNIST")
class Mnist(Idx):
    """Handwritten digits. Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998."""

    library = "MNIST"
    classes = DIGITS


@dataset("fashion_mnist", title="Fashion-MNIST")
class FashionMnist(Idx):
    """Articles of clothing. Source: Xiao et al., arXiv 1708.07747."""

    library = "FashionMNIST"
    classes = CLOTHES


@dataset("kmnist", title="KMNIST")
class Kmnist(Idx):
    """Handwritten cursive kana. Source: Clanuwat et al., arXiv 1812.01718."""

    library = "KMNIST"
    classes = KANA


@dataset("emnist", title="EMNIST")
class Emnist(Idx):
    """Handwritten letters and digits, in several splits. Source: Cohen et al., arXiv 1702.05373."""

    library = "EMNIST"

    split: Annotated[str, choice(*EMNIST), "which of its splits"]

    def info(self) -> Info:
        return replace(super().info(), classes=EMNIST[self.split])

    def source(self, folder: str, **options: Any) -> VisionDataset:
        return super().source(folder, split=self.split, **options)

    def parts_of_names(self) -> tuple[str, str]:
        return f"emnist-{self.split}-train", f"emnist-{self.split}-test"

    def read(self, data_dir: str, train: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        images, labels, classes = super().read(data_dir, train)
        labels = labels - 1 if self.split == "letters" else labels  # which are counted from 1
        return images.transpose(-1, -2), labels, classes  # its files hold every image mirrored at the diagonal


@dataclass(frozen=True, kw_only=True, eq=False)
class Cifar(Published):
    """Small photographs of things. Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Attributes:
        folder: where torchvision keeps its files.
        names: of these files.
    """

    folder: ClassVar[str]
    names: ClassVar[tuple[str, ...]]
    channels = 3
    pixels = 32

    def files(self, data_dir: str) -> list[Path]:
        return [Path(data_dir) / self.folder / name for name in self.names]

    def read(self, data_dir: str, train: bool) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        try:
            whole: Any = self.source(data_dir, train=train, download=False)
        except (RuntimeError, OSError, EOFError, ValueError, AssertionError) as error:
            raise InputError(f"{self.name}: the files under {data_dir} cannot be read: {_line(error)}") from None
        images = torch.as_tensor(whole.data).permute(0, 3, 1, 2)
        return images, torch.as_tensor(whole.targets), tuple(whole.classes)


@dataset("cifar10", title="CIFAR-10")
class Cifar10(Cifar):
    """Photographs of animals and vehicles."""

    library = "CIFAR10"
    classes = THINGS
    folder = "cifar-10-batches-py"
    names = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")


@dataset("cifar100", title="CIFAR-100")
class Cifar100(Cifar):
    """Photographs of a hundred kinds of things."""

    library = "CIFAR100"
    classes = tuple(f"class {number}" for number in range(100))
    folder = "cifar-100-python"
    names = ("train", "test", "meta")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
