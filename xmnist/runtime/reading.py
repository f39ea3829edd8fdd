"""Safe reading of the small files of a run directory, which may come from anywhere. No torch."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

LARGEST = 2**22
"""The largest size in bytes of a status, a config or a table of scores; files of this package are far smaller."""

DEEPEST = 50
"""The deepest nesting of values in a file."""

STATES = ("done", "failed", "interrupted", "running")
"""The states that a status.json may hold."""


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in (*value, *value.values()))


SOUND: dict[str, Callable[[Any], bool]] = {
    "state": lambda value: value in STATES,
    "started": lambda value: seconds(value) is not None,
    "ended": lambda value: value is None or seconds(value) is not None,
    "seconds": lambda value: value is None or isinstance(value, int | float),
    **{key: lambda value: value is None or isinstance(value, str) for key in ("command", "error", "data")},
    "warnings": lambda value: value is None or _lines(value),
    **{key: lambda value: value is None or _texts(value) for key in ("files", "stands_on")},
}
"""Keys of status.json, and checks of their values."""


def opened(path: Path) -> io.BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: it cannot be read, or is no regular file, such as a pipe that would be waited on for ever.
    """
    # O_NONBLOCK: opening a pipe without a writer would block before its type can be checked.
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def text(path: Path) -> str:
    """Return the text of a regular file of at most `LARGEST` bytes.

    Raises:
        OSError: as for `opened`.
        ValueError: it is larger, or not written in UTF-8.
    """
    with opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST:
            raise ValueError(f"it has {size:,} bytes, of at most {LARGEST:,}")
        return file.read().decode("utf-8")


def content(path: Path) -> tuple[dict[str, Any], str]:
    """Return the plain values of a JSON or YAML file, and the reason if it holds none."""
    try:
        read = json.loads if path.suffix == ".json" else _from_yaml
        values = _plain(read(text(path)))
    except FileNotFoundError:
        return {}, f"{path.name} is missing"
    except OSError as error:
        return {}, f"{path.name} cannot be read ({error.strerror})"
    except Exception as error:  # a damaged file makes readers raise almost anything
        return {}, f"{path.name} is damaged: {(str(error).splitlines() or ['unreadable'])[0]}"
    return (values, "") if isinstance(values, dict) else ({}, f"{path.name} is damaged: it holds no keys")


def csv_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file; none where it cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(text(path), newline="")))
    except (OSError, ValueError, csv.Error):  # a figure is not worth an error
        return []


def status(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the sound values of a run's status.json, and the reason if it is missing, damaged or of another run."""
    values, reason = content(folder / "status.json")
    wrong = [key for key, sound in SOUND.items() if not sound(values.get(key))]
    if not reason and wrong:
        reason = f"status.json is damaged: {wrong[0]} is {json.dumps(values.get(wrong[0]))[:50]}"
    checksummed = {key: value for key, value in values.items() if key != "checksum"}
    if not reason and (checksummed.get("run"), values.get("checksum")) != (folder.name, checksum(checksummed)):
        reason = "status.json is not what this run wrote: its command does it again"
    return {key: value for key, value in checksummed.items() if key not in wrong}, reason


def checksum(status: Mapping[str, Any]) -> str:
    """Return the checksum of the other values of a status.json."""
    return hashlib.sha256(json.dumps(status, sort_keys=True).encode()).hexdigest()


def _from_yaml(text: str) -> Any:
    """Return the values of YAML text; interpolations stay as written, and tags can only give plain values."""
    loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0  # in C ten times as fast, where there is one
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):  # what fills the stack or the memory when loaded
            raise ValueError("it is nested too deep, or refers to itself")
    return yaml.load(text, loader)


def _plain(value: Any) -> Any:
    """Convert a value to one that JSON can hold; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def seconds(text: Any) -> float | None:
    """Return a time as seconds since 1970; None if the text is no time."""
    with suppress(TypeError, ValueError, OverflowError):
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return None
