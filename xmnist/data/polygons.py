"""Coloured polygons and circles on a plain ground; the class says whether a target polygon is among them.

The parameters are those of the synthetic set of Rio-Torto et al., "Understanding the decisions of CNNs: an in-model
approach", Pattern Recognition Letters 133 (2020); the images are drawn anew, from formulas, many at once.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from xmnist.data.base import Info, Split, box_masks
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed

CHUNK = 256
"""Images that are drawn from one seed, so that image i is the same however many are asked for."""

CIRCLE = -1
NAMES = {CIRCLE: "circle", 3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
INNER = 0.6
"""Radius of a shape inside an outside polygon, as a share of that one's."""

Polygon = list[int]
"""p vertices on a circle, each joined with the q-th next: [4, 1] is a square, [5, 2] a pentagram, [-1, 1] a circle."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How images are drawn; sizes in pixels.

    Args:
        size: height and width.
        target: the polygon that class 1 has.
        against: the polygon that class 0 has in its place; None for none.
        targets: share of class 1, met exactly; None for a coin toss an image.
        outside: a polygon around every target; then half of the distractors have it around them too.
        shapes: how many an image has; -1 for a random number from 1 to 19.
        tries: random places at which a shape is tried; where it may stand at none of them, it is left out.
        radius: of the circumscribed circles: the least, and one more than the largest.
        overlap: whether distractors may overlap each other.
        occlusion: whether distractors may cover targets.
        rotation: whether shapes are turned by a random angle.
        simplified: distractors are circles, and every further shape of class 1 is a target with probability 1/2.
        vertices: least and most of the distractors, which are never stars.
        circles: whether circles are among the distractors.
        background: gray value in [0, 255].
        colour: red, green, blue of the targets, each in [0, 255]; None for random ones, as the distractors have.
        fill: False for outlines, one pixel wide.
        noise: whether Gaussian noise of mean 5 and variance 5 (of 255) is added.
        start_index: the first image that is taken of the endless sequence that a seed stands for.
    """

    size: int
    target: Polygon
    against: Polygon | None
    targets: float | None
    outside: Polygon | None
    shapes: int
    tries: int
    radius: list[int]
    overlap: bool
    occlusion: bool
    rotation: bool
    simplified: bool
    vertices: list[int]
    circles: bool
    background: int
    colour: list[int] | None
    fill: bool
    noise: bool
    start_index: int


def info(**options: object) -> Info:
    """Shape and classes: without the target, or with `against` in its place; and with the target.

    Raises:
        InputError: the shapes do not fit into the image, the classes do not differ, or nothing is left to distract.
    """
    drawing = Drawing(**{f.name: options[f.name] for f in fields(Drawing)})  # type: ignore[arg-type]
    size, target, against, (least, above) = drawing.size, drawing.target, drawing.against, drawing.radius
    if not 1 <= least < above or 2 * above > size + 1:
        raise InputError(
            f"dataset.radius must be [least,above] with 1 <= least < above and circles that fit into {size} pixels, "
            f"got [{least},{above}]"
        )
    if against == target:
        raise InputError(f"dataset.target and dataset.against are the same: {named(target)}")
    if drawing.vertices[0] > drawing.vertices[1]:
        raise InputError(f"dataset.vertices must be [least,most], got [{','.join(map(str, drawing.vertices))}]")
    number, share, start = int(str(options.get("train", CHUNK))), drawing.targets, drawing.start_index
    found = None if share is None else math.floor((start + number) * share) - math.floor(start * share)
    if found is not None and not 2 <= found <= number - 2:
        raise InputError(f"dataset.targets={share}: of {number} training images, both classes need at least 2")
    if not _distractors(drawing):
        raise InputError("dataset.simplified, vertices and circles leave no distractor that no class is named after")
    without = f"no {named(target)}" if against is None else named(against)
    return Info((3, size, size), (without, named(target)), masks=True)


def named(polygon: Polygon) -> str:
    """What people call a polygon."""
    p, q = polygon
    return NAMES.get(p, f"{p}-gon") if q == 1 else f"{p}-{q} star"


def load(
    data_dir: str, train: int, test: int, seed: int, masks: str, name: str = "polygons", **options: object
) -> tuple[Split, Split, Info]:
    """Draw `train` and `test` images, the same for the same `seed`.

    Args:
        masks: `boxes` (the squares around the targets) or `pixels`; images without a target have an empty mask.
        options: of `Drawing`.
    """
    drawing = Drawing(**options)  # type: ignore[arg-type]
    parts = [
        draw(drawing, count, derive_seed(seed, f"polygons {part}"), masks)
        for part, count in (("train", train), ("test", test))
    ]
    return parts[0], parts[1], info(**options)


def draw(drawing: Drawing, count: int, seed: int, masks: str) -> Split:
    """The first `count` images from `drawing.start_index` on."""
    start = drawing.start_index
    columns: list[Tensor] = []
    for chunk in range(start // CHUNK, (start + count - 1) // CHUNK + 1):
        part, offset = _chunk(drawing, chunk, seed, masks), chunk * CHUNK - start
        kept = slice(max(0, -offset), min(CHUNK, count - offset))
        own = (part.images, part.labels, part.masks, part.boxes)
        columns = columns or [c.new_empty(count, *c.shape[1:]) for c in own if c is not None]
        for whole, column in zip(columns, own, strict=True):
            assert column is not None
            whole[kept.start + offset : kept.stop + offset] = column[kept]
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


def _chunk(drawing: Drawing, chunk: int, seed: int, masks: str) -> Split:
    random = torch.Generator().manual_seed(derive_seed(seed, f"chunk {chunk}"))
    labels = _labels(drawing.targets, chunk * CHUNK, random)
    scene = _placed(drawing, _chosen(drawing, labels, random), random)
    images, pixels = _painted(drawing, scene, random)
    centre, reach = torch.stack([scene.x, scene.y], -1), scene.radius[..., None]
    boxes = torch.cat([centre - reach, centre + reach], -1)
    boxes = torch.where((scene.there & scene.target)[..., None], boxes, -1).int()
    return Split(images, labels, pixels if masks == "pixels" else box_masks(boxes, images.shape), boxes)


def _labels(share: float | None, first: int, random: torch.Generator) -> Tensor:
    if share is None:
        return torch.randint(2, (CHUNK,), generator=random)
    before = torch.arange(first, first + CHUNK + 1, dtype=torch.float64) * share
    return (before + 1e-9).floor().diff().long()


def _chosen(drawing: Drawing, labels: Tensor, random: torch.Generator) -> _Scene:
    """What is in each image, targets first, still without a place."""
    n, most = len(labels), 19 if drawing.shapes == -1 else drawing.shapes
    own = torch.tensor([drawing.against or drawing.target, drawing.target])
    kinds = _distractors(drawing)
    kind = torch.tensor(kinds)[torch.randint(len(kinds), (n, most), generator=random)]
    further = torch.rand(n, most, generator=random) < (0.5 if drawing.simplified else 0)
    further[:, 0] = True
    target = further & (labels[:, None].bool() | (drawing.against is not None))
    kind = torch.where(target[..., None], own[labels][:, None], kind)
    number = torch.randint(1, 20, (n, 1), generator=random) if drawing.shapes == -1 else torch.full((n, 1), most)
    there = torch.arange(most) < number
    order = (~target).int().argsort(dim=1, stable=True)
    enclosed = target | (torch.rand(n, most, generator=random) < 0.5)
    return _Scene(
        there=there.gather(1, order),
        target=target.gather(1, order),
        kind=kind.gather(1, order[..., None].expand(-1, -1, 2)),
        x=torch.zeros(n, most, dtype=torch.long),
        y=torch.zeros(n, most, dtype=torch.long),
        radius=torch.randint(drawing.radius[0], drawing.radius[1], (n, most), generator=random),
        angle=(2 * torch.rand(n, most, generator=random) - 1) * math.pi * drawing.rotation,
        enclosed=enclosed.gather(1, order) & (drawing.outside is not None),
    )


def _distractors(drawing: Drawing) -> list[Polygon]:
    """What a distractor can be: anything but what a class is named after."""
    least, most = drawing.vertices
    round_ones = [CIRCLE] if drawing.circles or drawing.simplified else []
    kinds = [[p, 1] for p in (*round_ones, *([] if drawing.simplified else range(least, most + 1)))]
    return [kind for kind in kinds if kind not in (drawing.target, drawing.against)]


def _placed(drawing: Drawing, scene: _Scene, random: torch.Generator) -> _Scene:
    """Give every shape the first of its random places at which it covers nothing that it must not."""
    n, most = scene.there.shape
    for shape in range(most):
        radius, before = scene.radius[:, shape, None], slice(shape)
        place = torch.rand(2, n, drawing.tries, generator=random) * (drawing.size - 2 * radius)
        x, y = place.long() + radius
        apart = (x[..., None] - scene.x[:, None, before]) ** 2 + (y[..., None] - scene.y[:, None, before]) ** 2
        near = apart < (radius[..., None] + scene.radius[:, None, before] + 2) ** 2
        spoils = scene.target[:, None, before] | scene.target[:, shape, None, None]
        forbidden = torch.where(spoils, not drawing.occlusion, not drawing.overlap) & scene.there[:, None, before]
        free = ~(near & forbidden).any(-1)
        first = free.int().argmax(1, keepdim=True)
        scene.x[:, shape], scene.y[:, shape] = x.gather(1, first)[:, 0], y.gather(1, first)[:, 0]
        scene.there[:, shape] &= free.any(1)
    return scene


def _painted(drawing: Drawing, scene: _Scene, random: torch.Generator) -> tuple[Tensor, Tensor]:
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
        there = inside & scene.there[:, shape, None, None]
        window = (
            torch.arange(n)[:, None, None],
            rows.clamp(0, size - 1)[:, :, None],
            columns.clamp(0, size - 1)[:, None],
        )
        radius, angle, enclosed = (t[:, shape] for t in (scene.radius, scene.angle, scene.enclosed))
        p, q = scene.kind[:, shape].T
        layers = [(p, q, torch.where(enclosed, INNER * radius, radius.float()), colours[:, shape, 0], there)]
        if drawing.outside is not None:
            around = torch.full_like(p, drawing.outside[0]), torch.full_like(q, drawing.outside[1])
            layers.insert(0, (*around, radius.float(), colours[:, shape, 1], there & enclosed[:, None, None]))
        covered = torch.zeros_like(there)
        for p, q, reach_of, colour, shown in layers:
            outwards = _outwards(p, q, reach_of, angle, offsets)
            share = 0.5 - outwards if drawing.fill else 1 - (outwards + 0.5).abs()
            share = share.clamp(0, 1) * shown
            ground = images.permute(0, 2, 3, 1)[window]
            painted = ground + share[..., None] * (colour[:, None, None] - ground)
            _put(images, window, painted, inside)
            covered |= (outwards <= 0) & shown
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
    """How far each pixel (N, P, P) lies outside a shape; negative inside.

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
