"""Where the files of each downloaded data set lie, and whether they are whole; no torch, so that it answers at once."""

import http.client
import math
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xmnist.runtime.errors import InputError

IDX_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "emnist": "EMNIST"}
CIFAR_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
CIFAR_FILES = {
    "cifar10": [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"],
    "cifar100": ["train", "test", "meta"],
}
EMNIST_SPLITS = ("balanced", "byclass", "bymerge", "digits", "letters", "mnist")
BUILT_IN = ("glyphs", "cluttered_glyphs", "polygons")
MIRRORS = {"mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz"}


def expected(name: str, data_dir: str, split: str = "balanced") -> list[Path]:
    """The files that data set `name` is read from, in torchvision's layout."""
    if name in CIFAR_FOLDERS:
        return [Path(data_dir) / CIFAR_FOLDERS[name] / file for file in CIFAR_FILES[name]]
    raw = Path(data_dir) / IDX_FOLDERS[name] / "raw"
    train, test = (f"emnist-{split}-train", f"emnist-{split}-test") if name == "emnist" else ("train", "t10k")
    return [raw / f"{part}-{kind}-ubyte" for part in (train, test) for kind in ("images-idx3", "labels-idx1")]


def alike(path: Path, data_dir: str) -> Path | None:
    """A file that is likely one that is missing: packed, with a dot in its name, or in another folder."""
    places = {Path(data_dir), *path.parents[: len(path.parents) - len(Path(data_dir).parents)]}
    there = [each for place in sorted(places) if place.is_dir() for each in sorted(place.iterdir()) if each != path]
    return next((each for each in there if each.name.removesuffix(".gz").replace(".", "-") == path.name), None)


def native_size(name: str) -> int | None:
    """How many pixels a side the published images of a data set have; None for others."""
    return 32 if name in CIFAR_FOLDERS else 28 if name in IDX_FOLDERS else None


def present(name: str, data_dir: str, split: str = "balanced") -> bool:
    """Whether all files of data set `name` are there."""
    return all(path.is_file() for path in expected(name, data_dir, split))


def reachable(name: str, seconds: float = 3.0) -> bool:
    """Whether data set `name` can be fetched: whether a file of it is offered within `seconds`."""
    try:
        with urllib.request.urlopen(urllib.request.Request(MIRRORS[name], method="HEAD"), timeout=seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Wait in this block for no server that is silent for longer; torchvision and PyTorch would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def check_idx(path: Path) -> tuple[int, ...]:
    """The shape that an IDX file of bytes states, after making sure that it holds just as many.

    Raises:
        InputError: the file is no IDX file of bytes, is truncated or has bytes left over.
    """
    with path.open("rb") as file:
        head = file.read(4)
        dims = head[3] if len(head) == 4 and head[:3] == b"\x00\x00\x08" else 0
        sizes = file.read(4 * dims)
    if not dims or len(sizes) < 4 * dims:
        raise InputError(f"{path} is damaged: it does not begin like an IDX file; remove it, or fetch it again")
    shape = tuple(int.from_bytes(sizes[4 * i : 4 * i + 4], "big") for i in range(dims))
    wanted, found = 4 + 4 * dims + math.prod(shape), path.stat().st_size
    if wanted != found:
        state = "truncated" if found < wanted else "too long"
        raise InputError(
            f"{path} is {state}: {found} bytes where its header says {wanted}; remove it, or fetch it again"
        )
    return shape


def check(name: str, data_dir: str, split: str = "balanced") -> None:
    """Look at the files of an IDX data set: headers, sizes, as many labels as images."""
    if name not in IDX_FOLDERS:
        return
    paths = expected(name, data_dir, split)
    for images, labels in zip(paths[::2], paths[1::2], strict=True):
        shape, count = check_idx(images), check_idx(labels)
        if shape[1:] != (28, 28) or count != shape[:1] or not shape[0]:
            raise InputError(f"{images} and {labels.name} do not fit: images of shape {shape}, labels {count}")
