"""Images on disk: both layouts, masks as images and boxes, streaming, augmentation, and what can be wrong with them."""

import csv
import multiprocessing
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers import composed
from xmnist import data
from xmnist.config import resolution
from xmnist.data import base, fingerprint, layouts, streamed, voc
from xmnist.data.base import Split
from xmnist.data.sets import folder, polygons
from xmnist.data.streamed import Streamed, augmented
from xmnist.models import layers
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import explain, export, train

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _forget() -> None:
    layouts.listed.cache_clear()
    fingerprint.of_folder.cache_clear()
    data._load.cache_clear()


def picture(path: Path, value: int = 200, size: tuple[int, int] = (20, 16), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng([value, *str(path.name).encode()]).integers(0, 40, (size[1], size[0], 3))
    image = Image.fromarray((np.full((size[1], size[0], 3), value) - noise).astype(np.uint8)).convert(mode)
    image.save(path)
    return path


def mask(path: Path, size: tuple[int, int] = (20, 16), box: tuple[int, int, int, int] = (5, 4, 9, 11)) -> Path:
    """A mask of a box: first column and row, last column and row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[box[1] : box[3] + 1, box[0] : box[2] + 1] = 255
    Image.fromarray(pixels).save(path, quality=60) if path.suffix == ".JPEG" else Image.fromarray(pixels).save(path)
    return path


def horses(root: Path, count: int = 10, masks: bool = True) -> Path:
    """The horse and zebra layout: data.csv, images/LABEL/x.JPEG, masks/LABEL/x_mask.JPEG."""
    rows = []
    for label, value in (("horse", 100), ("zebra", 220)):
        for i in range(count):
            picture(root / "images" / label / f"{label}_{i}.JPEG", value)
            if masks:
                mask(root / "masks" / label / f"{label}_{i}_mask.JPEG")
            rows.append((f"{label}_{i}", label))
    with (root / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("imageID", "label"), *rows])
    return root


def read(root: Path, *words: str) -> tuple[Split, Split, base.Info]:
    own = resolution.resolve(composed("dataset=folder", f"dataset.path={root}", "dataset.workers=0", *words))
    return data.parts(own.dataset, "")


def test_the_horse_and_zebra_layout(tmp_path: Path) -> None:
    train, test, info = read(horses(tmp_path), "dataset.size=null", "dataset.test=0.2")
    assert info.shape == (3, 16, 20) and info.classes == ("horse", "zebra") and info.masks
    assert len(train) == 16 and len(test) == 4 and test.labels.bincount().tolist() == [2, 2]
    assert isinstance(train.images, Tensor) and train.images.shape == (16, 3, 16, 20)  # height and width not swapped
    bright = train.images.mean((1, 2, 3))
    assert (bright[train.labels == 1] > 0.7).all() and (bright[train.labels == 0] < 0.45).all()
    assert train.masks is not None and train.masks.dtype == torch.bool
    expected = torch.zeros(16, 20, dtype=torch.bool)
    expected[4:12, 5:10] = True
    wrong = (train.masks[:, 0] != expected).flatten(1).sum(1)
    assert (wrong <= 4).all()  # JPEG blurs edges; values below 255 are not lost
    other = read(tmp_path, "dataset.size=null", "dataset.test=0.2", "dataset.seed=1")[1]
    assert other.labels.bincount().tolist() == [2, 2] and not torch.equal(other.images, test.images)


def test_class_folders_with_and_without_a_split(tmp_path: Path) -> None:
    for part, count in (("train", 6), ("test", 3)):
        for label in ("cat", "dog", "emu"):
            for i in range(count):
                picture(tmp_path / "split" / part / label / f"{i}.png", 60 * "cde".index(label[0]) + 60)
                picture(tmp_path / "plain" / label / f"{part}{i}.bmp")
    train, test, info = read(tmp_path / "split", "dataset.size=8")
    assert info.classes == ("cat", "dog", "emu") and info.shape == (3, 8, 8) and not info.masks
    assert len(train) == 18 and len(test) == 9 and test.masks is None
    train, test, _ = read(tmp_path / "plain", "dataset.size=8", "dataset.channels=1", "dataset.test=0.34")
    assert train.images.shape == (18, 1, 8, 8) and len(test) == 9


def test_boxes_from_xml_are_masks_and_are_resized_with_their_image(tmp_path: Path) -> None:
    for label in ("a", "b"):
        for i in range(4):
            picture(tmp_path / label / f"{i}.png", size=(40, 20))
            box = "<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>20</xmax><ymax>15</ymax></bndbox>"
            more = "<bndbox2><xmin>31.0</xmin><ymin>1</ymin><xmax>40</xmax><ymax>5</ymax></bndbox2>" if i else ""
            (tmp_path / label / f"{i}.xml").write_text(f"<annotation><object>{box}</object>{more}</annotation>")
    train, test, info = read(tmp_path, "dataset.size=20")
    assert info.masks
    both = torch.cat([train.masks, test.masks])  # type: ignore[list-item]
    assert set(both.flatten(1).sum(1).tolist()) == {5 * 10, 5 * 10 + 5 * 5}
    assert both[:, 0, 5:15, 5:10].all()
    assert read(tmp_path, "dataset.size=20", "dataset.masks=none")[0].masks is None


@pytest.mark.parametrize("masks", ["boxes", "pixels"])
def test_polygons_are_the_same_when_exported_and_read_back(settings: Settings, tmp_path: Path, masks: str) -> None:
    words = ("dataset=polygons", "dataset.train=30", "dataset.test=12", "dataset.size=40", "dataset.radius=[4,8]")
    words = (*words, "dataset.shapes=4", f"dataset.masks={masks}", "dataset.simplified=true", "dataset.target=[3,1]")
    own = resolution.resolve(composed(*words, f"out_dir={tmp_path / 'out'}", stage="export"), "export")
    export.check(own)
    assert export.main(own, "xmnist export ...") == {"images": {"train": 30, "test": 12}}
    root = Run("export", own).path
    assert root.name.startswith("train30-test12-size40-seed0-")
    written = data.parts(own.dataset, "")
    kind = "boxes" if masks == "boxes" else "images"
    found = read(root, "dataset.size=null", f"dataset.masks={kind}")
    assert found[2] == written[2]
    for ours, theirs in zip(found[:2], written[:2], strict=True):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.masks, theirs.masks)  # type: ignore[arg-type]
    before = (root / "train" / "data.csv").stat().st_mtime_ns
    export.main(own, "xmnist export ...")
    assert (root / "train" / "data.csv").stat().st_mtime_ns == before


def test_a_streamed_folder_can_be_exported(tmp_path: Path) -> None:
    root, out = horses(tmp_path / "horses"), tmp_path / "copy"
    train = read(root, "dataset.size=null", "dataset.stream=true")[0]
    assert isinstance(train, Streamed)
    voc.write(train, ("horse/mare", "zebra"), out)
    again = layouts.listed(str(out)).entries
    assert len(again) == len(train) and {entry.label for entry in again} == {"horse-mare", "zebra"}
    ours = np.asarray(Image.open(again[3].image))
    assert np.array_equal(ours, (train.images[3:4][0] * 255).round().permute(1, 2, 0).numpy())


def test_export_as_a_user_types_it(xmnist: Xmnist, tmp_path: Path) -> None:
    done = xmnist("export", "dataset=cluttered_glyphs", "dataset.train=200", "dataset.test=10", "dataset.size=32")
    assert done.returncode == 0, done.stderr
    assert "images: train 200, test 10" in done.stdout
    (root,) = (tmp_path / "work" / "outputs" / "export" / "cluttered_glyphs").iterdir()
    assert len(list(root.glob("test/images/*/*.png"))) == len(list(root.glob("test/annotations/*/*.xml"))) == 10
    wrong = xmnist("export", "dataset=polygons", "dataset.size=12")
    assert wrong.returncode == 2 and "dataset.size must be" in wrong.stderr
    assert xmnist("export", "layer=dense", "dataset=polygons").returncode == 2


# --- streaming


def test_streamed_and_read_at_once_are_the_same(tmp_path: Path) -> None:
    horses(tmp_path)
    whole, test, _ = read(tmp_path, "dataset.size=12", "dataset.test=0.2")
    lazy, lazy_test, info = read(tmp_path, "dataset.size=12", "dataset.test=0.2", "dataset.stream=true")
    assert isinstance(lazy, Streamed) and isinstance(lazy_test, Streamed) and not isinstance(whole, Streamed)
    rows = torch.tensor([3, 0, 7])
    for name in ("images", "masks"):
        ours, theirs = getattr(lazy, name), getattr(whole, name)
        assert tuple(ours.shape) == tuple(theirs.shape)
        assert torch.equal(ours[rows], theirs[rows]) and torch.equal(torch.cat(list(ours.split(5))), theirs)
    assert torch.equal(lazy[rows].images, whole[rows].images) and torch.equal(lazy[rows].labels, whole.labels[rows])
    parts = list(lazy.parts(6))
    assert [len(part) for part in parts] == [6, 6, 4]
    assert torch.equal(torch.cat([part.masks for part in parts]), whole.masks)  # type: ignore[arg-type, list-item]
    batches = [torch.tensor([5, 1]), torch.tensor([0])]
    names = ("images", "labels", "masks")
    for ours, theirs in zip(
        lazy.source(*names).batches(batches, 0), whole.source(*names).batches(batches, 0), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    torch.testing.assert_close(lazy.images.mean(0), whole.images.mean(0))
    for ours, theirs in zip(
        lazy.images.moments(), (whole.images.mean((0, 2, 3)), whole.images.std((0, 2, 3))), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    cut, other = (base.cut_validation(train, test, info, 0.25, 3) for train in (lazy, whole))
    assert torch.equal(cut.validation[:].images, other.validation.images) and isinstance(cut.train, Streamed)
    means = [layers.Normalize(3), layers.Normalize(3)]
    for layer, split in zip(means, (cut.train, other.train), strict=True):
        layers.fit_normalisation(layer, split.images)
    torch.testing.assert_close(means[0].mean, means[1].mean)


def test_large_sets_are_streamed_of_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    horses(tmp_path)
    monkeypatch.setattr(folder, "IN_MEMORY", 20 * 3 * 12 * 12 * 4 - 1)
    assert isinstance(read(tmp_path, "dataset.size=12")[0], Streamed)
    assert not isinstance(read(tmp_path, "dataset.size=12", "dataset.stream=false")[0], Streamed)
    monkeypatch.setattr(folder, "IN_MEMORY", 20 * 3 * 12 * 12 * 4)
    assert not isinstance(read(tmp_path, "dataset.size=12")[0], Streamed)


def test_workers_and_batches_change_nothing_not_even_augmentation(tmp_path: Path) -> None:
    horses(tmp_path)
    words = ("dataset.size=12", "dataset.aug_prob=0.7")
    one, two = read(tmp_path, *words)[0], read(tmp_path, *words, "dataset.workers=2")[0]
    order, state = torch.randperm(len(one)), torch.random.get_rng_state()
    sources = one.source("images", "masks"), two.source("images", "masks")
    ours, theirs = list(sources[0].batches(order.split(5), 11)), list(sources[1].batches(order.split(3), 11))
    assert torch.equal(torch.random.get_rng_state(), state)
    for column in (0, 1):
        assert torch.equal(torch.cat([b[column] for b in ours]), torch.cat([b[column] for b in theirs]))
    other = list(sources[0].batches(order.split(5), 12))
    assert not torch.equal(ours[0][0], other[0][0])  # the next epoch's are others
    assert isinstance(one, Streamed) and torch.equal(one[:].images, read(tmp_path, "dataset.size=12")[0].images)


def test_workers_hand_nothing_over_in_shared_memory(tmp_path: Path) -> None:
    """64 MB are all that a container has by default; what is in a pipe needs none of it."""
    whole = read(horses(tmp_path), "dataset.size=12")[0]
    items = [(image, mask) for image, mask in zip(whole.images, whole.masks, strict=True)]  # type: ignore[arg-type]
    assert all(type(each) is np.ndarray for each in streamed._stacked(items))
    one = read(tmp_path, "dataset.size=12", "dataset.stream=true", "dataset.workers=2")[0]
    assert torch.equal(torch.cat([part.images for part in one.parts(3)]), whole.images)


def test_where_no_semaphore_can_be_made_there_are_no_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Any) -> None:
        raise OSError(28, "No space left on device")

    streamed.workers_work.cache_clear()
    monkeypatch.setattr(multiprocessing.context.BaseContext, "Lock", full)
    one = read(horses(tmp_path), "dataset.size=12", "dataset.stream=true", "dataset.workers=2")[0]
    assert sum(len(part) for part in one.parts(3)) == len(one)
    assert caplog.text.count("images are read without workers: no semaphores can be made (No space left") == 1
    streamed.workers_work.cache_clear()


def test_augmentation_moves_image_and_mask_alike() -> None:
    """The image is bright where the mask is true, before and after."""
    where = torch.zeros(1, 48, 48, dtype=torch.bool)
    where[:, 8:22, 12:30] = True
    image = where.float().expand(3, -1, -1) * 0.8 + 0.1
    moved, agreed = 0, []
    for seed in range(40):
        changed, mask = augmented((image, where), 0.5, seed)
        assert mask is not None and mask.dtype == torch.bool and changed.shape == image.shape
        assert changed.min() >= 0 and changed.max() <= 1 and type(changed) is Tensor
        bright = changed.mean(0, keepdim=True)
        inside, outside = bright[mask], bright[~mask]
        agreed.append((inside.median() > outside.median()).item())
        cut = (inside.median() + outside.median()) / 2
        assert ((bright > cut) != mask).float().mean() < 0.2, seed
        moved += not torch.equal(mask, where)
    assert moved > 20 and all(agreed)
    assert torch.equal(augmented((image, where), 0.5, 3)[0], augmented((image, where), 0.5, 3)[0])
    gray = augmented((image[:1], None), 1.0, 0)
    assert gray[0].shape == (1, 48, 48) and gray[1] is None


def test_training_and_explaining_a_streamed_folder(settings: Settings, tmp_path: Path) -> None:
    root = horses(tmp_path / "horses")
    words = ("dataset=folder", f"dataset.path={root}", "dataset.size=16", "trainer=smoke", "dataset.workers=0")
    words = (*words, "dataset.stream=true", "dataset.aug_prob=0.2", "dataset.class_weights=balanced")
    figures = train.main(settings(*words, "model=joint", "model.loss=hybrid", "model.width=2", "model.depth=2"))
    assert 0 <= figures["accuracy"] <= 1
    own = settings(*words, "model=classifier", "explainer=[integrated_gradients,deep_shap]",
                   "explainers.integrated_gradients.baseline=mean", "explainers.deep_shap.background_size=4",
                   stage="explain")  # fmt: skip
    explain.check(own)
    explain.main(own, "xmnist explain ...")
    assert (Run("explain", own).path / "grid.png").is_file()
    decoded = train.main(settings(*words, "model=cladec", "layer=conv", "classifier=vgg_small"))
    assert decoded["reconstruction_sse"] == pytest.approx(3 * 16 * 16 * decoded["reconstruction_mse"], rel=1e-4)
    names = {Run("train", settings(*words, "model=classifier", f"dataset.workers={n}")).path.name for n in (0, 3)}
    assert len(names) == 1  # how images are read is no part of what a run is


def test_balanced_class_weights(tmp_path: Path) -> None:
    for label, count in (("a", 30), ("b", 10)):
        for i in range(count):
            picture(tmp_path / label / f"{i}.png", size=(8, 8))
    own = resolution.resolve(
        composed(
            *("dataset=folder", f"dataset.path={tmp_path}", "dataset.size=8", "dataset.test=0.1"),
            *("dataset.class_weights=balanced", "dataset.workers=0"),
        )
    )
    found = data.load(own.dataset, "", 0)
    counts = found.train.labels.bincount()
    assert found.class_weights is not None
    torch.testing.assert_close(found.class_weights, counts.sum() / (2 * counts.float()))
    assert data.load(replace(own.dataset, class_weights=None), "", 0).class_weights is None


# --- what can be wrong


def damaged(tmp_path: Path, how: str) -> None:
    root = horses(tmp_path)
    image, own = root / "images" / "zebra" / "zebra_3.JPEG", root / "masks" / "zebra" / "zebra_3_mask.JPEG"
    actions: dict[str, Callable[[], Any]] = {
        "missing image": image.unlink,
        "missing mask": own.unlink,
        "no image": lambda: image.write_text("not an image"),
        "cut image": lambda: image.write_bytes(image.read_bytes()[:400]),
        "no mask": lambda: own.write_text("not a mask"),
        "mask of another size": lambda: mask(own, size=(10, 8), box=(1, 1, 3, 3)),
        "odd size": lambda: (picture(image, size=(24, 16)), mask(own, size=(24, 16))),
        "no header": lambda: (root / "data.csv").write_text("zebra_1,zebra\n"),
        "empty": lambda: (root / "data.csv").write_text(""),
        "one class": lambda: (root / "data.csv").write_text("imageID,label\nzebra_1,zebra\nzebra_2,zebra\n"),
    }
    actions[how]()


@pytest.mark.parametrize(
    ("how", "words", "message"),
    [
        ("missing image", (), "data.csv names 1 of 20 images that are not there, first"),
        ("missing mask", ("dataset.masks=images",), "zebra_3.JPEG has no mask (1 images have none)"),
        ("missing mask", ("dataset.masks=boxes",), "has no XML file (20 images have none)"),
        ("no image", (), "zebra_3.JPEG cannot be read as an image"),
        ("cut image", (), "zebra_3.JPEG cannot be read as an image"),
        ("no mask", (), "zebra_3_mask.JPEG cannot be read"),
        ("mask of another size", (), "zebra_3_mask.JPEG is 10x8 pixels, but its image is 20x16"),
        ("odd size", ("dataset.size=null",), "zebra_3.JPEG is 24x16 pixels, the first image 20x16"),
        ("no header", (), "must have a line for each image, under a first line imageID,label"),
        ("empty", (), "must have a line for each image"),
        ("one class", (), "has images of one class only: zebra"),
    ],
)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_bad_folders_are_refused_by_the_name_of_the_file(
    tmp_path: Path, how: str, words: tuple[str, ...], message: str, stream: str
) -> None:
    damaged(tmp_path, how)
    with pytest.raises(InputError) as caught:
        train, test, _ = read(tmp_path, f"dataset.stream={stream}", "dataset.size=12", *words)
        for split in (train, test):
            list(split.parts())
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_table_from_a_spreadsheet_is_read_and_one_with_repetitions_is_not(tmp_path: Path) -> None:
    root = horses(tmp_path)
    table = root / "data.csv"
    text = table.read_text()
    table.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert len(layouts.listed(str(root)).entries) == 20
    layouts.listed.cache_clear()
    table.write_text(text + "zebra_1,zebra\n")
    with pytest.raises(InputError, match="data.csv names zebra_1 of class zebra more than once"):
        layouts.listed(str(root))
    table.write_bytes("imageID,label\nä,ö\n".encode("latin-1"))
    with pytest.raises(InputError, match="data.csv is not written in UTF-8"):
        layouts.listed(str(root))


def test_a_bad_image_met_by_a_worker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged(tmp_path, "cut image")
    monkeypatch.setattr(streamed.Files, "checked", lambda self: (self, {}))
    train, test, _ = read(tmp_path, "dataset.stream=true", "dataset.size=12", "dataset.workers=1")
    with pytest.raises(InputError, match="zebra_3.JPEG cannot be read as an image"):
        for split in (train, test):
            list(split.source("images").batches(torch.arange(len(split)).split(3), 0))


def test_a_class_that_only_the_test_split_has_is_refused(tmp_path: Path) -> None:
    for part, labels in (("train", "ab"), ("test", "abc")):
        for label in labels:
            for i in range(3):
                picture(tmp_path / part / label / f"{i}.png")
    with pytest.raises(InputError, match="the test split has class 'c', the training split only a, b"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation", "cannot be read as Pascal VOC boxes"),
        ("<a><bndbox><xmin>inf</xmin></bndbox></a>", "cannot be read as Pascal VOC boxes"),
        ("<a><bndbox><xmin>x</xmin></bndbox></a>", "cannot be read as Pascal VOC boxes"),
        ("<a><bndbox><xmin>30</xmin><ymin>1</ymin><xmax>35</xmax><ymax>2</ymax></bndbox></a>", "is not in its image"),
        (
            "<a><bndbox><xmin>5</xmin><ymin>1</ymin><xmax>4</xmax><ymax>2</ymax></bndbox></a>",
            "box 5,1,4,2 are exch",
        ),
    ],
)
def test_bad_boxes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path, image = tmp_path / "x.xml", picture(tmp_path / "x.png")
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        voc.read_boxes(path, image)


def test_folders_that_are_not_there_or_empty(settings: Settings, xmnist: Xmnist, tmp_path: Path) -> None:
    for words, message in (
        (("dataset.path=nowhere",), "dataset.path=nowhere: there is no such folder"),
        ((f"dataset.path={tmp_path}",), "holds neither data.csv nor one folder of images for each class"),
        ((), "dataset.path must be given"),
    ):
        done = xmnist("train", "dataset=folder", *words)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().split("\n")) == 1


def test_order_of_classes_is_that_of_the_file(tmp_path: Path) -> None:
    split = polygons.draw(
        polygons.Polygons(
            **{"train": 20, "test": 1, "seed": 0, "masks": "boxes"},
            **{"size": 32, "target": [3, 1], "against": [-1, 1], "targets": 0.5, "outside": None, "shapes": 2},
            **{"tries": 20, "radius": [4, 7], "overlap": False, "occlusion": False, "rotation": True, "fill": True},
            **{"simplified": False, "vertices": [4, 6], "circles": True, "background": 255, "colour": None},
            **{"noise": False, "start_index": 0},
        ), 12, 0,
    )  # fmt: skip
    voc.write(split, ("zebra", "ant"), tmp_path)
    assert read(tmp_path, "dataset.size=null", "dataset.test=0.3")[2].classes == ("zebra", "ant")
