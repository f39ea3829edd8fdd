from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from xmnist.config.declarations import EXPLAINERS
from xmnist.plots import figures, grids, styles
from xmnist.plots.grids import Row


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    kept: list[Figure] = []
    real = figures._save

    def save(figure: Figure, path: Path, *dense: int) -> None:
        real(figure, path, *dense)
        kept.append(figure)

    monkeypatch.setattr(figures, "_save", save)
    return kept


def pixels(count: int, channels: int = 1) -> np.ndarray:
    return np.linspace(0, 1, count * channels * 64, dtype=np.float32).reshape(count, channels, 8, 8)


def test_examples_show_every_image_with_its_class(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [Row("original", pixels(3), ["cat", "dog", "cat"]), Row("RefAE", pixels(3), ["cat", "cat", "cat"])]
    grids.grid(rows, ["cat", "dog", "dog"], "a title", tmp_path / "e.png")
    axes = drawn[0].axes
    assert [a.get_title() for a in axes] == ["cat", "dog", "dog → cat", "cat", "dog → cat", "dog → cat"]
    red = [a.title.get_color() == figures.RED for a in axes]
    assert red == [False, False, True, False, True, True]
    for axis in axes:
        image = axis.images[0]
        assert image.get_clim() == (0, 1) and image.cmap.name == "gray" and image.get_interpolation() == "nearest"
        assert axis.get_aspect() == 1
    np.testing.assert_array_equal(axes[1].images[0].get_array(), pixels(3)[1, 0])
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts[0] == "a title" and {"original", "RefAE"} <= set(texts) and " ".join(texts[3:]) == grids.LEGEND
    assert min(Image.open(tmp_path / "e.png").size) > 200


def test_examples_show_colours(tmp_path: Path, drawn: list[Figure]) -> None:
    grids.grid([Row("original", pixels(1, 3), ["a"])], ["a"], "", tmp_path / "e.png")
    np.testing.assert_array_equal(drawn[0].axes[0].images[0].get_array(), pixels(1, 3)[0].transpose(1, 2, 0))


def test_heatmaps_are_centred_at_zero_and_have_no_titles(tmp_path: Path, drawn: list[Figure]) -> None:
    maps = pixels(2) - 0.75
    maps[1] = 0
    grids.grid(
        [Row("original", pixels(2), ["a", "a"]), Row("LRP", maps, None, "heatmap")],
        ["a", "a"],
        "",
        tmp_path / "e.png",
        layout="columns",
    )
    for axis, limit in zip(drawn[0].axes[2:4], (0.75, 1.0), strict=True):
        assert axis.images[0].get_clim() == pytest.approx((-limit, limit)) and axis.images[0].cmap.name == "RdBu_r"
        assert axis.get_title() == ""
    assert drawn[0].axes[4].get_gid() == "key"  # its colours
    assert grids.KEYS["heatmap"][2] in " ".join(text.get_text() for text in drawn[0].texts)


def check_apart(figure: Figure, renderer: RendererBase | None = None) -> None:
    """Make sure that of a figure's texts and axes none overlaps another one or is cut."""
    texts = [*figure.texts, *(axes.title for axes in figure.axes if axes.get_title())]
    boxes = [part.get_window_extent(renderer) for part in (*texts, *figure.axes)]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        for other in boxes[:i]:
            assert not box.overlaps(other), (i, box, other)


@pytest.mark.parametrize("layout", ["rows", "columns"])
@pytest.mark.parametrize("names", [["a"] * 3, ["Ankle boot", "T-shirt/top", "Trouser"]])
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_nothing_overlaps_and_nothing_is_cut(
    tmp_path: Path, drawn: list[Figure], names: list[str], suffix: str, layout: grids.Layout
) -> None:
    wrong = [names[1]] * 3
    rows = [Row("integrated gradients\nof predicted", pixels(3), wrong), Row("LRP", pixels(3), None, "heatmap")]
    rows += [Row("ClaDec\nalpha 0.25", pixels(3), wrong)]
    grids.grid(rows, names, "vgg_small on mnist, seed 0", tmp_path / f"e.{suffix}", layout)
    renderer = drawn[0].canvas.get_renderer() if suffix == "png" else FigureCanvasAgg(drawn[0]).get_renderer()
    check_apart(drawn[0], renderer)


def test_class_names_that_look_like_mathematics_are_text(tmp_path: Path) -> None:
    grids.grid([Row("original", pixels(1), ["$\\frac{$"])], ["$\\frac{$"], "$x_{", tmp_path / "e.png")
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


def test_curves_have_room_for_their_numbers(tmp_path: Path, drawn: list[Figure]) -> None:
    values = {"loss": 8e5, "accuracy": 1e-4, "kl": 1e9, "classification_loss": -1e-7, "explanation_loss": -9e4}
    rows = [{f"val_{name}": value / epoch for name, value in values.items()} | {"phase": epoch} for epoch in (1, 2)]
    figures.curves(rows, "a title", tmp_path / "c.png")
    boxes = [axes.get_tightbbox() for axes in drawn[0].axes]
    edges = [edge for box in boxes if box is not None for edge in (box.x0, box.x1)]
    assert len(edges) == 10 and edges == sorted(edges)
    assert edges[0] >= 0 and edges[-1] <= drawn[0].bbox.x1
    assert Image.open(tmp_path / "c.png").size == tuple(150 * size for size in drawn[0].get_size_inches())


@pytest.mark.parametrize(
    ("images", "kinds", "classes"),
    [
        *((1, 9, "0123456789"), (20, 7, "0123456789"), (24, 9, "0123456789"), (40, 2, "ab")),
        *((12, 4, ("Ankle boot", "T-shirt/top")), (3, 7, ("cat", "a name that is longer than a cell"))),
        (24, 15, ("golden_retriever", "飞机", "Sandal")),
    ],
)
@pytest.mark.parametrize("layout", ["auto", "rows", "columns"])
def test_a_picture_fits_a_page_with_letters_that_can_be_read(
    tmp_path: Path, drawn: list[Figure], images: int, kinds: int, classes: Sequence[str], layout: grids.Layout
) -> None:
    truth = [classes[place % len(classes)] for place in range(images)]
    seen = [classes[place % 3 % len(classes)] for place in range(images)]
    rows = [Row("original", pixels(images), seen)]
    rows += [Row(f"integrated gradients {i}\nof predicted", pixels(images), None, "heatmap") for i in range(kinds - 1)]
    grids.grid(rows, truth, "a title", tmp_path / "e.png", layout)
    (figure,) = drawn
    texts = [*figure.texts, *(axes.title for axes in figure.axes if axes.get_title())]
    scale = min(1, 6.3 / figure.get_figwidth())
    assert min(text.get_fontsize() for text in texts) * scale >= 7
    check_apart(figure)


def test_one_image_leaves_no_blank_paper(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [Row("original", pixels(1), ["a"]), *(Row(f"map {i}", pixels(1), None, "heatmap") for i in range(7))]
    grids.grid(rows, [None], "", tmp_path / "one.png")
    places = [axes.get_position() for axes in drawn[0].axes[:8]]
    assert max(place.x1 for place in places) - min(place.x0 for place in places) > 0.9


def test_an_image_without_a_known_class_has_its_predicted_one(tmp_path: Path, drawn: list[Figure]) -> None:
    grids.grid([Row("original", pixels(1), ["cat"])], [None], "", tmp_path / "e.png")
    assert drawn[0].axes[0].get_title() == "cat" and drawn[0].axes[0].title.get_color() == "black"
    assert grids.UNLABELLED in [text.get_text() for text in drawn[0].texts]


def test_a_map_lies_over_its_gray_image(tmp_path: Path, drawn: list[Figure]) -> None:
    rows = [Row("original", pixels(1, 3), ["a"]), Row("LRP", pixels(1) - 0.5, None, "heatmap")]
    grids.grid(rows, ["a"], "", tmp_path / "e.png", overlay=True)
    gray, over = drawn[0].axes[1].images
    np.testing.assert_allclose(gray.get_array(), pixels(1, 3)[0].mean(0))
    share = np.asarray(over.get_array())[..., 3]
    np.testing.assert_allclose(share, np.abs(pixels(1)[0, 0] - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_picture_is_the_same_bytes_with_letters_that_stay_letters(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        grids.grid([Row("original", pixels(2), ["a", "b"])], ["a", "a"], "a title", tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert {"png": b"PNG", "pdf": b"FontFile2", "svg": b">a title</text>"}[suffix] in first


def test_every_method_has_its_own_name_colour_and_line() -> None:
    looks = [styles.style(name) for name in EXPLAINERS]
    assert len({look.title for look in looks}) == len(EXPLAINERS)
    assert len({(look.colour, look.dash) for look in looks if not look.quiet}) == len(EXPLAINERS) - 3
    assert styles.style("lrp").title == "LRP" and styles.style("cladec,alpha=0.5").title == "ClaDec, alpha 0.5"
    assert styles.style("lrp,target=label").colour == styles.style("lrp").colour
    assert styles.style("mine") == styles.style("mine") and styles.style("random").quiet
    evaluation = styles.style("evaluation")
    assert (evaluation.colour, evaluation.dash) not in {(look.colour, look.dash) for look in looks}


def test_several_answers_of_one_method_have_lines_of_their_own_in_every_picture() -> None:
    names = ["cladec", *(f"cladec,alpha={alpha}" for alpha in ("0", "0.25", "0.5", "0.99", "1")), "cladec_vae"]
    looks = styles.styles(names)
    assert len({(look.colour, look.dash) for look in looks.values()}) == len(names)
    assert len({looks[name].colour for name in names[:-1]}) == 1
    alone = styles.styles(["lrp", "cladec,alpha=0"])["cladec,alpha=0"]
    assert alone == styles.styles(["cladec,alpha=0", "cladec,alpha=1"])["cladec,alpha=0"] == looks["cladec,alpha=0"]
