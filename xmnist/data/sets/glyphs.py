"""The built-in data set: digits drawn from the fonts that matplotlib ships, so that everything works offline.

Every image is a digit of one of 21 fonts in one of three stroke widths, rotated, sheared, scaled and shifted at
random, then blurred and covered with noise. The mask is the digit itself, before blur and noise.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

from xmnist.config.rules import number, whole
from xmnist.data.base import Info, Split
from xmnist.data.dataset import Dataset, Seed, dataset
from xmnist.runtime.lazy import F, Tensor, np, torch

SIZE = 28
FINE = 2 * SIZE  # digits are placed on a grid twice as fine and averaged: smooth edges
CHUNK = 2000
STROKES = (0, 1, 2)
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)


@dataset("glyphs", drawn=True, masked=True)
class Glyphs(Dataset):
    """Digits drawn from the fonts that matplotlib ships, the same for the same `seed`."""

    train: Annotated[int, whole(200, 1_000_000), "training images"]
    test: Annotated[int, whole(1, 1_000_000), "test images"]
    seed: Seed
    rotation: Annotated[float, number(0, 180), "largest angle to either side, in degrees"]
    shear: Annotated[float, number(0, 45), "largest angle to either side, in degrees"]
    zoom: Annotated[float, number(0, 0.9), "largest change of size to either side, as a share of it"]
    shift: Annotated[float, number(0, 28), "largest shift to either side, in pixels"]
    blur: Annotated[float, number(0, 1), "largest share that a blurred copy has in the image"]
    noise: Annotated[float, number(0, 1), "largest standard deviation of the Gaussian noise"]

    def info(self) -> Info:
        return Info((1, SIZE, SIZE), tuple("0123456789"), masks=True)

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        templates = _templates()
        random = torch.Generator().manual_seed(self.seed)
        out = []
        for count in (self.train, self.test):
            labels = torch.randint(10, (count,), generator=random)
            images = torch.empty(count, 1, SIZE, SIZE)
            masks = torch.empty(count, 1, SIZE, SIZE, dtype=torch.bool)
            for start in range(0, count, CHUNK):
                rows = slice(start, min(start + CHUNK, count))
                size = rows.stop - rows.start
                style = torch.randint(templates.shape[1], (size,), generator=random)
                transforms = _transforms(size, self.rotation, self.shear, self.zoom, self.shift, random)
                grid = F.affine_grid(transforms, [size, 1, FINE, FINE], align_corners=False)
                drawn = F.grid_sample(templates[labels[rows], style, None], grid, align_corners=False)
                clean = F.avg_pool2d(drawn, 2)
                masks[rows] = clean >= 0.3  # half would break the thinnest strokes
                images[rows] = _spoil(clean, self.blur, self.noise, random)
            out.append(Split(images, labels, masks))
        return out[0], out[1], self.info()


def _templates() -> Tensor:
    """All digits in all styles, white on black and centred, (10, styles, FINE, FINE) in [0, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency"
    folder = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    out = np.zeros((10, len(FONTS) * len(STROKES), FINE, FINE), dtype=np.float32)
    for f, font_name in enumerate(FONTS):
        font = ImageFont.truetype(str(folder / f"{font_name}.ttf"), size=46)
        for s, stroke in enumerate(STROKES):
            for digit in range(10):
                image = Image.new("L", (FINE, FINE))
                draw = ImageDraw.Draw(image)
                left, top, right, bottom = draw.textbbox((0, 0), str(digit), font=font, stroke_width=stroke)
                corner = ((FINE - right - left) / 2, (FINE - bottom - top) / 2)
                draw.text(corner, str(digit), fill=255, font=font, stroke_width=stroke)
                out[digit, f * len(STROKES) + s] = np.asarray(image, dtype=np.float32) / 255
    return torch.from_numpy(out)


def _transforms(
    count: int, rotation: float, shear: float, zoom: float, shift: float, random: torch.Generator
) -> Tensor:
    """Random affine maps from image to template, (count, 2, 3) in the coordinates of `affine_grid`."""

    def uniform(limit: float) -> Tensor:
        return (2 * torch.rand(count, generator=random) - 1) * limit

    angle, slant = torch.deg2rad(uniform(rotation)), torch.tan(torch.deg2rad(uniform(shear)))
    scale = 1 / (1 + uniform(zoom))
    dx, dy = uniform(2 * shift / SIZE), uniform(2 * shift / SIZE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (torch.stack([cos, slant * cos - sin, dx], 1), torch.stack([sin, slant * sin + cos, dy], 1))
    return torch.stack(rows, 1)


def _spoil(clean: Tensor, blur: float, noise: float, random: torch.Generator) -> Tensor:
    count = len(clean)
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    soft = F.conv2d(F.conv2d(clean, kernel.view(1, 1, 1, 5), padding=(0, 2)), kernel.view(1, 1, 5, 1), padding=(2, 0))
    share = torch.rand(count, 1, 1, 1, generator=random) * blur
    level = torch.rand(count, 1, 1, 1, generator=random) * noise
    grain = torch.randn(clean.shape, generator=random)
    return ((1 - share) * clean + share * soft + level * grain).clamp_(0, 1)
