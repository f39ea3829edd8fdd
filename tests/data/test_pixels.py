"""What is inside the files of a folder: images upright, nothing that transparency hides, the object as it was drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from xmnist import data
from xmnist.data import layouts, pixels, voc
from xmnist.data.sets.folder import Folder
from xmnist.models import layers
from xmnist.runtime.errors import InputError

WIDTH, HEIGHT = 20, 16
THERE = np.zeros((HEIGHT, WIDTH), dtype=bool)
THERE[4:12, 5:10] = True
THERE[2:5, 12:18] = True
"""Two objects, on an image without symmetry."""

SECOND = THERE.copy()
SECOND[:, :11] = False


def saved(
    path: Path, values: np.ndarray, mode: str | None = None, palette: list[int] | None = None, **options: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values) if mode is None else Image.fromarray(values, mode=mode)
    if palette is not None:
        image.putpalette(palette)
    image.save(path, **options)
    return path


def painted(background: tuple[int, ...], *objects: tuple[int, ...]) -> np.ndarray:
    """An image in colours: the first object's, and the second's where there is one."""
    out = np.empty((HEIGHT, WIDTH, len(background)), dtype=np.uint8)
    out[:] = background
    out[THERE] = objects[0]
    if len(objects) > 1:
        out[SECOND] = objects[1]
    return out


def ids(background: int, first: int, second: int, dtype: Any = np.uint8) -> np.ndarray:
    out = np.full((HEIGHT, WIDTH), background, dtype=dtype)
    out[THERE] = first
    out[SECOND] = second
    return out


VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *[9] * 753, 224, 224, 192]
GRAYS = [value for value in range(256) for _ in range(3)]
BORDERED = ids(0, 3, 3)
BORDERED[12, 5:10] = 255
MASKS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "white on black": (ids(0, 255, 255), {}),
    "of 0 and 1": (ids(0, 1, 1), {}),
    "one bit": (THERE, {}),
    "labels 1 and 2": (ids(0, 1, 2), {}),
    "labels on both sides of 128": (ids(0, 80, 160), {}),
    "labels of 16 bits": (ids(0, 1, 500, np.uint16), {}),
    "white of 16 bits": (ids(0, 65535, 65535, np.uint16), {}),
    "labels with a void border": (BORDERED, {}),
    "palette, the first colour behind": (ids(0, 1, 2), {"palette": [0, 0, 0, 128, 0, 0, 0, 128, 0]}),
    "palette, black is not the first": (ids(2, 0, 1), {"palette": [128, 0, 0, 0, 128, 0, 0, 0, 0]}),
    "palette, black and white the other way round": (ids(1, 0, 0), {"palette": [255, 255, 255, 0, 0, 0]}),
    "palette of grays": (ids(0, 1, 2), {"palette": GRAYS}),
    "palette of VOC with its border": (BORDERED, {"palette": VOC}),
    "red on black": (painted((0, 0, 0), (120, 0, 0)), {}),
    "two dark colours": (painted((0, 0, 0), (0, 0, 90), (90, 0, 0)), {}),
    "opaque on transparent": (painted((90, 90, 90, 0), (90, 90, 90, 255)), {}),
    "white, all transparent": (painted((0, 0, 0, 0), (255, 255, 255, 0)), {}),
    "white, all opaque": (painted((0, 0, 0, 255), (255, 255, 255, 255)), {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_the_object_that_was_drawn(tmp_path: Path, name: str) -> None:
    values, options = MASKS[name]
    image = saved(tmp_path / "x.png", painted((200, 200, 200), (10, 20, 30)))
    mode = "P" if "palette" in options else None
    found = np.asarray(pixels.read_mask(saved(tmp_path / "x_mask.png", values, mode, **options), image)) > 0
    assert np.array_equal(found, THERE), name


@pytest.mark.parametrize(
    ("values", "palette", "reason"),
    [
        (painted((255, 255, 255), (200, 0, 0)), None, "none of its colours is black"),
        (np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8), None, "it has many colours"),
        (ids(1, 2, 3), [9, 9, 9, 128, 0, 0, 0, 128, 0, 0, 0, 128], "nor the palette's first"),
    ],
)
def test_a_mask_of_which_nobody_can_tell_the_object_is_refused(
    tmp_path: Path, values: np.ndarray, palette: list[int] | None, reason: str
) -> None:
    image = saved(tmp_path / "x.png", painted((200, 200, 200), (10, 20, 30)))
    path = saved(tmp_path / "x_mask.png", values, "P" if palette else None, palette)
    with pytest.raises(InputError, match=f"x_mask.png cannot be read as a mask: .*{reason}"):
        pixels.read_mask(path, image)


BACK = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
"""The orientation that undoes each of EXIF's."""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_and_their_ground_truth_are_upright(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(painted((250, 250, 250), (10, 10, 10)))
    stored = pixels.turned(upright, BACK[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = tmp_path / "x.png"
    stored.save(image, exif=exif)
    assert np.array_equal(np.asarray(pixels.read_image(image, 3)), np.asarray(upright))

    mask = Image.fromarray(ids(0, 255, 255))
    for drawn, expected in ((mask, THERE), (pixels.turned(mask, BACK[orientation]), THERE)):
        if expected is THERE and drawn is not mask and orientation < 5:
            continue  # it fits both: it is taken as drawn on the upright image
        drawn.save(tmp_path / "x_mask.png")
        assert np.array_equal(np.asarray(pixels.read_mask(tmp_path / "x_mask.png", image)) > 0, expected)
    box = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    box[4:12, 5:10] = 255
    for shown, size in (
        (Image.fromarray(box), upright.size),
        (pixels.turned(Image.fromarray(box), BACK[orientation]), stored.size),
    ):
        if orientation < 5 and shown.size == upright.size and not np.array_equal(np.asarray(shown), box):
            continue
        rows, columns = np.nonzero(np.asarray(shown))
        corners = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
        found = voc.read_boxes(annotation(tmp_path / "x.xml", [("a", corners)], size), image)
        assert np.array_equal(np.asarray(found), box)


def annotation(
    path: Path, objects: list[tuple[str, Any]], size: tuple[int, int] | None = None, space: str = ""
) -> Path:
    text = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    for name, corners in objects:
        places = "".join(
            f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
        )
        text += f"<object><name>{name}</name><difficult>1</difficult><bndbox>{places}</bndbox></object>"
    path.write_text(f"<annotation{space}>{text}</annotation>")
    return path


def test_boxes_of_chosen_objects_and_of_other_writings(tmp_path: Path) -> None:
    image = saved(tmp_path / "x.png", painted((200, 200, 200), (10, 20, 30)))
    objects = [("dog", (6, 5, 10, 12)), ("cat", (13, 3, 18, 5))]
    for space in ("", ' xmlns="http://example.org/voc" xmlns:x="http://example.org/x"'):
        path = annotation(tmp_path / "x.XML", objects, (WIDTH, HEIGHT), space)
        assert np.array_equal(np.asarray(voc.read_boxes(path, image)) > 0, THERE)
        assert np.array_equal(np.asarray(voc.read_boxes(path, image, ["cat"])) > 0, SECOND)
    assert not np.asarray(voc.read_boxes(path, image, ["bird"])).any()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "<size><width>40</width><height>32</height></size>",
            "image has 40x32 pixels, but x.png has 20x16",
        ),
        ("<object><name>a</name><robndbox><cx>4</cx></robndbox></object>", "'a' has no <bndbox>, but <robndbox>"),
        ("<object><name>a</name></object>", "'a' has no <bndbox>"),
    ],
)
def test_boxes_that_would_be_read_wrong_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    image = saved(tmp_path / "x.png", painted((200, 200, 200), (10, 20, 30)))
    (tmp_path / "x.xml").write_text(f"<annotation>{text}</annotation>")
    with pytest.raises(InputError, match=reason):
        voc.read_boxes(tmp_path / "x.xml", image)


def test_what_is_transparent_shows_the_background(tmp_path: Path) -> None:
    ink = saved(tmp_path / "ink.png", painted((0, 0, 0, 0), (0, 0, 0, 255)))
    assert np.array_equal(np.asarray(pixels.read_image(ink, 1)), np.where(THERE, 0, 255))
    assert np.array_equal(np.asarray(pixels.read_image(ink, 3, "#ff0000"))[0, 0], [255, 0, 0])
    palette = saved(tmp_path / "p.png", ids(0, 1, 1), "P", [200, 0, 0, 0, 0, 0], transparency=0)
    assert np.array_equal(np.asarray(pixels.read_image(palette, 1)), np.where(THERE, 0, 255))
    assert (
        pixels.facts(ink)[0] == {pixels.TRANSPARENT: 1}
        and not pixels.facts(saved(tmp_path / "o.png", painted((9, 9, 9, 255), (0, 0, 0, 255))))[0]
    )


def test_images_of_16_bits_are_scaled_and_those_of_unknown_range_refused(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).reshape(16, 16)
    path = saved(tmp_path / "a.png", ramp.astype(np.uint16))
    assert np.abs(np.asarray(pixels.read_image(path, 1)) - ramp / 257).max() <= 0.51
    low = saved(tmp_path / "b.png", (ramp / 16).astype(np.uint16))
    assert pixels.facts(low)[1] == 4095
    assert np.abs(np.asarray(pixels.read_image(low, 1, largest=4095)) - ramp / 257).max() <= 0.6
    (tmp_path / "c.pgm").write_bytes(b"P5 16 16 1000\n" + (ramp / 65535 * 1000).round().astype(">u2").tobytes())
    for largest in (65535, 4095):  # what other images of its folder have changes nothing: its header says what is white
        assert np.abs(np.asarray(pixels.read_image(tmp_path / "c.pgm", 1, largest=largest)) - ramp / 257).max() <= 0.7
    (tmp_path / "dark.pgm").write_bytes(b"P5 16 16 1000\n" + np.full((16, 16), 20, dtype=">u2").tobytes())
    assert pixels.facts(tmp_path / "dark.pgm")[1] == 0
    with pytest.raises(InputError, match="d.tif cannot be read as an image: its pixels are numbers of unknown range"):
        pixels.read_image(saved(tmp_path / "d.tif", ramp.astype(np.float32)), 3)


def test_a_huge_image_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png", painted((200, 200, 200), (10, 20, 30)))
    for limit in (200, 100):  # where Pillow warns, and where it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=rf"x.png is larger than {limit} pixels"):
            pixels.read_image(path, 3)


def classes(root: Path, count: int = 4) -> Path:
    """A folder of two classes; all images differ."""
    for label in "ab":
        for number in range(count):
            values = painted((200 + number, 200, 200), (10, 20, ord(label)))
            saved(root / label / f"{number}.png", values)
    return root


def load(root: Path, **options: Any) -> Any:
    layouts.listed.cache_clear()
    usual = {
        "size": None,
        "channels": 3,
        "masks": "auto",
        "test": 0.25,
        "seed": 0,
        "aug_prob": 0.0,
        "stream": False,
        "class_weights": None,
    }
    return Folder(path=str(root), **{**usual, "workers": 0, **options}).parts("")


def test_what_reading_changes_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = classes(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 3
    saved(root / "a" / "0.png", painted((0, 0, 0, 0), (0, 0, 0, 255)))
    saved(root / "a" / "1.png", painted((1, 1, 1), (5, 5, 5)), exif=exif)
    saved(root / "b" / "2.png", ids(0, 300, 4000, np.uint16))
    (root / "b" / "3.png").write_bytes((root / "a" / "2.png").read_bytes())
    train, test, info = load(root)
    assert info.read[0].startswith("8 images: a 4, b 4") and "8 images: a 4, b 4" in caplog.text
    expected = {
        "1 images laid on white",
        "1 images turned upright (EXIF)",
        "1 images with 12 of 16 bits, 4095 being white",
    }
    assert expected < set(info.read)
    assert any(line.startswith("1 pictures have two labels, such as a/2.png = b/3.png") for line in info.read)
    deep = [image for image in (*train.images, *test.images) if image.max() > 0.97 and image.min() == 0]
    assert any(torch.isclose(image.max(), torch.tensor(4000 / 4095), atol=0.003) for image in deep)
    (root / "b" / "3.png").write_bytes((root / "b" / "0.png").read_bytes())
    found = [load(root, seed=seed) for seed in range(8)]
    told = [
        any("are both trained and tested on, such as b/0.png = b/3.png" in line for line in info.read)
        for *_, info in found
    ]
    assert set(told) == {True, False}


def test_objects_that_vanish_are_told(tmp_path: Path) -> None:
    root = classes(tmp_path)
    for path in list(root.glob("*/*.png")):
        mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        mask[3, 3] = 255
        saved(path.with_name(f"{path.stem}_mask.png"), mask)
    assert "8 images have no pixel of an object at 8x8 pixels" in load(root, size=8)[2].read


def test_a_number_of_images_is_a_subset_with_all_classes(tmp_path: Path) -> None:
    root = classes(tmp_path, 12)
    train, test, _ = load(root, train=8, test=4)
    assert train.labels.bincount().tolist() == [4, 4] and test.labels.bincount().tolist() == [2, 2]
    whole = load(root, test=4)[0]
    assert len(whole) == 20 and torch.equal(load(root, test=4)[1].images, test.images)
    assert all(any(torch.equal(image, other) for other in whole.images) for image in train.images)
    for options, reason in (
        ({"train": 50}, "dataset.train=50: there are 18"),
        ({"test": 24}, "dataset.test=24: there are 24"),
    ):
        with pytest.raises(InputError, match=reason):
            load(root, **options)


def test_a_constant_channel_is_not_amplified() -> None:
    images = torch.rand(50, 3, 8, 8)
    images[:, 2] = 0.25
    layer = layers.Normalize(3)
    layers.fit_normalisation(layer, images)
    assert layer.std.flatten()[2] == 1 and layer.std.flatten()[0] == images[:, 0].std()
    noisy = torch.full((1, 3, 8, 8), 0.25 + 1 / 255)
    assert layer(noisy)[0, 2].abs().max() < 0.01


@pytest.mark.parametrize(
    ("word", "names", "number"),
    [
        (10, "1 2 10", 2),
        ("10", "1 2 10", 2),
        (2, "1 2 10", 1),
        (1, "01 02", 0),
        (1, "cat dog", 1),
        ("dog", "cat dog", 1),
    ],
)
def test_a_class_is_meant_by_its_name_before_its_number(word: str | int, names: str, number: int) -> None:
    select = data.selection_of({"name": "mixed", "correct": 1, "wrong": 1, "seed": 0, "label": word})
    assert select.numbered(names.split()).options() == select.options() | {"label": number}


def test_a_number_that_is_no_name_is_refused_where_names_are_numbers() -> None:
    with pytest.raises(InputError, match="no class '0'") as caught:
        data.selection_of({"name": "per_class", "count": 1, "label": 0}).numbered(("1", "2", "10"))
    assert "did you mean '0'" not in str(caught.value)
