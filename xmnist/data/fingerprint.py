"""Digests of the files that a data set is read from, so that a result is bound to its data. No torch."""

import hashlib
import json
import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from xmnist.data import layouts
from xmnist.runtime.errors import InputError

WHOLE = 2**30
"""Files of at most this many bytes together are read whole; of larger data, only the ends of each file."""

END = 2**16
"""Bytes at either end of a file that are read where the data are larger than `WHOLE`."""


def of_files(root: Path, paths: Sequence[Path]) -> str:
    """Return the SHA-256 of the relative names, sizes and contents of some files, wherever their folder lies.

    The result is kept in the user's cache, and valid while sizes and times are the same.

    Raises:
        OSError: one of them cannot be read.
    """
    about = [(unicodedata.normalize("NFC", path.relative_to(root).as_posix()), path, path.stat()) for path in paths]
    about.sort(key=lambda entry: entry[0])
    states = [[name, at.st_size, at.st_mtime_ns, at.st_ctime_ns] for name, _, at in about]
    stamp = hashlib.sha256(json.dumps([str(root.resolve()), states]).encode()).hexdigest()
    kept = _cache() / stamp
    with suppress(OSError, UnicodeDecodeError):
        if len(cached := kept.read_text(encoding="ascii")) == 64:
            return cached
    whole = sum(at.st_size for *_, at in about) <= WHOLE
    digest = hashlib.sha256()
    for name, path, at in about:
        digest.update(json.dumps([name, at.st_size, _content(path, at.st_size, whole)]).encode())
    with suppress(OSError):  # the next command reads the files again
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        partial.write_text(digest.hexdigest(), encoding="ascii")
        partial.replace(kept)
    return digest.hexdigest()


@lru_cache(maxsize=4)
def of_folder(path: str) -> str:
    """Return the digest of a folder at the time of a command.

    Raises:
        InputError: it cannot be read as data.
    """
    listing = layouts.listed(path)
    try:
        return of_files(listing.root, listing.read())
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None


def of_file(path: Path) -> str:
    """Return the SHA-256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content(path: Path, size: int, whole: bool) -> str:
    if whole or size <= 2 * END:
        return of_file(path)
    with path.open("rb") as file:
        ends = hashlib.sha256(file.read(END))
        file.seek(-END, os.SEEK_END)
        ends.update(file.read(END))
        return ends.hexdigest()


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "xmnist" / "fingerprints"
