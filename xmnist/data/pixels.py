"""Reading of images and masks: upright, with transparency on a background, and with the object separated."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageColor, ImageOps

from xmnist.runtime.errors import InputError

HALF = 128
"""The smallest value of a bright mask pixel; JPEG does not keep 0 and 255."""

FEW = 32
"""The largest number of values that are labels of objects; an antialiased or soft mask has more."""

VOID = 255
"""The index of the border around the objects of Pascal VOC's palette masks, which belongs to none."""

TURNED, TRANSPARENT = "turned upright (EXIF)", "transparent"
"""Changes that reading may make to an image."""

Size = tuple[int, int]
"""Width and height."""


@contextmanager
def named(path: Path, kind: str) -> Iterator[None]:
    """Turn errors of reading a file into an `InputError` that names it, in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = f"{Image.MAX_IMAGE_PIXELS:,} pixels"
        raise InputError(f"{path} is larger than {limit}, as which no image is read: make it smaller first") from None
    except (OSError, ValueError, SyntaxError, OverflowError) as error:
        raise InputError(f"{path} cannot be read as {kind}: {error}") from None


def sizes(path: Path) -> tuple[Size, Size]:
    """Return the size of an image upright, and as it is stored, from its header.

    Raises:
        InputError: it cannot be read.
    """
    with named(path, "an image"), Image.open(path) as image:
        turned = image.size[::-1] if _orientation(image) >= 5 else image.size
        return turned, image.size


def _orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 (upright) to 8; from 5 on, width and height are exchanged."""
    value = image.getexif().get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orientation(path: Path) -> int:
    """Return EXIF's orientation of an image, 1 to 8."""
    with named(path, "an image"), Image.open(path) as image:
        return _orientation(image)


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns an image of each orientation upright."""


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """Turn a drawing on a stored image upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def facts(path: Path) -> tuple[Counter[str], int]:
    """Return the changes in reading an image (`TURNED`, `TRANSPARENT`), and its largest 16-bit value without a white.

    Raises:
        InputError: it cannot be read.
    """
    out: Counter[str] = Counter()
    with named(path, "an image"), Image.open(path) as image:
        if _orientation(image) > 1:
            out[TURNED] += 1
        if _has_alpha(image) and image.convert("RGBA").getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            out[TRANSPARENT] += 1
        return out, int(np.asarray(image).max()) if image.mode.startswith("I;16") else 0


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info


def _deep(image: Image.Image) -> bool:
    """Return whether the pixels are gray values of 16 bits; Pillow scales those of a PGM file by its header."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")


def read_image(path: Path, channels: int, background: str = "white", largest: int = 2**16 - 1) -> Image.Image:
    """Return an image in colour (3 channels) or gray (1), upright, 8 bits each.

    Args:
        background: the colour behind transparent pixels.
        largest: the value of white in images of 16 bits.

    Raises:
        InputError: it cannot be read.
    """
    with named(path, "an image"):
        image: Image.Image = Image.open(path)
        upright = _orientation(image)
        if _deep(image):
            largest = 2**16 - 1 if image.format == "PPM" else largest  # to which its header's white was scaled
            image = Image.fromarray((np.asarray(image) / (largest / 255)).round().clip(0, 255).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise ValueError(f"its pixels are numbers of unknown range (mode {image.mode})")
        elif _has_alpha(image):
            # Hidden pixels may have any colour, so the image is laid on a background.
            whole = image.convert("RGBA")
            behind = Image.new("RGBA", image.size, ImageColor.getrgb(background))
            image = Image.alpha_composite(behind, whole)
        return turned(image.convert("RGB" if channels == 3 else "L"), upright)


def read_mask(path: Path, image: Path) -> Image.Image:
    """Return the mask of an image, black and white, upright, of the size of the upright image.

    It may be drawn on the upright or on the stored image, whichever it fits; where it fits both, on the upright one.

    Raises:
        InputError: it cannot be read, is of another size, or its object is ambiguous.
    """
    with named(path, "a mask"):
        opened = Image.open(path)
        pixels = _object(ImageOps.exif_transpose(opened), opened.format == "JPEG")
    mask = Image.fromarray(np.where(pixels, 255, 0).astype(np.uint8))
    upright, stored = sizes(image)
    if mask.size == upright:
        return mask
    if mask.size != stored:
        raise InputError(f"{path} is {spelled(mask.size)} pixels, but its image is {spelled(upright)}")
    return turned(mask, orientation(image))


def _object(mask: Image.Image, lossy: bool) -> np.ndarray:
    """Return the pixels (H, W) of the object in a mask, by the rules in docs/data.md.

    Raises:
        ValueError: the object is ambiguous.
    """
    if "A" in mask.getbands():
        alpha = np.asarray(mask.getchannel("A"))
        if (alpha < HALF).any() and (alpha >= HALF).any():
            return alpha >= HALF
        mask = mask.convert("RGB" if mask.mode == "RGBA" else "L")
    if mask.mode.startswith(("I", "F")):
        numbers = np.asarray(mask)
        top = numbers.max()
        return numbers > 0 if len(np.unique(numbers)) <= FEW or top < HALF else numbers >= top / 2
    if mask.mode == "P":
        return _of_palette(mask)
    colours = np.asarray(mask.convert("RGB")).astype(int)
    if (colours.max(2) - colours.min(2)).max() <= (48 if lossy else 0):
        return _of_gray(colours[:, :, 0] if not lossy else colours.mean(2), lossy)
    return _of_colours(colours, lossy)


def _of_palette(mask: Image.Image) -> np.ndarray:
    indices = np.asarray(mask)
    used, table = np.unique(indices), np.asarray(mask.convert("RGB")).astype(int)
    colour = {index: tuple(table[indices == index][0].tolist()) for index in used.tolist()}
    if all(len(set(rgb)) == 1 for rgb in colour.values()) and any(rgb[0] >= HALF for rgb in colour.values()):
        return _of_gray(table[:, :, 0], lossy=False)  # black and white by colour, whatever their indices
    black = [index for index, rgb in colour.items() if rgb == (0, 0, 0)]
    background = black[0] if len(black) == 1 else 0 if 0 in colour else None
    if background is None:
        raise ValueError("none of its colours is black, nor the palette's first: which is the background?")
    return (indices != background) & ((indices != VOID) | (len(used) <= 2))


def _of_gray(values: np.ndarray, lossy: bool) -> np.ndarray:
    """Return the bright pixels, or all labelled ones: labels are few values, and most marked pixels are not white."""
    if not lossy and len(np.unique(values)) <= FEW:
        marked, white = (values > 0).sum(), (values == 255).sum()
        if 2 * white < marked:
            return (values > 0) & (values != VOID)
    if values.any() and not (values >= HALF).any():
        raise ValueError(f"its brightest pixel is {round(values.max())}, but the object must have {HALF} to 255")
    return values >= HALF


def _of_colours(colours: np.ndarray, lossy: bool) -> np.ndarray:
    """Return all pixels but black ones."""
    top = colours.max(2)
    if lossy:
        return top >= HALF
    if len(np.unique(colours.reshape(-1, 3), axis=0)) > FEW:
        raise ValueError("it has many colours: a mask has one for the background, black, and one for each object")
    if (top > 0).all():
        raise ValueError("none of its colours is black: which is the background?")
    return top > 0


def spelled(size: Size) -> str:
    """Return a size in the notation WIDTHxHEIGHT."""
    return f"{size[0]}x{size[1]}"
