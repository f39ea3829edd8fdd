"""Coloured polygons and circles on a plain ground; the class says whether a target polygon is among them.

The parameters are those of the synthetic set of Rio-Torto et al., "Understanding the decisions of CNNs: an in-model
approach", Pattern Recognition Letters 133 (2020); the images are drawn anew, from formulas, many at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from xmnist.config.rules import Rule, maybe, number, pair, raise_unless, whole
from xmnist.data.base import Info, Split, box_masks
from xmnist.data.dataset import Dataset, Masks, Seed, dataset
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, torch
from xmnist.runtime.seeds import derive_seed

CHUNK = 256
"""Images that are drawn from one seed, so that image i is the same however many are asked for."""

CIRCLE = -1
NAMES = {CIRCLE: "circle", 3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
INNER = 0.6
"""Radius of a shape inside an outside polygon, as a share of that one's."""

Polygon = list[int]
"""p vertices on a circle, each joined with the q-th next: [4, 1] is a square, [5, 2] a pentagram, [-1, 1] a circle."""


def _convert_polygon(value: Any) -> list[int]:
    p, q = pair(-1).convert(value)
    return raise_unless((p == -1 and q == 1) or (3 <= p <= 100 and 1 <= q < p / 2), [p, q])


def _convert_shapes(value: Any) -> int:
    return whole(1, 100).convert(value) if whole(-1, 100).convert(value) != -1 else -1


def _convert_rgb(value: Any) -> list[int]:
    return [whole(0, 255).convert(v) for v in raise_unless(isinstance(value, list) and len(value) == 3, value)]


POLYGON = Rule(
    "a polygon [p,q] of p vertices (3 to 100), each joined with the q-th next (1 <= q < p/2), or [-1,1] for a circle",
    _convert_polygon,
)
SHAPES = Rule("a whole number from 1 to 100, or -1 for 1 to 19 by chance", _convert_shapes)
RGB = Rule("a colour [red,green,blue], each from 0 to 255", _convert_rgb)


@dataset("polygons", drawn=True, masked=True)
class Polygons(Dataset):
    """Coloured polygons and circles; images without a target have an empty mask. Sizes are in pixels."""

    train: Annotated[int, whole(20, 1_000_000), "training images"]
    test: Annotated[int, whole(1, 1_000_000), "test images"]
    seed: Seed
    masks: Masks
    size: Annotated[int, whole(16, 1024), "height and width"]
    target: Annotated[Polygon, POLYGON, "the polygon that class 1 has"]
    against: Annotated[Polygon | None, maybe(POLYGON), "the polygon that class 0 has in its place; null for none"]
    targets: Annotated[
        float | None, maybe(number(0, 1)), "share of class 1, met exactly; null: a coin toss for each image"
    ]
    outside: Annotated[
        Polygon | None, maybe(POLYGON), "a polygon around every target and half of the distractors; null for none"
    ]
    shapes: Annotated[int, SHAPES, "how many an image has"]
    tries: Annotated[int, whole(1, 1000), "random places tried for each shape; one that fits none is left out"]
    radius: Annotated[list[int], pair(1), "of the circumscribed circles: the least, and one more than the largest"]
    overlap: Annotated[bool, "whether distractors may overlap each other"]
    occlusion: Annotated[bool, "whether distractors may cover targets"]
    rotation: Annotated[bool, "whether shapes are turned by a random angle"]
    simplified: Annotated[bool, "distractors are circles, and any further shape of class 1 is a target by coin toss"]
    vertices: Annotated[list[int], pair(3, 100), "least and most of the distractors, which are never stars"]
    circles: Annotated[bool, "whether circles are among the distractors"]
    background: Annotated[int, whole(0, 255), "gray value"]
    colour: Annotated[list[int] | None, maybe(RGB), "of the targets; null: random, like all others"]
    fill: Annotated[bool, "false: outlines, one pixel wide"]
    noise: Annotated[bool, "whether Gaussian noise of mean 5 and variance 5 (of 255) is added"]
    start_index: Annotated[int, whole(0), "where to begin in the endless sequence that a seed stands for"]

    def info(self) -> Info:
        """Shape and classes: without the target, or with `against` in its place; and with the target.

        Raises:
            InputError: the shapes do not fit into the image, the classes do not differ, or nothing is left to distract.
        """
        size, (least, above) = self.size, self.radius
        if not 1 <= least < above or 2 * above > size + 1:
            raise InputError(
                f"dataset.radius must be [least,above] with 1 <= least < above and circles that fit into {size} "
                f"pixels, got [{least},{above}]"
            )
        if self.against == self.target:
            raise InputError(f"dataset.target and dataset.against are the same: {named(self.target)}")
        if self.vertices[0] > self.vertices[1]:
            raise InputError(f"dataset.vertices must be [least,most], got [{','.join(map(str, self.vertices))}]")
        share, start = self.targets, self.start_index
        positives = None if share is None else math.floor((start + self.train) * share) - math.floor(start * share)
        if positives is not None and not 2 <= positives <= self.train - 2:
            raise InputError(f"dataset.targets={share}: of {self.train} training images, both classes need at least 2")
        if not _distractors(self):
            raise InputError(
                "dataset.simplified, vertices and circles leave no distractor that no class is named after"
            )
        without = f"no {named(self.target)}" if self.against is None else named(self.against)
        return Info((3, size, size), (without, named(self.target)), masks=True)

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        train = draw(self, self.train, derive_seed(self.seed, "polygons train"))
        return train, draw(self, self.test, derive_seed(self.seed, "polygons test")), self.info()


def named(polygon: Polygon) -> str:
    """Return the common name of a polygon."""
    p, q = polygon
    return NAMES.get(p, f"{p}-gon") if q == 1 else f"{p}-{q} star"


def draw(drawing: Polygons, count: int, seed: int) -> Split:
    """The first `count` images from `drawing.start_index` on."""
    start = drawing.start_index
    columns: list[Tensor] = []
    for chunk in range(start // CHUNK, (start + count - 1) // CHUNK + 1):
        part, offset = _chunk(drawing, chunk, seed), chunk * CHUNK - start
        kept = slice(max(0, -offset), min(CHUNK, count - offset))
        part_columns = (part.images, part.labels, part.masks, part.boxes)
        columns = columns or [c.new_empty(count, *c.shape[1:]) for c in part_columns if c is not None]
        for filled, column in zip(columns, part_columns, strict=True):
            assert column is not None
            filled[kept.start + offset : kept.stop + offset] = column[kept]
    return Split(*columns)


@dataclass(frozen=True)
class _Scene:
    """The shapes (N, S) of some images, in the order in which they are painted; what is not `there` is not."""

    there: Tensor
    target: Tensor  # what the class is named after
    kind: Tensor  # (N, S, 2): p and q
    x: Tensor
    y: Tensor
    radius: Tensor
    angle: Tensor
    enclosed: Tensor


def _chunk(drawing: Polygons, chunk: int, seed: int) -> Split:
    random = torch.Generator().manual_seed(derive_seed(seed, f"chunk {chunk}"))
    labels = _labels(drawing.targets, chunk * CHUNK, random)
    scene = _placed(drawing, _chosen(drawing, labels, random), random)
    images, pixels = _painted(drawing, scene, random)
    centre, reach = torch.stack([scene.x, scene.y], -1), scene.radius[..., None]
    boxes = torch.cat([centre - reach, centre + reach], -1)
    boxes = torch.where((scene.there & scene.target)[..., None], boxes, -1).int()
    return Split(images, labels, pixels if drawing.masks == "pixels" else box_masks(boxes, images.shape), boxes)


def _labels(share: float | None, first: int, random: torch.Generator) -> Tensor:
    if share is None:
        return torch.randint(2, (CHUNK,), generator=random)
    before = torch.arange(first, first + CHUNK + 1, dtype=torch.float64) * share
    return (before + 1e-9).floor().diff().long()


def _chosen(drawing: Polygons, labels: Tensor, random: torch.Generator) -> _Scene:
    """Return the shapes of each image, targets first, still without a position."""
    n, most = len(labels), 19 if drawing.shapes == -1 else drawing.shapes
    class_polygons = torch.tensor([drawing.against or drawing.target, drawing.target])
    kinds = _distractors(drawing)
    kind = torch.tensor(kinds)[torch.randint(len(kinds), (n, most), generator=random)]
    further = torch.rand(n, most, generator=random) < (0.5 if drawing.simplified else 0)
    further[:, 0] = True
    target = further & (labels[:, None].bool() | (drawing.against is not None))
    kind = torch.where(target[..., None], class_polygons[labels][:, None], kind)
    number = torch.randint(1, 20, (n, 1), generator=random) if drawing.shapes == -1 else torch.full((n, 1), most)
    present = torch.arange(most) < number
    order = (~target).int().argsort(dim=1, stable=True)
    enclosed = target | (torch.rand(n, most, generator=random) < 0.5)
    return _Scene(
        there=present.gather(1, order),
        target=target.gather(1, order),
        kind=kind.gather(1, order[..., None].expand(-1, -1, 2)),
        x=torch.zeros(n, most, dtype=torch.long),
        y=torch.zeros(n, most, dtype=torch.long),
        radius=torch.randint(drawing.radius[0], drawing.radius[1], (n, most), generator=random),
        angle=(2 * torch.rand(n, most, generator=random) - 1) * math.pi * drawing.rotation,
        enclosed=enclosed.gather(1, order) & (drawing.outside is not None),
    )


def _distractors(drawing: Polygons) -> list[Polygon]:
    """Return the possible shapes of distractors, without those that a class is named after."""
    least, most = drawing.vertices
    round_ones = [CIRCLE] if drawing.circles or drawing.simplified else []
    kinds = [[p, 1] for p in (*round_ones, *([] if drawing.simplified else range(least, most + 1)))]
    return [kind for kind in kinds if kind not in (drawing.target, drawing.against)]


def _placed(drawing: Polygons, scene: _Scene, random: torch.Generator) -> _Scene:
    """Give every shape the first of its random places at which it covers nothing that it must not."""
    n, most = scene.there.shape
    for shape in range(most):
        radius, before = scene.radius[:, shape, None], slice(shape)
        corners = torch.rand(2, n, drawing.tries, generator=random) * (drawing.size - 2 * radius)
        x, y = corners.long() + radius
        apart = (x[..., None] - scene.x[:, None, before]) ** 2 + (y[..., None] - scene.y[:, None, before]) ** 2
        near = apart < (radius[..., None] + scene.radius[:, None, before] + 2) ** 2
        spoils = scene.target[:, None, before] | scene.target[:, shape, None, None]
        forbidden = torch.where(spoils, not drawing.occlusion, not drawing.overlap) & scene.there[:, None, before]
        free = ~(near & forbidden).any(-1)
        first = free.int().argmax(1, keepdim=True)
        scene.x[:, shape], scene.y[:, shape] = x.gather(1, first)[:, 0], y.gather(1, first)[:, 0]
        scene.there[:, shape] &= free.any(1)
    return scene


def _painted(drawing: Polygons, scene: _Scene, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W), of whole 255ths, and the pixels (N, 1, H, W) of the targets that are seen."""
    n, most = scene.there.shape
    size, reach = drawing.size, drawing.radius[1] + 1
    images = torch.full((n, 3, size, size), float(drawing.background))
    pixels = torch.zeros(n, 1, size, size, dtype=torch.bool)
    colours = torch.rand(n, most, 2, 3, generator=random) * 0.8 * 255  # bright ones are lost on white
    if drawing.colour is not None:
        colours[:, :, 0] = torch.where(scene.target[..., None], torch.tensor(drawing.colour).float(), colours[:, :, 0])
    offsets = torch.arange(-reach, reach + 1)
    for shape in range(most):
        rows, columns = scene.y[:, shape, None] + offsets, scene.x[:, shape, None] + offsets
        inside = ((rows >= 0) & (rows < size))[:, :, None] & ((columns >= 0) & (columns < size))[:, None]
        drawable = inside & scene.there[:, shape, None, None]
        window = (
            torch.arange(n)[:, None, None],
            rows.clamp(0, size - 1)[:, :, None],
            columns.clamp(0, size - 1)[:, None],
        )
        radius, angle, enclosed = (t[:, shape] for t in (scene.radius, scene.angle, scene.enclosed))
        p, q = scene.kind[:, shape].T
        layers = [(p, q, torch.where(enclosed, INNER * radius, radius.float()), colours[:, shape, 0], drawable)]
        if drawing.outside is not None:
            around = torch.full_like(p, drawing.outside[0]), torch.full_like(q, drawing.outside[1])
            layers.insert(0, (*around, radius.float(), colours[:, shape, 1], drawable & enclosed[:, None, None]))
        covered = torch.zeros_like(drawable)
        for p, q, reach_of, colour, area in layers:
            outwards = _outwards(p, q, reach_of, angle, offsets)
            share = 0.5 - outwards if drawing.fill else 1 - (outwards + 0.5).abs()
            share = share.clamp(0, 1) * area
            ground = images.permute(0, 2, 3, 1)[window]
            painted = ground + share[..., None] * (colour[:, None, None] - ground)
            _put(images, window, painted, inside)
            covered |= (outwards <= 0) & area
        mask = torch.where(covered, scene.target[:, shape, None, None], pixels[:, 0][window])
        _put(pixels, window, mask[..., None], inside)
    if drawing.noise:
        images += 5 + math.sqrt(5) * torch.randn(images.shape, generator=random)
    return images.round_().clamp_(0, 255).div_(255), pixels


def _put(canvas: Tensor, window: tuple[Tensor, Tensor, Tensor], values: Tensor, inside: Tensor) -> None:
    """Write values (N, P, P, C) into windows of a canvas (N, C, H, W), those of them that are inside it."""
    image, row, column = (index.expand(inside.shape)[inside] for index in window)
    canvas.permute(0, 2, 3, 1)[image, row, column] = values[inside]


def _outwards(p: Tensor, q: Tensor, radius: Tensor, angle: Tensor, offsets: Tensor) -> Tensor:
    """Return the distance of each pixel (N, P, P) outside a shape; negative inside.

    A polygon looks the same in each of its 2p sectors, up to mirroring; in one of them it is one straight edge, whose
    normal points at the angle pi q / p from the tip.
    """
    y, x = offsets[:, None].float(), offsets[None].float()
    distance = (x * x + y * y).sqrt()
    p, q, radius, angle = (t.float()[:, None, None] for t in (p, q, radius, angle))
    sector = 2 * math.pi / p.clamp_min(1)
    turned = torch.remainder(torch.atan2(y, x) - angle + sector / 2, sector) - sector / 2
    normal = sector / 2 * q
    edge = distance * torch.cos(turned.abs() - normal) - radius * torch.cos(normal)
    return torch.where(p == CIRCLE, distance - radius, edge)
