"""The user's own images, converted to a trained network's size, channels and background."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from xmnist.data import pixels

SAMPLE = 500
"""Number of training images that determine whether a data set's background is dark or light."""

DARK, LIGHT = 0.25, 0.75
"""Mean of the border pixels up to which a gray data set's background is dark, and from which on it is light."""

Invert = Literal["auto"] | bool


@dataclass(frozen=True)
class Own:
    """Images (N, C, H, W) in the network's format, their files, and a line on the conversion of each."""

    images: Tensor
    files: tuple[str, ...]
    lines: tuple[str, ...]


def read(paths: Sequence[str], train: Tensor, invert: Invert) -> Own:
    """Read images and convert them to the shape of the training images (N, C, H, W).

    Args:
        train: the training images, which determine with `auto` whether the background should be dark or light.
        invert: whether light and dark are exchanged; `auto`: where a gray data set has a dark background and the image
            a light one, or the other way round.

    Raises:
        InputError: a file cannot be read as an image, or is larger than what is read.
    """
    ground = _border(train[:SAMPLE]).mean().item() if train.shape[1] == 1 else 0.5
    images, lines = [], []
    for path in paths:
        image, line = _fitted(Path(path), train.shape[1:], ground, invert)
        images.append(image)
        lines.append(line)
    return Own(torch.stack(images), tuple(Path(path).name for path in paths), tuple(lines))


def _fitted(path: Path, shape: Sequence[int], ground: float, invert: Invert) -> tuple[Tensor, str]:
    channels, height, width = shape
    image = pixels.read_image(path, channels)
    size = pixels.spelled(image.size)
    edge = np.asarray(image, np.float32).reshape(image.height, image.width, channels) / 255
    light = float(_edge(edge).mean())
    turned = (ground <= DARK and light > 0.5) or (ground >= LIGHT and light < 0.5) if invert == "auto" else invert
    if turned:
        image = ImageOps.invert(image)
    # Letterbox bars in the median colour of the border continue the image's own background.
    colour = tuple(int(value) for value in np.median(_edge(np.asarray(image).reshape(*edge.shape)), 0))
    small = ImageOps.contain(image, (width, height), Image.Resampling.BICUBIC)
    canvas = Image.new(image.mode, (width, height), colour if channels == 3 else colour[0])
    canvas.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
    values = torch.from_numpy(np.array(canvas, np.float32).reshape(height, width, channels) / 255).permute(2, 0, 1)
    line = f"{path.name}: {size} pixels to {width}x{height}, {'gray' if channels == 1 else 'RGB'}"
    if turned:
        dark = "dark" if ground <= DARK else "light"
        why = f": training images are {dark} at the edge (image.invert=false leaves it)"
        line += f", inverted{why if invert == 'auto' else ''}"
    return values.contiguous(), line


def _edge(image: np.ndarray) -> np.ndarray:
    """Return the border pixels (P, C) of an image (H, W, C)."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _border(images: Tensor) -> Tensor:
    """Return the border pixels of images (N, C, H, W)."""
    sides = images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1]
    return torch.cat([side.flatten() for side in sides])
