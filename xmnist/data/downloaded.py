"""The published data sets that torchvision fetches and reads, with their official splits."""

import tempfile
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from zipfile import BadZipFile

import torch
from torch.nn import functional as F
from torchvision import datasets
from torchvision.datasets.mnist import read_image_file, read_label_file

from xmnist.data import files
from xmnist.data.base import Info, Split
from xmnist.runtime.errors import InputError

SOURCES = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "emnist": datasets.EMNIST,
    "cifar10": datasets.CIFAR10,
    "cifar100": datasets.CIFAR100,
}
DIGITS = tuple("0123456789")
TIMEOUT = 20.0
"""Seconds without an answer after which a download is given up."""

# torchvision knows these only from the files themselves (CIFAR) or spells them with numbers (MNIST, KMNIST).
CLASSES = {
    "mnist": DIGITS,
    "kmnist": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "fashion_mnist": tuple(datasets.FashionMNIST.classes),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


def info(name: str, split: str = "balanced", size: int | None = None, **_: object) -> Info:
    """Shape and classes of a published data set, its images resized to `size` pixels a side or as they are."""
    if name in files.CIFAR_FOLDERS:
        classes = CLASSES.get(name) or tuple(f"class {i}" for i in range(100))
        return Info((3, size or 32, size or 32), classes)
    if name == "emnist":
        classes = tuple(c for c in datasets.EMNIST.classes_split_dict[split] if c != "N/A")
    else:
        classes = CLASSES[name]
    return Info((1, size or 28, size or 28), classes)


def _prepare(name: str, data_dir: str, split: str) -> None:
    """Fetch the files if they are missing, and look whether they are whole."""
    if not files.present(name, data_dir, split):
        _download(name, data_dir, {"split": split} if name == "emnist" else {})
    files.check(name, data_dir, split)


def _cifar(name: str, data_dir: str, train: bool) -> datasets.CIFAR10:
    try:
        return SOURCES[name](data_dir, train=train, download=False)
    except (RuntimeError, OSError, EOFError, ValueError, AssertionError) as error:
        raise InputError(f"{name}: the files under {data_dir} cannot be read: {_line(error)}") from None


def load(
    name: str, data_dir: str, train: int | None, test: int | None, split: str = "balanced", size: int | None = None
) -> tuple[Split, Split, Info]:
    """Training and test images, the first `train` and `test` of them or all; resized to their nearest pixels."""
    _prepare(name, data_dir, split)
    facts = info(name, split, size)
    parts = []
    for is_train, key, count in ((True, "train", train), (False, "test", test)):
        if name in files.CIFAR_FOLDERS:
            source = _cifar(name, data_dir, is_train)
            images, labels = torch.as_tensor(source.data).permute(0, 3, 1, 2), torch.as_tensor(source.targets)
            facts = Info(facts.shape, tuple(source.classes))
        else:
            paths = files.expected(name, data_dir, split)[:2] if is_train else files.expected(name, data_dir, split)[2:]
            images, labels = read_image_file(str(paths[0])).unsqueeze(1), read_label_file(str(paths[1]))
        if name == "emnist":
            images = images.transpose(-1, -2)  # its files hold every image mirrored at the diagonal
            labels = labels - 1 if split == "letters" else labels
        if count is not None and count > len(images):
            raise InputError(f"dataset.{key}={count}: {name} has {len(images)} such images")
        images = images[:count]
        if size is not None:
            images = F.interpolate(images, size, mode="nearest-exact")
        parts.append(Split(images.float().div_(255).contiguous(), labels[:count].long()))
    return parts[0], parts[1], facts


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _download(name: str, data_dir: str, options: dict[str, str]) -> None:
    """Let torchvision fetch, show progress and compare checksums; the files appear only once all of them are whole."""
    folder = Path(data_dir).absolute()
    missing = next(p for p in files.expected(name, data_dir, *options.values()) if not p.is_file())
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as partial, files.socket_timeout(TIMEOUT):
            SOURCES[name](partial, train=True, download=True, **options)
            for path in Path(partial).rglob("*"):
                if path.is_file() and path.suffix not in (".gz", ".zip"):
                    target = folder / path.relative_to(partial)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
    except (RuntimeError, OSError, HTTPException, TarError, BadZipFile) as error:
        for path in created:
            with suppress(OSError):
                path.rmdir()
        there = files.alike(missing, data_dir)
        seen = f" (there is {there}: {'unpack and rename' if there.suffix == '.gz' else 'rename'} it)" if there else ""
        raise InputError(
            f"{name}: {missing} is missing{seen} and cannot be fetched ({_line(error)[:160]}); put its files there, "
            f"name their folder with data_dir= or XMNIST_DATA, or use a built-in data set: {', '.join(files.BUILT_IN)}"
        ) from None
