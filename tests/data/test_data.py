import gzip
import http.server
import pickle
import socketserver
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from helpers import composed, files_of, idx, images, labels
from xmnist import data
from xmnist.config import resolution
from xmnist.config.declarations import DATASETS
from xmnist.data import files
from xmnist.data.base import Info, Split, cut_validation
from xmnist.data.sets.downloaded import DIGITS, EMNIST, Published
from xmnist.runtime.errors import InputError
from xmnist.stages import train

GLYPHS = {
    "name": "glyphs",
    "train": 400,
    "test": 100,
    "validation": 0.1,
    "seed": 0,
    "rotation": 25.0,
    "shear": 15.0,
    "zoom": 0.3,
    "shift": 4.0,
    "blur": 1.0,
    "noise": 0.3,
}
ALL = {"train": None, "test": None, "validation": 0.25}


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """A tiny data set in MNIST's real format: 40 + 20 images."""
    train, train_labels, test, test_labels = files_of("mnist", tmp_path)
    train.parent.mkdir(parents=True)
    for path, array in (
        (train, images(40)),
        (train_labels, labels(40)),
        (test, images(20, 1)),
        (test_labels, labels(20)),
    ):
        path.write_bytes(idx(array))
    return tmp_path


def test_idx_files_come_back_in_pixel_space(mnist: Path) -> None:
    whole = data.load({"name": "mnist", **ALL}, str(mnist), seed=0)
    assert [len(s) for s in (whole.train, whole.validation, whole.test)] == [30, 10, 20]
    torch.testing.assert_close(whole.test.images[:, 0], torch.from_numpy(images(20, 1)).float() / 255)
    assert whole.test.labels.tolist() == labels(20).tolist()
    assert whole.info == Info((1, 28, 28), DIGITS)


def test_only_the_first_so_many_images_are_used(mnist: Path) -> None:
    small = data.load({"name": "mnist", "train": 20, "test": 5, "validation": 0.5}, str(mnist), seed=0)
    assert [len(s) for s in (small.train, small.validation, small.test)] == [10, 10, 5]
    with pytest.raises(InputError, match="dataset.train=41: mnist has 40"):
        data.load({"name": "mnist", **ALL, "train": 41}, str(mnist), seed=0)


@pytest.mark.parametrize(
    ("number", "damage", "message"),
    [
        (0, lambda b: b[:-1], "truncated: 31375 bytes where its header says 31376"),
        (1, lambda b: b + b"x", "too long: 49 bytes where its header says 48"),
        (2, lambda b: b"PK" + b[2:], "does not begin like an IDX file"),
        (0, lambda b: b"", "does not begin like an IDX file"),
        (3, lambda b: b[:7], "does not begin like an IDX file"),
        (3, lambda b: idx(labels(19)), "do not fit"),
        (0, lambda b: idx(np.zeros((40, 27, 28), np.uint8)), "do not fit"),
    ],
)
def test_damaged_idx_files_are_named(mnist: Path, number: int, damage, message: str) -> None:
    path = files_of("mnist", mnist)[number]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        data.load({"name": "mnist", **ALL}, str(mnist), seed=0)
    assert path.name in str(caught.value) or path.name.replace("labels-idx1", "images-idx3") in str(caught.value)


def test_labels_that_are_no_classes_are_refused(mnist: Path) -> None:
    files_of("mnist", mnist)[1].write_bytes(idx(labels(40, first=3)))
    with pytest.raises(InputError, match="training labels run from 3 to 12, but there are 10 classes"):
        data.load({"name": "mnist", **ALL}, str(mnist), seed=0)


@pytest.mark.parametrize(("split", "classes", "first"), [("balanced", 47, 0), ("letters", 26, 1), ("digits", 10, 0)])
def test_emnist_is_turned_upright_and_labelled_from_0(tmp_path: Path, split: str, classes: int, first: int) -> None:
    paths = files_of("emnist", tmp_path, split=split)
    paths[0].parent.mkdir(parents=True)
    for path, array in zip(paths, (images(94), labels(94, classes, first)) * 2, strict=True):
        path.write_bytes(idx(array))
    settings = {"name": "emnist", "split": split, "train": None, "test": None, "validation": 0.2}
    whole = data.load(settings, str(tmp_path), seed=0)
    assert len(whole.info.classes) == len(data.info(settings).classes) == classes
    assert "N/A" not in whole.info.classes
    assert whole.test.labels.tolist() == labels(94, classes).tolist()
    torch.testing.assert_close(whole.test.images[3, 0].T, torch.from_numpy(images(94)[3]).float() / 255)


def cifar(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Files in the real format of CIFAR, their checksums made known to torchvision; returns the test images."""
    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    key, classes = ("labels", 10) if name == "cifar10" else ("fine_labels", 100)
    random = np.random.default_rng(0)
    made = {}
    for path in files_of(name, folder):
        path.parent.mkdir(parents=True, exist_ok=True)
        if "meta" in path.name:
            meta = "label_names" if name == "cifar10" else "fine_label_names"
            content = {meta: [f"name {i}" for i in range(classes)]}
        else:
            pixels = random.integers(0, 256, (200, 3072), dtype=np.uint8)
            made[path.name] = pixels
            content = {"data": pixels, key: labels(200, classes).tolist()}
        path.write_bytes(pickle.dumps(content))
    digest = lambda n: datasets.utils.calculate_md5(folder / source.base_folder / n)  # noqa: E731
    monkeypatch.setattr(source, "train_list", [[n, digest(n)] for n, _ in source.train_list])
    monkeypatch.setattr(source, "test_list", [[n, digest(n)] for n, _ in source.test_list])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": digest(source.meta["filename"])})
    return made["test_batch" if name == "cifar10" else "test"]


@pytest.mark.parametrize(("name", "train"), [("cifar10", 1000), ("cifar100", 200)])
def test_cifar_files_come_back_channels_first(
    tmp_path: Path, name: str, train: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = cifar(tmp_path, name, monkeypatch)
    settings = {"name": name, "train": None, "test": None, "validation": 0.5}
    whole = data.load(settings, str(tmp_path), seed=0)
    assert len(whole.train) + len(whole.validation) == train
    assert whole.info.shape == data.info(settings).shape == (3, 32, 32)
    assert whole.info.classes[1] == "name 1"
    torch.testing.assert_close(whole.test.images, torch.from_numpy(pixels).view(-1, 3, 32, 32).float() / 255)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_images_are_resized_to_their_nearest_pixels(
    mnist: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PIL does, with which the original code resizes."""
    pixels = images(20, 1)[:, None] if name == "mnist" else cifar(tmp_path, name, monkeypatch).reshape(-1, 3, 32, 32)
    settings = {"name": name, "train": 40, "test": 3, "validation": 0.5, "size": 64}
    whole = data.load(settings, str(tmp_path), seed=0)
    assert whole.info.shape == data.info(settings).shape == (len(pixels[0]), 64, 64)
    each = [np.asarray(Image.fromarray(channel).resize((64, 64), Image.Resampling.NEAREST)) for channel in pixels[2]]
    torch.testing.assert_close(whole.test.images[2], torch.from_numpy(np.stack(each)).float() / 255)


@pytest.mark.usefixtures("undrawn")
def test_the_original_settings_train_on_cifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Callable[..., dict[str, Any]]
) -> None:
    cifar(tmp_path, "cifar10", monkeypatch)
    small = ("dataset.train=60", "dataset.test=20", "dataset.validation=0.2", "trainer.epochs=1", "layer=conv6")
    words = ("+experiment=cladec_original", "dataset=cifar10", *small, "device=cpu", f"data_dir={tmp_path}")
    own = settings(*words)
    assert (own.alpha, own.model.reconstruction, own.trainer.own["lr"]) == (0.001, "mse", 0.1)
    train.check(own)
    found = train.main(own)
    mse, sse = found["reconstruction_mse"], found["reconstruction_sse"]
    assert sse == pytest.approx(3 * 32 * 32 * mse)
    assert found["total_loss"] == pytest.approx(0.999 * mse + 0.001 * found["classification_loss"])


def test_a_damaged_cifar_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar(tmp_path, "cifar10", monkeypatch)
    path = files_of("cifar10", tmp_path)[2]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match="cifar10: the files under .* cannot be read: .*corrupted"):
        data.load({"name": "cifar10", **ALL}, str(tmp_path), seed=0)


def split(count: int, classes: int = 10) -> Split:
    return Split(torch.rand(count, 1, 4, 4), torch.arange(count) % classes)


DIGITS_4 = Info((1, 4, 4), DIGITS)


def test_validation_holds_the_same_share_of_every_class_and_shares_no_image() -> None:
    train = split(1000)
    whole = cut_validation(train, split(10), DIGITS_4, 0.2, seed=0)
    assert torch.bincount(whole.validation.labels).tolist() == [20] * 10
    assert torch.bincount(whole.train.labels).tolist() == [80] * 10
    kept = {tuple(i.flatten().tolist()) for i in whole.train.images}
    held = {tuple(i.flatten().tolist()) for i in whole.validation.images}
    assert len(kept) == 800 and len(held) == 200 and not kept & held


def test_validation_follows_the_seed() -> None:
    train = split(1000)
    held = [cut_validation(train, split(10), DIGITS_4, 0.2, seed).validation.images for seed in (0, 0, 1)]
    assert torch.equal(held[0], held[1]) and not torch.equal(held[0], held[2])


def test_a_class_too_small_to_split_is_named() -> None:
    train = Split(torch.rand(5, 1, 4, 4), torch.tensor([0, 0, 0, 1, 0]))
    with pytest.raises(InputError, match="class '1' has 1 images"):
        cut_validation(train, split(10), DIGITS_4, 0.2, seed=0)


def test_glyphs_are_the_same_for_the_same_seed_only() -> None:
    first = data.load(GLYPHS, "", seed=0)
    data._load.cache_clear()
    again = data.load(GLYPHS, "", seed=0)
    other = data.load({**GLYPHS, "seed": 1}, "", seed=0)
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.test.images, other.test.images)
    assert not torch.equal(first.test.images[:50], first.train.images[:50])


def test_glyphs_are_images_of_all_digits_with_masks_on_them() -> None:
    whole = data.load({**GLYPHS, "train": 2000, "noise": 0.0, "blur": 0.0}, "", seed=0)
    images, masks = whole.train.images, whole.train.masks
    assert masks is not None and masks.shape == images.shape and masks.dtype == torch.bool
    assert images.min() >= 0 and images.max() <= 1
    assert torch.bincount(whole.train.labels, minlength=10).min() > 100
    shares = masks.float().mean((1, 2, 3))
    assert shares.min() > 0.01 and shares.max() < 0.6
    inside = (images * masks).sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert inside.min() > 0.8  # nearly all ink is in the mask, the rest are edges


def test_glyphs_obey_their_parameters() -> None:
    still = {**GLYPHS, "rotation": 0.0, "shear": 0.0, "zoom": 0.0, "shift": 0.0, "blur": 0.0, "noise": 0.0}
    plain = data.load(still, "", seed=0).test
    assert plain.images.flatten(1).unique(dim=0).shape[0] < 90  # 630 templates: some of the 100 images repeat
    for key in ("rotation", "shear", "zoom", "shift", "blur", "noise"):
        spoiled = data.load({**still, key: 0.5 if key in ("zoom", "blur", "noise") else 10.0}, "", seed=0).test
        assert not torch.equal(spoiled.images, plain.images), key
        assert torch.equal(spoiled.labels, plain.labels), key


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A server on this machine that torchvision takes for MNIST's; yields the folder that it serves."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for path, array in zip(files_of("mnist", ""), (images(40), labels(40), images(20, 1), labels(20)), strict=True):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(idx(array)))
    digests = [(f"{p.name}.gz", datasets.utils.calculate_md5(folder / f"{p.name}.gz")) for p in files_of("mnist", "")]
    monkeypatch.setattr(datasets.MNIST, "resources", digests)
    with socketserver.TCPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_address[1]}/"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder
        server.shutdown()


def test_missing_files_are_fetched_and_nothing_else_stays(mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    whole = data.load({"name": "mnist", **ALL}, str(folder), seed=0)
    assert len(whole.test) == 20
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == sorted(files_of("mnist", folder))


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_download_that_fails_leaves_nothing(mirror: Path, tmp_path: Path, fault: str) -> None:
    last = mirror / "t10k-labels-idx1-ubyte.gz"
    last.unlink() if fault == "missing" else last.write_bytes(b"damaged")
    with pytest.raises(InputError, match="mnist: .*train-images-idx3-ubyte is missing and cannot be fetched.*glyphs"):
        data.load({"name": "mnist", **ALL}, str(tmp_path / "new" / "data"), seed=0)
    assert not (tmp_path / "new").exists()


def test_a_server_that_does_not_answer_is_given_up(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xmnist.data.sets.downloaded.TIMEOUT", 0.2)
    with socketserver.TCPServer(("127.0.0.1", 0), Quiet) as silent:  # accepts, and never serves
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{silent.server_address[1]}/"])
        with pytest.raises(InputError, match="cannot be fetched .*timed out"):
            data.load({"name": "mnist", **ALL}, str(tmp_path / "new"), seed=0)


def test_every_data_set_can_say_its_shape_and_classes() -> None:
    for name in set(DATASETS) - {"folder"}:
        info = data.info(resolution.resolve(composed(f"dataset={name}")).dataset)
        assert info.shape[0] in (1, 3) and len(set(info.classes)) == len(info.classes) >= 2


def test_the_real_files_are_read_whole(real_data: str) -> None:
    for name, mean, std in (("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)):
        whole = data.load({"name": name, "train": None, "test": None, "validation": 0.05}, real_data, seed=0)
        assert (len(whole.train), len(whole.validation), len(whole.test)) == (57_000, 3_000, 10_000)
        both = torch.cat([whole.train.images, whole.validation.images])
        assert both.mean().item() == pytest.approx(mean, abs=5e-5)
        assert both.std().item() == pytest.approx(std, abs=5e-5)


def test_the_same_data_set_is_read_once() -> None:
    first = data.load(GLYPHS, "", seed=3)
    assert data.load(dict(GLYPHS), "", seed=3) is first
    assert data.load(GLYPHS, "", seed=4) is not first


@pytest.mark.parametrize(
    "name", ["train-images.idx3-ubyte", "MNIST/train-images-idx3-ubyte.gz", "MNIST/raw/train-images-idx3-ubyte.gz"]
)
def test_a_file_that_lies_beside_the_missing_one_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
    assert files.alike(files_of("mnist", tmp_path)[0], str(tmp_path)) == tmp_path / name
    assert files.alike(files_of("mnist", tmp_path)[1], str(tmp_path)) is None


def test_classes_that_are_spelled_out_are_those_of_torchvision() -> None:
    """Which takes seconds to import, so that they are known without it."""
    splits = datasets.EMNIST.classes_split_dict.items()
    assert {split: tuple(c for c in classes if c != "N/A") for split, classes in splits} == EMNIST
    assert DATASETS["fashion_mnist"].classes == tuple(datasets.FashionMNIST.classes)
    for each in DATASETS.values():
        if issubclass(each, Published):
            assert issubclass(getattr(datasets, each.library), datasets.VisionDataset)
