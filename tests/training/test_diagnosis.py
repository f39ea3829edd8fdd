"""Trainings that failed without an error, and the trainings of folders of any size."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import TINY, composed
from xmnist.config import defaults, derived, resolution, sizing
from xmnist.data import own
from xmnist.data.base import Data, Info, Split
from xmnist.runs import claims
from xmnist.runs.store import Run
from xmnist.training import diagnosis

KINDS = {
    name: resolution.resolve(composed("dataset=mnist", f"model={name}")).model for name in ("classifier", "cladec")
}


def data(test: list[int], validation: list[int]) -> Data:
    def split(counts: list[int]) -> Split:
        labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
        return Split(torch.zeros(len(labels), 1, 2, 2), labels)

    return Data(split([9, 9]), split(validation), split(test), Info((1, 2, 2), ("cat", "dog")))


def history(loss: float = 0.1, accuracy: float = 0.5) -> list[dict[str, float]]:
    first = {"epoch": 1, "train_loss": 0.7, "val_loss": 0.8, "val_accuracy": 0.5}
    return [first, {"epoch": 2, "train_loss": loss, "val_loss": 0.7, "val_accuracy": accuracy}]


def test_a_classifier_at_chance_is_told_and_one_that_learned_is_not() -> None:
    images = data([9, 9], [10, 10])
    (reason,) = diagnosis.reasons(KINDS["classifier"], {"accuracy": 10 / 18}, history(), images)
    assert "not measurably better than always answering 'cat': 20 of 38 validation and test images" in reason
    assert not diagnosis.reasons(KINDS["classifier"], {"accuracy": 14 / 18}, history(accuracy=0.8), images)
    assert not diagnosis.reasons(KINDS["classifier"], {"accuracy": 1.0}, history(accuracy=1.0), data([1, 1], [1, 1]))
    assert diagnosis.reasons(
        KINDS["classifier"], {"accuracy": 0.9}, history(accuracy=0.9), data([9, 1], [9, 1])
    )  # the largest


def test_a_loss_that_exploded_is_told() -> None:
    images, good = data([9, 9], [10, 10]), {"accuracy": 1.0}
    (reason,) = diagnosis.reasons(KINDS["classifier"], good, history(loss=157.0, accuracy=1.0), images)
    assert "the training loss has exploded: 157, where that of knowing nothing is 0.6931" in reason
    (reason,) = diagnosis.reasons(KINDS["cladec"], {}, history(loss=1.1), images)
    assert "after the first epoch is 0.7" in reason
    assert not diagnosis.reasons(KINDS["cladec"], {}, history(loss=0.6), images)


def test_a_warning_stands_at_the_run_that_it_is_about(settings: Any) -> None:
    decoder, classifier = (Run("train", settings(*TINY, f"model={model}")) for model in ("cladec", "classifier"))
    told = lambda text: logging.getLogger("xmnist").warning(text, extra={"lasting": True})  # noqa: E731
    with claims.claim(decoder, "xmnist train"):
        with claims.claim(classifier, "xmnist train"):
            told("at chance")
        told("exploded")
    assert classifier.status()["warnings"] == ["at chance"] and decoder.status()["warnings"] == ["exploded"]


@pytest.mark.parametrize(
    ("count", "size", "epochs", "lr"),
    [(80, 8, 58, 0.00025), (300, 16, 31, 0.0005), (2000, 128, 37, 0.004), (20_000, 128, 6, 0.004)],
)
def test_a_folder_of_any_size_makes_a_few_hundred_steps(count: int, size: int, epochs: int, lr: float) -> None:
    """The second example of its issue: 82 images were trained on in 6 steps."""
    images = int(count * 0.85 * 0.8)
    trainer = defaults.option("trainer", "default") | {"joint": {}}
    fitted = sizing.fitted_trainer(trainer, images)
    assert (fitted["batch_size"], fitted["epochs"], fitted["lr"]) == (size, epochs, lr)
    assert epochs * -(-images // size) >= 400 and fitted["decoder"]["epochs"] * -(-images // 32) >= 400
    assert sizing.fitted_trainer(trainer | {"epochs": 3}, images)["epochs"] == 3
    assert "epochs" not in sizing.fitted_trainer(trainer | {"epochs": 3}, images)["decoder"]


def test_published_data_are_trained_as_before(settings: Any) -> None:
    (told,) = derived.phases(settings("model=classifier", "dataset=mnist", "dataset.train=300"))
    assert (told.epochs, told.batch_size, told.lr) == (6, 128, 0.004)


@pytest.mark.parametrize("invert", ["auto", True, False])
def test_an_image_of_ones_own_keeps_its_aspect_and_is_dark_where_the_data_are(tmp_path: Path, invert: Any) -> None:
    image = Image.new("RGB", (80, 40), "white")
    image.paste("black", (30, 0, 50, 40))
    image.save(tmp_path / "a.png")
    dark = torch.zeros(10, 1, 20, 20)
    made = own.read([str(tmp_path / "a.png")], dark, invert)
    ground, stroke = (0.0, 1.0) if invert else (1.0, 0.0)
    assert made.images.shape == (1, 1, 20, 20) and made.files == ("a.png",)
    inside = made.images[0, 0]
    assert inside[0].eq(ground).all() and inside[-1].eq(ground).all()  # above and below: as its own edge
    np.testing.assert_allclose(inside[6:14, 9:11], stroke, atol=0.02)
    assert ("inverted" in made.lines[0]) == bool(invert)


def test_an_image_on_a_background_like_the_data_or_in_colour_is_left_as_it_is(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 0).save(tmp_path / "dark.png")
    Image.new("RGB", (8, 8), "white").save(tmp_path / "light.png")
    assert own.read([str(tmp_path / "dark.png")], torch.zeros(3, 1, 8, 8), "auto").images.max() == 0
    assert own.read([str(tmp_path / "light.png")], torch.zeros(3, 3, 8, 8), "auto").images.min() == 1
    assert own.read([str(tmp_path / "dark.png")], torch.ones(3, 1, 8, 8), "auto").images.min() == 1  # light data
