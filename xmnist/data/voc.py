"""Ground truth as files: masks as images, boxes as Pascal VOC XML; written, and read back."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree as XML

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from xmnist.data.base import Split
from xmnist.errors import InputError

HALF = 128
"""From which value on a mask's pixel is the object; JPEG does not keep 0 and 255."""


def write(split: Split, classes: Sequence[str], folder: Path) -> None:
    """Write a split so that data set `folder` reads the same again: data.csv, images/, masks/, annotations/.

    Images become PNG, masks PNG of 0 and 255, boxes XML with the corners' pixels counted from 1.
    """
    rows: list[tuple[str, str]] = []
    classes = [name.replace("/", "-") for name in classes]  # they name folders
    for part in split.parts():
        for place, label in enumerate(part.labels.tolist()):
            name, own = f"{len(rows):06}", classes[label]
            rows.append((name, own))
            _save(part.images[place], folder / "images" / own / f"{name}.png")
            if part.masks is not None:
                _save(part.masks[place].float(), folder / "masks" / own / f"{name}_mask.png")
            if part.boxes is not None:
                path = folder / "annotations" / own / f"{name}.xml"
                path.parent.mkdir(parents=True, exist_ok=True)
                _annotation(f"{name}.png", own, part.images.shape[1:], part.boxes[place]).write(path)
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("imageID", "label"), *rows])
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


def _save(image: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path)


def _annotation(file: str, label: str, shape: Sequence[int], boxes: Tensor) -> "XML.ElementTree[XML.Element]":
    root = XML.Element("annotation")
    XML.SubElement(root, "filename").text = file
    size = XML.SubElement(root, "size")
    for name, value in zip(("depth", "height", "width"), shape, strict=True):
        XML.SubElement(size, name).text = str(value)
    for box in boxes.tolist():
        if box[0] >= 0:
            found = XML.SubElement(root, "object")
            XML.SubElement(found, "name").text = label
            corners = XML.SubElement(found, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                XML.SubElement(corners, name).text = str(value + 1)
    XML.indent(root)
    return XML.ElementTree(root)


@contextmanager
def _named(path: Path, what: str) -> Iterator[None]:
    """Let errors of reading a file say which it is."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, OverflowError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}") from None


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its head.

    Raises:
        InputError: it cannot be read.
    """
    with _named(path, "an image"), Image.open(path) as image:
        return image.size


def read_image(path: Path, channels: int) -> Image.Image:
    """An image in colour (3 channels) or gray (1), 8 bits each; 16 bits of gray are scaled.

    Raises:
        InputError: it cannot be read.
    """
    with _named(path, "an image"):
        image: Image.Image = Image.open(path)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"its pixels are numbers of unknown range (mode {image.mode})")
        return image.convert("RGB" if channels == 3 else "L")


def read_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask image, black and white, of an image of this size (width, height).

    The object is what is bright; where there is a palette, all colours but the first; where there is transparency,
    what is opaque.

    Raises:
        InputError: it cannot be read, is of another size, or is all dark but not black.
    """
    with _named(path, "a mask"):
        mask = Image.open(path)
        transparent = "A" in mask.getbands() and bool((np.asarray(mask.getchannel("A")) < HALF).any())
        if mask.mode == "P":
            there = np.asarray(mask) > 0
        else:
            bright = np.asarray(mask.getchannel("A") if transparent else mask.convert("L"))
            there = bright >= HALF
            if bright.any() and not there.any():
                raise ValueError(f"its brightest pixel is {bright.max()}, but the object must have {HALF} to 255")
    if mask.size != size:
        raise InputError(f"{path} is {_size(mask.size)} pixels, but its image is {_size(size)}")
    return Image.fromarray(np.where(there, 255, 0).astype(np.uint8))


def read_boxes(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask of the boxes in a Pascal VOC file; elements `bndbox1`, `bndbox2`, ... count too.

    Raises:
        InputError: it is no such file, or a box lies outside the image.
    """
    mask = Image.new("L", size)
    with _named(path, "Pascal VOC boxes"):
        boxes = [e for e in XML.parse(path).iter() if e.tag.startswith("bndbox")]
        corners = [[round(float(str(e.findtext(n)))) for n in ("xmin", "ymin", "xmax", "ymax")] for e in boxes]
    for left, top, right, bottom in corners:
        if left > right or top > bottom or right < 1 or bottom < 1 or left > size[0] or top > size[1]:
            raise InputError(f"{path}: box {left},{top},{right},{bottom} is not in its image of {_size(size)} pixels")
        ImageDraw.Draw(mask).rectangle((left - 1, top - 1, right - 1, bottom - 1), fill=255)
    return mask


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
