from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from xmnist import figures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    kept: list[Figure] = []
    real = figures._save

    def save(figure: Figure, path: Path) -> None:
        real(figure, path)
        kept.append(figure)

    monkeypatch.setattr(figures, "_save", save)
    return kept


def pixels(count: int, channels: int = 1) -> np.ndarray:
    return np.linspace(0, 1, count * channels * 64, dtype=np.float32).reshape(count, channels, 8, 8)


def test_examples_show_every_image_with_its_class(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [("original", pixels(3), ["cat", "dog", "cat"]), ("RefAE", pixels(3), ["cat", "cat", "cat"])]
    figures.examples(rows, ["cat", "dog", "dog"], "a title", tmp_path / "e.png")
    axes = drawn[0].axes
    assert [a.get_title() for a in axes] == ["cat", "dog", "dog - cat", "cat", "dog - cat", "dog - cat"]
    red = [a.title.get_color() == figures.RED for a in axes]
    assert red == [False, False, True, False, True, True]
    assert [a.get_ylabel() for a in axes] == ["original", "", "", "RefAE", "", ""]
    for axis in axes:
        image = axis.images[0]
        assert image.get_clim() == (0, 1) and image.cmap.name == "gray" and image.get_interpolation() == "nearest"
        assert axis.get_aspect() == 1
    np.testing.assert_array_equal(axes[1].images[0].get_array(), pixels(3)[1, 0])
    assert drawn[0].get_suptitle() == f"a title\n{figures.LEGEND}"
    assert min(Image.open(tmp_path / "e.png").size) > 200


def test_examples_show_colours(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.examples([("original", pixels(1, 3), ["a"])], ["a"], "", tmp_path / "e.png")
    np.testing.assert_array_equal(drawn[0].axes[0].images[0].get_array(), pixels(1, 3)[0].transpose(1, 2, 0))


def test_class_names_that_look_like_mathematics_are_text(tmp_path: Path) -> None:
    figures.examples([("original", pixels(1), ["$\\frac{$"])], ["$\\frac{$"], "$x_{", tmp_path / "e.png")
    assert (tmp_path / "e.png").stat().st_size > 1000


def test_curves_draw_training_and_validation(tmp_path: Path, drawn: list[Figure]) -> None:
    history = [
        {"epoch": e, "lr": 0.1, "train_loss": 1 / e, "val_loss": 2 / e, "val_accuracy": 1 - 1 / e} for e in (1, 2, 3)
    ]
    figures.curves(history, "a title", tmp_path / "c.png")
    loss, accuracy = drawn[0].axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"]
    np.testing.assert_allclose(loss.lines[1].get_ydata(), [2, 1, 2 / 3])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [0, 1 / 2, 2 / 3])
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"


def test_curves_of_a_single_epoch_show_a_point(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.curves([{"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 2.0}], "", tmp_path / "c.png")
    assert drawn[0].axes[0].lines[0].get_marker() == "o"
