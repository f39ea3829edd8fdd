"""Ground truth as files: masks as images, boxes as Pascal VOC XML; written, and read back."""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as XML

from PIL import Image, ImageDraw
from torch import Tensor

from xmnist.data import pixels
from xmnist.data.base import Split
from xmnist.runtime.errors import InputError


def write(split: Split, classes: Sequence[str], folder: Path) -> None:
    """Write a split so that data set `folder` reads the same again: data.csv, images/, masks/, annotations/.

    Images become PNG, masks PNG of 0 and 255, boxes XML with the corners' pixels counted from 1.
    """
    rows: list[tuple[str, str]] = []
    classes = [name.replace("/", "-") for name in classes]  # they name folders
    for part in split.parts():
        for index, label in enumerate(part.labels.tolist()):
            name, class_name = f"{len(rows):06}", classes[label]
            rows.append((name, class_name))
            _save(part.images[index], folder / "images" / class_name / f"{name}.png")
            if part.masks is not None:
                _save(part.masks[index].float(), folder / "masks" / class_name / f"{name}_mask.png")
            if part.boxes is not None:
                path = folder / "annotations" / class_name / f"{name}.xml"
                path.parent.mkdir(parents=True, exist_ok=True)
                _annotation(f"{name}.png", class_name, part.images.shape[1:], part.boxes[index]).write(path)
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("imageID", "label"), *rows])
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _save(image: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (image * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(path)


def _annotation(file: str, label: str, shape: Sequence[int], boxes: Tensor) -> "XML.ElementTree[XML.Element]":
    root = XML.Element("annotation")
    XML.SubElement(root, "filename").text = file
    size = XML.SubElement(root, "size")
    for name, value in zip(("depth", "height", "width"), shape, strict=True):
        XML.SubElement(size, name).text = str(value)
    for box in boxes.tolist():
        if box[0] >= 0:
            element = XML.SubElement(root, "object")
            XML.SubElement(element, "name").text = label
            corners = XML.SubElement(element, "bndbox")
            for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
                XML.SubElement(corners, name).text = str(value + 1)
    XML.indent(root)
    return XML.ElementTree(root)


Box = tuple[int, int, int, int]
"""First column and row, last column and row, counted from 1."""


def read_boxes(path: Path, image: Path, objects: Sequence[str] | None = None) -> Image.Image:
    """Return a mask of the boxes in a Pascal VOC file, upright; elements `bndbox1`, `bndbox2`, ... count too.

    The boxes are on the upright or on the stored image, whichever has the `<size>` of the file; without one, or where
    both have it, on the upright image.

    Args:
        objects: the names of the objects that count; None for all.

    Raises:
        InputError: it is no such file, is of an image of another size, has an object without a box, or a box lies
            outside the image.
    """
    upright, stored = pixels.sizes(image)
    with pixels.named(path, "Pascal VOC boxes"):
        root = XML.fromstring(_without_namespaces(path.read_bytes()))
        size, boxes = _size(root), list(_boxes(root, objects))
    if size not in (None, upright, stored):
        raise InputError(
            f"{path} says that its image has {pixels.spelled(size or (0, 0))} pixels, but {image.name} has "
            f"{pixels.spelled(upright)}"
        )
    # Boxes are drawn in the coordinates that they were written in, and turned with the mask.
    on_stored = size == stored != upright
    width, height = stored if on_stored else upright
    mask = Image.new("L", (width, height))
    for left, top, right, bottom in boxes:
        if right < 1 or bottom < 1 or left > width or top > height:
            message = f"box {left},{top},{right},{bottom} is not in its image of {width}x{height} pixels"
            raise InputError(f"{path}: {message}")
        ImageDraw.Draw(mask).rectangle((left - 1, top - 1, right - 1, bottom - 1), fill=255)
    return pixels.turned(mask, pixels.orientation(image)) if on_stored else mask


def _without_namespaces(content: bytes) -> bytes:
    """Remove namespaces from XML elements, which Pascal VOC does not have."""
    return re.sub(rb"""\sxmlns(:\w+)?=("[^"]*"|'[^']*')""", b"", re.sub(rb"<(/?)\w+:", rb"<\1", content))


def _size(root: XML.Element) -> tuple[int, int] | None:
    """Return the image's width and height in the file; None where they are missing or 0."""
    values = [round(float(root.findtext(f"size/{name}") or 0)) for name in ("width", "height")]
    return (values[0], values[1]) if all(values) else None


def _boxes(root: XML.Element, objects: Sequence[str] | None) -> Iterator[Box]:
    """Yield the boxes of the objects that count, including difficult ones."""
    counted = [element for element in root.iter("object") if objects is None or element.findtext("name") in objects]
    for element in counted:
        if not any(box.tag.startswith("bndbox") for box in element.iter()):
            tags = [box.tag for box in element if len(box)]
            instead = f", but <{tags[0]}>, which is not read" if tags else ""
            raise ValueError(f"object '{element.findtext('name')}' has no <bndbox>{instead}")
    for part in [root] if objects is None else counted:
        for box in (element for element in part.iter() if element.tag.startswith("bndbox")):
            left, top, right, bottom = (
                round(float(str(box.findtext(name)))) for name in ("xmin", "ymin", "xmax", "ymax")
            )
            if left > right or top > bottom:
                raise ValueError(f"the corners of box {left},{top},{right},{bottom} are exchanged")
            yield left, top, right, bottom
