"""Polygons and cluttered digits: reproducible, with ground truth that is where the object is."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from helpers import composed
from xmnist import data
from xmnist.config import resolution
from xmnist.data.base import Split, box_masks
from xmnist.data.sets import polygons
from xmnist.runtime.errors import InputError

DRAWING: dict[str, Any] = {
    **{"size": 64, "target": [4, 1], "against": None, "targets": 0.5, "outside": None, "shapes": 5, "tries": 100},
    **{"radius": [6, 11], "overlap": False, "occlusion": False, "rotation": True, "simplified": False},
    **{"vertices": [3, 12], "circles": True, "background": 255, "colour": None, "fill": True, "noise": False},
    **{"start_index": 0, "train": 256, "test": 1, "seed": 0, "masks": "pixels"},
}


def draw(count: int = 64, seed: int = 0, masks: str = "pixels", **options: Any) -> Split:
    return polygons.draw(polygons.Polygons(**(DRAWING | {"masks": masks} | options)), count, seed)


def same(a: Split, b: Split) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("images", "labels", "masks", "boxes"))


def test_images_are_those_of_their_seed_and_place_however_many_are_asked_for() -> None:
    few, many = draw(10), draw(600)
    assert same(few, many[:10]) and same(few, draw(10))
    assert same(draw(30, start_index=270), many[270:300])
    assert not torch.equal(draw(10, seed=1).images, few.images)
    assert len(torch.unique(many.images.flatten(1), dim=0)) == 600


def test_values_are_whole_255ths_in_range_on_the_background() -> None:
    for options in ({}, {"noise": True, "background": 128}, {"fill": False}):
        images = draw(20, **options).images
        assert images.min() >= 0 and images.max() <= 1
        torch.testing.assert_close((images * 255).round() / 255, images)
    assert draw(20).images.mode(1).values.median() == 1
    noisy = draw(200, noise=True, background=100, shapes=1).images * 255
    assert noisy.median().item() == pytest.approx(105, abs=1)


@pytest.mark.parametrize("share", [0.5, 0.25, 0.0, 1.0])
def test_the_share_of_targets_is_exact(share: float) -> None:
    labels = draw(400, targets=share).labels
    assert labels.sum().item() == 400 * share
    tossed = draw(400, targets=None).labels.float().mean().item()
    assert 0.4 < tossed < 0.6


@pytest.mark.parametrize("options", [{}, {"outside": [-1, 1]}, {"target": [5, 2]}, {"simplified": True}])
def test_boxes_contain_their_polygons_and_touch_them(options: dict[str, Any]) -> None:
    split = draw(200, **options)
    assert split.masks is not None and split.boxes is not None
    has = split.labels == 1
    assert torch.equal(split.masks.flatten(1).any(1), has)
    assert torch.equal((split.boxes[..., 0] >= 0).any(1), has)
    inside = box_masks(split.boxes, split.images.shape)
    assert (split.masks <= inside).all()
    boxes = draw(200, masks="boxes", **options)
    assert torch.equal(boxes.masks, inside)
    area = split.masks[has].flatten(1).sum(1) / inside[has].flatten(1).sum(1)
    assert area.min() > 0.15 and area.max() < 0.9


def test_pixel_masks_are_exact_against_pil(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square of random angle, drawn once more by another library's polygon filling."""
    scenes = []
    real = polygons._painted

    def painted(drawing: Any, scene: Any, random: Any) -> Any:
        scenes.append(scene)
        return real(drawing, scene, random)

    monkeypatch.setattr(polygons, "_painted", painted)
    for target in ([3, 1], [4, 1], [7, 1], [5, 2], [-1, 1]):
        split = draw(20, targets=1.0, target=target, radius=[12, 20])
        scene = scenes.pop()
        assert split.masks is not None
        for place in range(20):
            x, y, r, angle = (t[place, 0].item() for t in (scene.x, scene.y, scene.radius, scene.angle))
            canvas, (p, q) = Image.new("L", (64 * 8, 64 * 8)), target
            pen = ImageDraw.Draw(canvas)
            if p == -1:
                pen.ellipse(tuple(8 * (v + 0.5) for v in (x - r, y - r, x + r, y + r)), fill=255)
            else:
                tips = [angle + 2 * math.pi * k / p for k in range(p)]
                ratio = math.cos(math.pi * q / p) / math.cos(math.pi * (q - 1) / p)
                between = [(t + math.pi / p, r * ratio) for t in tips if q > 1]
                corners = sorted([*((t, r) for t in tips), *between])
                outline = [(8 * (x + 0.5 + a * math.cos(t)), 8 * (y + 0.5 + a * math.sin(t))) for t, a in corners]
                pen.polygon(outline, fill=255)
            share = np.asarray(canvas.resize((64, 64), Image.Resampling.BOX)) / 255
            mask = split.masks[place, 0].numpy()
            assert mask[share > 0.9].all() and not mask[share < 0.1].any(), target
            assert (mask == (share > 0.5)).mean() > 0.99


def test_shapes_keep_apart_and_may_not() -> None:
    def touching(**options: Any) -> tuple[int, int]:
        """How many pairs of circumscribed circles overlap: of two distractors, and of a target with anything."""
        drawing = polygons.Polygons(**(DRAWING | {"size": 48, "shapes": 8, **options}))
        random = torch.Generator().manual_seed(0)
        scene = polygons._placed(drawing, polygons._chosen(drawing, torch.ones(60, dtype=torch.long), random), random)
        place = torch.stack([scene.x, scene.y], -1).float()
        near = torch.cdist(place, place) < scene.radius[:, :, None] + scene.radius[:, None]
        pairs = near.triu(1) & scene.there[:, :, None] & scene.there[:, None]
        target = scene.target[:, :, None] | scene.target[:, None]
        assert scene.there[:, 0].all() and scene.target[:, 0].all()
        return int((pairs & ~target).sum()), int((pairs & target).sum())

    assert touching() == (0, 0)
    some, none = touching(overlap=True)
    assert some > 20 and none == 0
    none, some = touching(occlusion=True)
    assert none == 0 and some > 20


def test_an_occluded_target_is_seen_less() -> None:
    options = {"shapes": 12, "targets": 1.0, "seed": 3}
    covered, whole = (draw(100, occlusion=o, overlap=True, **options).masks for o in (True, False))
    assert covered is not None and whole is not None
    assert covered.float().mean() < 0.9 * whole.float().mean()


def test_class_0_has_the_other_polygon_where_one_is_named() -> None:
    split = draw(100, target=[3, 1], against=[-1, 1], vertices=[4, 6], radius=[9, 10])
    assert split.masks is not None
    area = split.masks.flatten(1).sum(1).float()
    assert area[split.labels == 0].mean().item() == pytest.approx(math.pi * 81, rel=0.03)
    assert area[split.labels == 1].mean().item() == pytest.approx(0.75 * math.sqrt(3) * 81, rel=0.06)
    assert polygons.Polygons(**(DRAWING | {"target": [3, 1], "against": [-1, 1]})).info().classes == (
        "circle",
        "triangle",
    )
    assert polygons.Polygons(**DRAWING).info().classes == ("no square", "square")


def test_simplified_images_have_many_targets_and_random_numbers_vary() -> None:
    split = draw(200, simplified=True, shapes=8, radius=[3, 5])
    assert split.boxes is not None
    found = (split.boxes[split.labels == 1][..., 0] >= 0).sum(1).float()
    assert found.mean().item() == pytest.approx(1 + 7 / 2, abs=0.4) and found.min() >= 1
    numbers = polygons._chosen(
        polygons.Polygons(**(DRAWING | {"shapes": -1})), torch.ones(400, dtype=torch.long), torch.Generator()
    ).there.sum(1)
    assert set(numbers.tolist()) == set(range(1, 20))


def test_colour_and_outline() -> None:
    split = draw(50, colour=[0, 0, 0], targets=1.0)
    assert split.masks is not None
    inner = -torch.nn.functional.max_pool2d(-split.masks.float(), 3, 1, 1) > 0
    assert (split.images.permute(0, 2, 3, 1)[inner[:, 0]] == 0).all()
    outline = draw(50, colour=[0, 0, 0], targets=1.0, fill=False)
    ink = 1 - outline.images.mean(1, keepdim=True)
    assert ink[inner & (torch.nn.functional.avg_pool2d(inner.float(), 5, 1, 2) == 1)].abs().max() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dataset.radius=[20,40]", "dataset.size=64"), "dataset.radius must be [least,above]"),
        (("dataset.radius=[9,9]",), "dataset.radius must be"),
        (("dataset.against=[4,1]",), "dataset.target and dataset.against are the same: square"),
        (("dataset.vertices=[9,4]",), "dataset.vertices must be [least,most], got [9,4]"),
        (
            ("dataset.targets=0.05", "dataset.train=20"),
            "of 20 training images, both classes need",
        ),
        (("dataset.targets=1",), "both classes need at least 2"),
        (("dataset.shapes=-1.0",), "dataset.shapes must be"),
        (("dataset.vertices=[4,4]", "dataset.circles=false"), "leave no distractor"),
        (("dataset.target=[5,3]",), "dataset.target must be a polygon [p,q]"),
        (("dataset.target=4",), "dataset.target must be a polygon [p,q]"),
        (("dataset.shapes=0",), "dataset.shapes must be a whole number from 1 to 100, or -1"),
        (("dataset.colour=[0,0,300]",), "dataset.colour must be a colour"),
        (("dataset.masks=auto",), "dataset.masks must be one of boxes, pixels"),
    ],
)
def test_polygons_that_cannot_be_drawn(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        data.info(resolution.resolve(composed("dataset=polygons", *words)).dataset)
    assert message in str(caught.value)


# --- cluttered digits


def cluttered(*words: str, data_dir: str = "") -> Any:
    own = ("dataset.train=300", "dataset.test=100", "dataset.fragments=4", *words)
    settings = resolution.resolve(composed("dataset=cluttered_glyphs", *own))
    return data.parts(settings.dataset, data_dir)


def test_clutter_keeps_the_digit_and_its_mask_is_where_it_is() -> None:
    train, test, info = cluttered("dataset.masks=pixels")
    again = cluttered("dataset.masks=pixels")[0]
    assert same(train, again) and info.shape == (1, 64, 64) and info.masks
    assert train.images.shape == (300, 1, 64, 64) and test.images.shape == (100, 1, 64, 64)
    assert train.images.min() >= 0 and train.images.max() <= 1
    clean = cluttered("dataset.masks=pixels", "dataset.fragments=0")[0]
    assert not torch.equal(clean.images, train.images)
    inked = clean.images > 0.5
    assert (inked & clean.masks).sum() > 0.9 * inked.sum()  # without fragments, what is bright is the digit
    assert box_masks(train.boxes, train.images.shape).ge(train.masks).all()
    rows = train.masks[:, 0].any(2)
    assert (rows.int().argmax(1) == train.boxes[:, 0, 1]).all()
    places = train.boxes[:, 0].float().std(0)
    assert (places > 5).all()  # anywhere on the canvas


def test_fragments_come_from_digits_of_other_classes_and_lie_in_the_canvas(monkeypatch: pytest.MonkeyPatch) -> None:
    from xmnist.data.sets import cluttered as module

    labels, own = torch.arange(1000) % 10, torch.arange(500) % 10
    drawn = module._of_another_class(labels, own, torch.Generator().manual_seed(0))
    assert (labels[drawn] != own).all()
    counts = labels[drawn].bincount(minlength=10)
    assert counts.min() > 25
    with pytest.raises(InputError, match="two classes at least"):
        module._of_another_class(torch.zeros(5, dtype=torch.long), own[:2], torch.Generator())
    plain, busy = (cluttered(f"dataset.fragments={n}", "dataset.size=100")[0] for n in (0, 12))
    assert busy.images.mean() > 1.5 * plain.images.mean()


def test_sizes_of_clutter(real_data: str) -> None:
    own = ("dataset=cluttered_mnist", "dataset.train=200", "dataset.test=50", "dataset.size=40", "dataset.masks=boxes")
    settings = resolution.resolve(composed(*own))
    train, test, info = data.parts(settings.dataset, real_data)
    assert info.shape == (1, 40, 40) and len(train) == 200 and len(test) == 50
    assert torch.equal(train.masks, box_masks(train.boxes, train.images.shape))
    share = train.masks.float().flatten(1).mean(1)
    assert share.min() > 0.02 and share.max() < 0.5
