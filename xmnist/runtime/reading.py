"""The small files of a run directory, read with care: it may come from anywhere. No torch."""

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
"""Bytes that a status, a config or a table of figures may have; what is written here is far below."""

DEEPEST = 50
"""How deep the values of a file may be nested."""

STATES = ("done", "failed", "interrupted", "running")
"""The states that a status.json may hold."""


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in (*value, *value.values()))


SOUND: dict[str, Callable[[Any], bool]] = {
    "state": lambda value: value in STATES,
    "started": lambda value: seconds(value) is not None,
    "ended": lambda value: value is None or seconds(value) is not None,
    "seconds": lambda value: value is None or isinstance(value, int | float),
    **{key: lambda value: value is None or isinstance(value, str) for key in ("command", "error", "data")},
    "warnings": lambda value: value is None or _lines(value),
    **{key: lambda value: value is None or _texts(value) for key in ("files", "stands_on")},
}
"""Keys of status.json, and what they may hold."""


def opened(path: Path) -> io.BufferedReader:
    """A regular file, opened for reading.

    Raises:
        OSError: it cannot be read, or is no regular file, such as a pipe that would be waited on for ever.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def text(path: Path) -> str:
    """The text of a regular file of at most `LARGEST` bytes.

    Raises:
        OSError: as for `opened`.
        ValueError: it is larger, or not written in UTF-8.
    """
    with opened(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > LARGEST:
            raise ValueError(f"it has {size:,} bytes, of at most {LARGEST:,}")
        return file.read().decode("utf-8")


def content(path: Path) -> tuple[dict[str, Any], str]:
    """The plain values that a JSON or YAML file holds, and why it holds none."""
    try:
        read = json.loads if path.suffix == ".json" else _from_yaml
        found = _plain(read(text(path)))
    except FileNotFoundError:
        return {}, f"{path.name} is missing"
    except OSError as error:
        return {}, f"{path.name} cannot be read ({error.strerror})"
    except Exception as error:  # a damaged file makes readers raise almost anything
        return {}, f"{path.name} is damaged: {(str(error).splitlines() or ['unreadable'])[0]}"
    return (found, "") if isinstance(found, dict) else ({}, f"{path.name} is damaged: it holds no keys")


def csv_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file; none where it cannot be read."""
    try:
        return list(csv.DictReader(io.StringIO(text(path), newline="")))
    except (OSError, ValueError, csv.Error):  # a figure is not worth an error
        return []


def status(folder: Path) -> tuple[dict[str, Any], str]:
    """What a run's status.json says, with nothing but what it should; and why it says nothing that counts, if so."""
    given, reason = content(folder / "status.json")
    wrong = [key for key, sound in SOUND.items() if not sound(given.get(key))]
    if not reason and wrong:
        reason = f"status.json is damaged: {wrong[0]} is {json.dumps(given.get(wrong[0]))[:50]}"
    told = {key: value for key, value in given.items() if key != "checksum"}
    if not reason and (told.get("run"), given.get("checksum")) != (folder.name, checksum(told)):
        reason = "status.json is not what this run wrote: its command does it again"
    return {key: value for key, value in told.items() if key not in wrong}, reason


def checksum(status: Mapping[str, Any]) -> str:
    """The checksum of all else that a status.json says."""
    return hashlib.sha256(json.dumps(status, sort_keys=True).encode()).hexdigest()


def _from_yaml(text: str) -> Any:
    """What YAML says; an interpolation stays as it is written, and no tag makes anything but a plain value."""
    loader, depth = getattr(yaml, "CSafeLoader", yaml.SafeLoader), 0  # in C ten times as fast, where there is one
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST or isinstance(event, yaml.AliasEvent):  # what fills the stack or the memory when loaded
            raise ValueError("it is nested too deep, or refers to itself")
    return yaml.load(text, loader)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it; what is no finite number is nothing."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def seconds(text: Any) -> float | None:
    """A time as seconds since 1970; None for what is no time."""
    with suppress(TypeError, ValueError, OverflowError):
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    return None
