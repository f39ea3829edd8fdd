"""Checks that files of published data sets are complete and can be fetched; fast, because without torch."""

import http.client
import math
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xmnist.runtime.errors import InputError

MIRRORS = {"mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/t10k-labels-idx1-ubyte.gz"}


def alike(path: Path, data_dir: str) -> Path | None:
    """Return a file that is likely the missing one: packed, with a dot in its name, or in another folder."""
    folders = {Path(data_dir), *path.parents[: len(path.parents) - len(Path(data_dir).parents)]}
    files = [file for folder in sorted(folders) if folder.is_dir() for file in sorted(folder.iterdir()) if file != path]
    return next((file for file in files if file.name.removesuffix(".gz").replace(".", "-") == path.name), None)


def reachable(name: str, seconds: float = 3.0) -> bool:
    """Return whether data set `name` can be fetched: whether a file of it is offered within `seconds`."""
    try:
        with urllib.request.urlopen(urllib.request.Request(MIRRORS[name], method="HEAD"), timeout=seconds):
            return True
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Limit the wait for a silent server in this block; torchvision and PyTorch would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def check_idx(path: Path) -> tuple[int, ...]:
    """Return the shape in the header of an IDX file of bytes, after a check that its size fits.

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
    wanted, actual = 4 + 4 * dims + math.prod(shape), path.stat().st_size
    if wanted != actual:
        state = "truncated" if actual < wanted else "too long"
        raise InputError(
            f"{path} is {state}: {actual} bytes where its header says {wanted}; remove it, or fetch it again"
        )
    return shape


def check(paths: Sequence[Path]) -> None:
    """Check the files of an IDX data set, of images and labels in turn: headers, sizes, as many labels as images.

    Raises:
        InputError: names the file that is damaged, or those that do not fit.
    """
    for images, labels in zip(paths[::2], paths[1::2], strict=True):
        shape, count = check_idx(images), check_idx(labels)
        if shape[1:] != (28, 28) or count != shape[:1] or not shape[0]:
            raise InputError(f"{images} and {labels.name} do not fit: images of shape {shape}, labels {count}")
