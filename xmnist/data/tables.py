"""Tables and texts beside images, such as data.csv, from any program. No torch."""

import csv
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from xmnist.runtime.errors import InputError

KEYS = {"imageID": ("imageid", "image", "filename", "file"), "label": ("label", "class")}
"""The columns of data.csv and their accepted names, in any case, with _ or blanks."""


def rows(table: Path) -> Iterator[tuple[str, str]]:
    """Yield image and label of each line of a table with commas, semicolons or tabs."""
    lines = text(table).splitlines()
    head = lines[0] if lines else ""
    mark = max(",;\t", key=head.count)
    names = [re.sub(r"[_\s]", "", name.strip().strip('"')).lower() for name in head.split(mark)]
    columns = [next((names.index(name) for name in known if name in names), None) for known in KEYS.values()]
    cells_of = list(csv.reader(lines[1:], delimiter=mark, skipinitialspace=True))
    if None in columns or not cells_of:
        wanted = f"{table} must have a line for each image, under a first line imageID,label"
        raise InputError(f"{wanted}; its first line is {head[:80]!r}")
    for number, row in enumerate(cells_of, 2):
        cells = [key(row[column].strip()) if column is not None and column < len(row) else "" for column in columns]
        if not all(cells):
            if not any(cell.strip() for cell in row):
                continue
            raise InputError(
                f"{table}, line {number}: it must name an image and its label, got {mark.join(row)[:80]!r}"
            )
        yield cells[0], cells[1]


def text(path: Path) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 if it begins with its byte order mark.

    Raises:
        InputError: it is written in neither.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not written in UTF-8: {error}") from None


def key(name: str) -> str:
    """Return a name in its form for comparison: macOS writes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)
