"""Atomic writing of files, and checkpoints that are verified before use."""

import errno
import hashlib
import os
import pickle
import re
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from xmnist.runtime import reading

PARTIAL = ".partial-"
"""The prefix of the names of files that are being written."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers for a lack of disk space."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary file that is renamed to `path` when the block succeeds, and removed when it fails.

    Raises:
        OSError: it cannot be written; an earlier file stays.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # The content must be on disk before the name: a crash must not leave an empty file under it.
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; others get the usual rights.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.errno not in FULL:
            raise
        message = f"{error.strerror}; what was saved last is there: with more room, the same command goes on from it"
        raise OSError(error.errno, message, str(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)  # the mask can only be read by setting another one
    os.umask(mask)
    return mask


def digest(path: Path) -> str:
    """Return a regular file's SHA-256, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with reading.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values; equal states give equal files.

    Raises:
        OSError: there is no room; an earlier file stays.
    """
    import torch

    # An open file, not a path: torch writes the path's name into the file.
    with atomic(path) as file, file.open("wb") as out:
        try:
            torch.save(state, out)
        except RuntimeError as error:  # which is all that torch says if the disk is full, or if it is interrupted
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path, old: bool = False) -> dict[str, Any]:
    """Read tensors and plain values, and nothing else; with `old`, also from PyTorch's format before ZIP files.

    Raises:
        ValueError: the file was damaged, or holds other values; the message names the reason, in one line.
    """
    import torch

    try:
        if not old or zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:  # torch does not look at the checksums that it writes
                damaged = file.testzip()
            if damaged:
                raise ValueError(f"it was damaged at {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose report is advice to read the file without this care
        held = re.search(r"(?:GLOBAL|class) ([\w.]+)", str(error))
        detail = f": {held[1]}; save its state dict alone" if held else ""
        raise ValueError(f"it was damaged, or holds other things than tensors and plain values{detail}") from None
    except Exception as error:  # a damaged file makes both raise almost anything
        raise ValueError(first_line(str(error) or type(error).__name__)) from None
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}")
    return state


def first_line(reason: str) -> str:
    """Return the relevant line of an error report by PyTorch."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()] or ["it cannot be read"]
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return line[:150].rstrip(". ")


def write_yaml(path: Path, content: Any) -> None:
    """Write plain values, or a config, as YAML."""
    with atomic(path) as file:
        OmegaConf.save(OmegaConf.create(content), file)
