"""The variational ClaDec and RefVAE: network, loss, figures, and the commands from end to end."""

import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from benchmarks.train import learning
from helpers import OPTIONS, TINY, build, size_of
from xmnist import data
from xmnist.config import derived, resolution
from xmnist.data.base import Data, Info, Split
from xmnist.models import vae
from xmnist.models.layers import Encoder, freeze
from xmnist.plots import figures, grids, latent_space, pictures
from xmnist.runs import commands, store
from xmnist.runs.store import Run
from xmnist.runtime import distributed
from xmnist.runtime.errors import InputError
from xmnist.stages import evaluate, explain, train
from xmnist.training import loop, losses, networks, objectives

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]


# --- the network


def test_the_decoder_has_the_published_size() -> None:
    network = vae.build((128,), (1, 28, 28), 2)
    assert size_of(network.spread) + size_of(network.upsample) == 9_408 + 36_928 + 18_464 + 289
    assert size_of(network.mean) == size_of(network.logvar) == 258


@pytest.mark.parametrize("latent", [2, 5])
@pytest.mark.parametrize("code", [(128,), (64, 7, 7), (10,)])
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 32, 32), (1, 27, 30), (3, 5, 33), (1, 1, 1)])
def test_any_code_becomes_an_image_of_the_exact_size(
    code: tuple[int, ...], image: tuple[int, ...], latent: int
) -> None:
    network = vae.build(code, image, latent)
    made = network(torch.randn(3, *code))
    assert made.shape == (3, *image) and made.min() >= 0 and made.max() <= 1
    means, logvars = network.encode(torch.randn(3, *code))
    assert means.shape == logvars.shape == (3, latent)
    assert network.upsample[1](network.upsample[0](network.spread(means))).shape == (
        *(3, 64),
        *(math.ceil(side / 4) for side in image[1:]),
    )


def test_sides_are_doubled_twice() -> None:
    network, seen = vae.build((128,), (1, 28, 28), 2), []
    x = network.spread(torch.zeros(1, 2))
    for layer in network.upsample:
        x = layer(x)
        seen.append(tuple(x.shape[1:]))
    assert [after for before, after in pairwise(seen) if after != before] == [
        *((64, 7, 7), (64, 14, 14), (32, 28, 28), (1, 28, 28))
    ]


def test_the_first_points_have_the_spread_of_the_prior_however_wide_the_code() -> None:
    means, logvars = vae.build((128,), (1, 28, 28), 2).encode(1000 * torch.randn(5, 128))
    assert logvars.abs().max() == 0 and means.abs().max() > 0


def test_training_draws_a_point_and_eval_takes_the_mean() -> None:
    network, codes = vae.build((6,), (1, 8, 8), 2).double(), torch.randn(4, 6, dtype=torch.float64)
    assert not torch.equal(network(codes), network(codes))
    network.eval()
    assert torch.equal(network(codes), network(codes))
    assert torch.equal(network(codes), network.decode(network.encode(codes)[0]))


def test_the_point_has_the_code_s_distribution() -> None:
    network = vae.build((3,), (1, 4, 4), 2).double()
    nn.init.normal_(network.logvar.weight)
    codes = torch.randn(1, 3, dtype=torch.float64)
    means, logvars = network.encode(codes)
    drawn: list[Tensor] = []
    network.logits = lambda points: drawn.append(points) or points  # type: ignore[method-assign,func-returns-value]
    network.parts(codes.expand(40_000, 3))
    torch.testing.assert_close(drawn[0].mean(0), means[0], rtol=0, atol=0.03)
    torch.testing.assert_close(drawn[0].std(0), (0.5 * logvars[0]).exp(), rtol=0.03, atol=0)


def test_each_of_several_processes_has_its_rows_of_the_whole_batch_s_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = torch.zeros(20, 2), []
    torch.manual_seed(1)
    expected = vae._noise(whole)
    for rows in (slice(0, 9), slice(9, 20)):
        monkeypatch.setattr(distributed, "_share", distributed.Share(20, rows, (0.45, 0.55)))
        torch.manual_seed(1)
        parts.append(vae._noise(whole[rows]))
    assert torch.equal(torch.cat(parts), expected)


def test_points_stay_in_float32_in_a_training_in_bfloat16() -> None:
    network, codes = vae.build((128,), (1, 28, 28), 2).eval(), torch.randn(4, 128)
    first = network.upsample[0]
    spread: list[Tensor] = []
    first.register_forward_pre_hook(lambda module, inputs: spread.append(inputs[0]))
    plain = network.parts(codes)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = network.parts(codes)
    assert lowered[0].dtype == torch.bfloat16
    for exact, own in zip((*plain[1:], spread[0]), (*lowered[1:], spread[1]), strict=True):
        assert torch.equal(exact, own)


# --- the loss


def test_the_divergence_by_hand() -> None:
    """N(1, 1) and N(0, 4) from N(0, 1): 1/2 and (4 - 1 - log 4) / 2, added up for an image."""
    means, variances = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), torch.tensor([[1.0, 4.0], [1.0, 1.0]]).double()
    found = losses.kl(means, variances.log())
    assert found.tolist() == pytest.approx([0.5 + (3 - math.log(4)) / 2, 0.0])


def test_the_divergence_is_torchs() -> None:
    means, logvars = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    theirs = kl_divergence(Normal(means, (0.5 * logvars).exp()), Normal(torch.zeros(()).double(), 1.0)).sum(1)
    torch.testing.assert_close(losses.kl(means, logvars), theirs)


def test_the_reconstruction_is_the_likelihood_of_pixels() -> None:
    images, logits = (torch.rand(3, 1, 4, 4) > 0.5).double(), torch.randn(3, 1, 4, 4, dtype=torch.float64)
    theirs = -Bernoulli(logits=logits).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(losses.bce(images, logits), theirs)


def test_no_logit_is_too_large_and_bfloat16_does_not_lose_pixels() -> None:
    images = torch.tensor([[0.0, 1.0, 0.5]])
    assert losses.bce(images, torch.tensor([[300.0, -300.0, 300.0]])).item() == pytest.approx(300 + 300 + 150)
    images, logits = torch.rand(2, 1, 64, 64), torch.randn(2, 1, 64, 64).bfloat16()
    found = losses.bce(images, logits)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, losses.bce(images.double(), logits.double()).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_loss_is_the_weighted_sum(alpha: float, beta: float) -> None:
    torch.manual_seed(3)
    classifier = freeze(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double())
    images, labels = torch.rand(6, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    logits, means, logvars = (torch.randn(6, *shape, dtype=torch.float64) for shape in ((1, 4, 4), (2,), (2,)))
    loss = losses.variational(classifier, images, logits, labels, means, logvars, alpha, beta)
    bce = F.binary_cross_entropy(logits.sigmoid(), images, reduction="sum") / 6
    cls = F.cross_entropy(classifier(logits.sigmoid()), labels)
    kl = 0.5 * (means**2 + logvars.exp() - 1 - logvars).sum() / 6
    torch.testing.assert_close(loss, (1 - alpha) * bce + alpha * cls + beta * kl)


# --- the tasks


def explained(images: Data) -> nn.Module:
    torch.manual_seed(5)
    return freeze(build("vgg_small", images.info.shape, len(images.info.classes), dropout=0.5))


def cladec_vae(images: Data, layer: str = "dense", beta: float = 1.0, alpha: float = 0.9) -> objectives.Task:
    torch.manual_seed(6)
    return objectives.vae.cladec_vae(explained(images), images, layer=layer, latent=2, beta=beta, alpha=alpha)


def refvae(images: Data) -> objectives.Task:
    torch.manual_seed(7)
    fresh = build("vgg_small", images.info.shape, len(images.info.classes), dropout=0.5)
    return objectives.vae.refvae(explained(images), fresh, images, layer="dense", latent=2, beta=1.0)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("build", [cladec_vae, refvae])
def test_every_part_of_the_network_learns_and_the_classifier_does_not(
    build: Callable[[Data], objectives.Task], tiny_data: Data
) -> None:
    task = build(tiny_data)
    assert task.explained is not None
    before, judge = state(task.model), state(task.explained)
    options = learning({**OPTIONS, "epochs": 1, "lr": 1e-3})
    loop.fit(task.model, task.loss, task.rows(), lambda: task.watch(tiny_data.validation), **options)
    after = state(task.model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {n.split(".", 1)[-1] if build is refvae else n for n in moved} >= {
        *("mean.weight", "logvar.weight", "spread.weight", "upsample.2.weight", "upsample.6.weight"),
    }
    assert ("0.classifier.stem.0.weight" in moved) == (build is refvae)
    assert all(torch.equal(judge[k], v) for k, v in state(task.explained).items()) and not task.explained.training


def test_the_deviations_learn_through_the_drawn_point_alone_too(tiny_data: Data) -> None:
    task = cladec_vae(tiny_data, beta=0.0)
    task.model.train()
    task.loss(tiny_data.train.images[:8], tiny_data.train.labels[:8]).backward()
    gradient = task.model.get_parameter("logvar.weight").grad
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_the_figures_of_a_split_are_those_of_its_mean_images(tiny_data: Data, alpha: float) -> None:
    task, split = cladec_vae(tiny_data, beta=2.0, alpha=alpha), tiny_data.test
    task.model.eval()
    assert task.reconstruct is not None and task.latent is not None
    made, found = task.reconstruct(split.images), task.test(split)
    assert made.min() > 0 and torch.equal(made, task.latent.decode(task.latent.means(split.images)))
    assert found["reconstruction_bce"] == pytest.approx(
        F.binary_cross_entropy(made, split.images, reduction="sum").item() / len(split), rel=1e-5
    )
    assert found["reconstruction_sse"] == pytest.approx((made - split.images).square().sum().item() / len(split))
    total = (1 - alpha) * found["reconstruction_bce"] + alpha * found["classification_loss"] + 2 * found["kl"]
    assert found["total_loss"] == pytest.approx(total)
    watched = task.watch(split)
    assert watched.pop("loss") == pytest.approx(total) and watched.keys() == found.keys() - {"total_loss"}


@pytest.mark.parametrize("layer", ["dense", "conv"])
def test_codes_made_once_give_what_codes_made_anew_give(
    tiny_data: Data, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for limit in (2**30, 0):
        monkeypatch.setattr(objectives.base, "CODES_AT_MOST", limit)
        task = cladec_vae(tiny_data, layer)
        assert len(task.rows().columns) == (3 if limit else 2)  # type: ignore[attr-defined]
        options = learning({**OPTIONS, "epochs": 1, "lr": 1e-3, "eps": 1e-4})
        loop.fit(task.model, task.loss, task.rows(), lambda task=task: task.watch(tiny_data.validation), **options)  # type: ignore[misc]
        found.append(state(task.model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


# --- the pictures


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved."""
    kept: list[Figure] = []
    real = figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, *rest: kept.append(figure) or real(figure, *rest))  # type: ignore[func-returns-value]
    return kept


def space(means: Tensor, shape: tuple[int, ...]) -> vae.LatentSpace:
    """Images whose first pixel says which mean they have; a point becomes an image of its first two numbers."""

    def decode(points: Tensor) -> Tensor:
        made = torch.zeros(len(points), *shape)
        made[:, 0, 0, :2] = points[:, :2]
        return made

    return vae.LatentSpace(lambda images: means[(images[:, 0, 0, 0] * 1000).round().long()], decode)


def placed(means: Tensor, classes: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Data:
    images = torch.zeros(len(means), *shape)
    images[:, 0, 0, 0] = torch.arange(len(means)) / 1000
    split = Split(images, torch.arange(len(means)) % classes)
    return Data(split, split[:2], split[:40], Info(shape, tuple(f"class {k}" for k in range(classes))))


@pytest.mark.parametrize(("latent", "count"), [(2, 1), (3, 3), (6, 6)])
def test_every_pair_of_at_most_four_dimensions_has_its_panels(
    settings: Settings, drawn: list[Figure], latent: int, count: int
) -> None:
    torch.manual_seed(2)
    means = torch.randn(300, latent) * torch.tensor([5.0, 4.0, 3.0, 0.1, 0.2, 6.0])[:latent]
    run = Run("train", settings(*TINY, "model=cladec_vae", f"model.latent={latent}"))
    run.path.mkdir(parents=True)
    pictures.latent(run, space(means, (1, 8, 8)), placed(means, 3))
    grid, clusters = drawn
    assert {path.name for path in run.path.glob("*.png")} == {"latent_grid.png", "latent_clusters.png"}
    assert len(grid.axes) == count and len(clusters.axes) == 2 * count
    shown = [(axes.get_xlabel(), axes.get_ylabel()) for axes in grid.axes]
    assert shown == [(axes.get_xlabel(), axes.get_ylabel()) for axes in clusters.axes[::2]]
    assert len(set(shown)) == count
    if latent == 6:
        assert {name for pair in shown for name in pair} == {"z0", "z1", "z2", "z5"}  # where the means differ most
    assert ("other dimensions at their mean" in grid.get_suptitle()) == (latent > 2)
    assert "1% to the 99% quantile" in grid.get_suptitle() and "1% to the 99% quantile" in clusters.get_suptitle()


def test_the_grid_shows_each_point_s_image_at_its_place(settings: Settings, drawn: list[Figure]) -> None:
    means = torch.stack([torch.linspace(0, 1, 101), torch.linspace(0, 10, 101).flip(0)], 1)
    run = Run("train", settings(*TINY, "model=refvae"))
    run.path.mkdir(parents=True)
    pictures.latent(run, space(means, (1, 8, 8)), placed(means, 2))
    (shown,) = drawn[0].axes[0].images
    pixels, (left, right, low, high) = shown.get_array(), shown.get_extent()
    assert pixels.shape == (160, 160) and shown.get_clim() == (0, 1)
    step = np.array([0.98, 9.8]) / 19
    np.testing.assert_allclose((left, right), (0.01 - step[0] / 2, 0.99 + step[0] / 2), rtol=1e-5)
    np.testing.assert_allclose((low, high), (0.1 - step[1] / 2, 9.9 + step[1] / 2), rtol=1e-5)
    np.testing.assert_allclose(pixels[::8, ::8], np.tile(np.linspace(0.01, 0.99, 20), (20, 1)), rtol=1e-4)
    np.testing.assert_allclose(pixels[::8, 1::8], np.tile(np.linspace(9.9, 0.1, 20), (20, 1)).T, rtol=1e-4)  # up
    frame = drawn[1].axes[0].patches[0].get_bbox().extents
    np.testing.assert_allclose(frame, (0.01, 0.1, 0.99, 9.9), rtol=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 20, 21, 100])
def test_classes_are_told_apart_and_a_legend_does_not_overflow(
    tmp_path: Path, drawn: list[Figure], classes: int
) -> None:
    means, labels = np.random.default_rng(0).normal(size=(200, 2)), np.arange(200) % classes
    plane = latent_space.Plane(0, 1, ((-1.0, 1.0), (-2.0, 2.0)), np.zeros((2, 2, 1, 4, 4)))
    clouds = [latent_space.Cloud("training", means, labels), latent_space.Cloud("test", means[:50], labels[:50])]
    names = [f"a name of class {k}" for k in range(classes)]
    latent_space.clusters(clouds, [plane], names, "a title", tmp_path / "c.png")
    figure = drawn[0]
    first = figure.axes[0]
    assert [axes.get_title() for axes in figure.axes] == ["200 training images", "50 test images"]
    points = np.concatenate([line.get_xydata() for line in first.lines])
    np.testing.assert_allclose(np.sort(points, 0), np.sort(means, 0))
    looks = {(line.get_color(), line.get_marker()) for line in first.lines}
    assert len(looks) == classes
    if classes <= 10:
        assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == classes
    if classes > 20:
        assert not figure.legends and f"{classes} classes" in figure.get_suptitle()
        return
    box = figure.legends[0].get_window_extent()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    assert box.x0 >= first.get_window_extent().x1 and box.x1 <= figure.bbox.x1 + 1
    assert box.y0 >= 0 and box.y1 <= figure.bbox.y1


def test_ten_colours_differ_for_all_eyes() -> None:
    """Any two differ in lightness, or in blue against yellow, which most colour-blind eyes see."""
    colours = np.array([to_rgb(latent_space._look(k, 10)[0]) for k in range(10)])
    light, blue = colours @ [0.3, 0.59, 0.11], colours[:, 2] - colours[:, :2].mean(1)
    apart = np.hypot(light[:, None] - light, blue[:, None] - blue)[~np.eye(10, dtype=bool)]
    assert apart.min() > 0.1


@pytest.mark.filterwarnings("error")
def test_a_collapsed_space_is_drawn(settings: Settings, drawn: list[Figure]) -> None:
    run = Run("train", settings(*TINY, "model=refvae"))
    run.path.mkdir(parents=True)
    pictures.latent(run, space(torch.zeros(50, 2), (3, 40, 70)), placed(torch.zeros(50, 2), 2, (3, 40, 70)))
    assert drawn[0].axes[0].images[0].get_array().shape == (9 * 40, 9 * 70, 3)


# --- from end to end


DRAWN = {"curves.png", "examples.png", "latent_grid.png", "latent_clusters.png"}


def test_the_commands_as_a_user_types_them(xmnist: Xmnist, tmp_path: Path) -> None:
    words = ("train", *TINY, "model=cladec_vae", "layer=conv")
    first = xmnist(*words)
    assert (first.returncode, first.stderr) == (0, ""), first.stderr
    (run,) = (tmp_path / "work" / "outputs" / "train" / "glyphs" / "cladec_vae").iterdir()
    assert run.name.startswith("layer=conv,latent=2,alpha=0.9,seed=0-")
    assert {path.name for path in run.glob("*.png")} == DRAWN
    told = json.loads((run / "metrics.json").read_text())
    figures = {"reconstruction_sse", "reconstruction_mse", "reconstruction_bce", "kl", "classification_loss"}
    figures |= {"total_loss", "accuracy", "agreement"}
    assert told.keys() == figures | {"epochs", "seconds", "images_per_second"}
    history = pd.read_csv(run / "history.csv")
    assert {f"val_{name}" for name in figures - {"total_loss"}} | {"val_loss"} <= set(history)
    assert "already done" in xmnist(*words).stdout
    listed = xmnist("runs", "model=cladec_vae").stdout
    assert "sse" in listed and "latent=2" in listed


def test_its_pictures_and_figures_are_those_of_its_decoders(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "latent", lambda *_: None)
    words = (*TINY, "model=cladec_vae")
    own = settings(*words, "select.count=1", stage="explain")
    explain.check(own)
    explain.main(own, "xmnist explain ...")
    run = Run("explain", own)
    assert run.path.parent.name == "cladec_vae" and "explainer=refvae+cladec_vae" in run.path.name
    tasks_of = {}
    images = networks.load_data(own)
    with np.load(run.path / "explanations.npz") as arrays:
        for name in ("refvae", "cladec_vae"):
            made = settings(*TINY, f"model={name}")
            assert Run("train", made).finished()
            tasks_of[name] = networks.fitted(Run("train", made), images, torch.device("cpu"))
            np.testing.assert_allclose(
                arrays[name], tasks_of[name].reconstruct(torch.tensor(arrays["images"])), atol=1e-5
            )  # type: ignore[misc]

    own = settings(*words, "metric=reconstruction", stage="evaluate")
    evaluate.check(own)
    evaluate.main(own, "xmnist evaluate ...")
    summary = pd.read_csv(Run("evaluate", own).path / "summary.csv").set_index("name")
    assert list(summary.index) == ["classifier", "refvae", "cladec_vae"]
    for name in ("refvae", "cladec_vae"):
        told = Run("train", settings(*TINY, f"model={name}")).metrics()
        for key in ("reconstruction_sse", "reconstruction_bce", "kl", "total_loss", "accuracy", "agreement"):
            assert summary.loc[name, key] == pytest.approx(told[key], rel=1e-4), key
        judge = settings(*TINY, "model=evaluation", f"model.of={name}", "alpha=0.9")
        assert Run("train", judge).finished()
        assert summary.loc[name, "evaluation_accuracy"] == pytest.approx(Run("train", judge).metrics()["accuracy"])
    assert math.isnan(summary.loc["classifier", "kl"])


def test_the_finished_reference_joins_the_picture(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[list[str]] = []
    real = grids.grid
    monkeypatch.setattr(pictures, "latent", lambda *_: None)
    monkeypatch.setattr(
        grids, "grid", lambda rows, *rest, **k: shown.append([r.name for r in rows]) or real(rows, *rest, **k)
    )
    train.main(settings(*TINY, "model=refvae"))
    train.main(settings(*TINY, "model=refae"))
    train.main(settings(*TINY, "model=cladec_vae"))
    rows = ["original", "RefVAE", "variational ClaDec\nalpha 0.9", "RefVAE −\nvariational ClaDec"]
    assert shown[0] == rows[:2] and shown[2] == rows


@pytest.mark.parametrize("model", ["cladec_vae", "refvae"])
@pytest.mark.usefixtures("undrawn")
def test_a_training_that_was_stopped_ends_bit_for_bit_alike(
    settings: Settings, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("latent", "examples"):  # what is drawn after the training has no part in it
        monkeypatch.setattr(pictures, name, lambda *_: None)
    whole = settings(*TINY, f"model={model}", "trainer.epochs=3")
    train.main(whole)
    stopped = replace(whole, out_dir=whole.out_dir + "-stopped")
    real, saves = Run.save, []

    def save(run: Run, name: str, content: object) -> None:
        if run.settings.model.name == model and name == "last.pt":
            saves.append(name)
            if len(saves) == 3:
                raise KeyboardInterrupt
        real(run, name, content)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(KeyboardInterrupt):
        train.main(stopped)
    monkeypatch.setattr(Run, "save", real)
    train.main(stopped)
    assert (Run("train", stopped).path / "model.pt").read_bytes() == (
        Run("train", whole).path / "model.pt"
    ).read_bytes()


# --- settings


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["model=cladec_vae", "model.latent=1"], "model.latent must be a whole number from 2 to 10000, got 1"),
        (["model=refvae", "model.beta=-1"], "model.beta must be a number of at least 0, got -1"),
        (
            ["model=cladec_vae", "alpha=[0,2]"],
            "alpha must be a number in [0, 1], or a list of different ones with model=cladec_vae, got [0, 2]",
        ),
        (["model=cladec_vae", "+beta=2"], "beta belongs to model=joint; here it is model.beta"),
        (["model=refvae", "alpha=0.5"], "alpha must be null with model=refvae, got 0.5"),
        (
            ["model=evaluation", "model.of=cladec_vae", "alpha=null"],
            "alpha must be a number in [0, 1], or a list of different ones with model.of=",
        ),
        (
            ["model=evaluation", "model.of=cladec_vae", "model.latent=0"],
            "model.latent must be a whole number from 2 to 10000",
        ),
    ],
)
def test_mistakes_are_named(settings: Settings, words: list[str], answer: str) -> None:
    with pytest.raises(InputError) as error:
        settings("dataset=mnist", *words)
    assert str(error.value).startswith(answer)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["explainer=cladec_vae"], "explainer=cladec_vae needs model=cladec_vae, but this is model=cladec"),
        (["explainer=refvae"], "explainer=refvae needs model=cladec_vae or refvae, but this is model=cladec"),
        (["model=cladec_vae", "explainer=cladec"], "explainer=cladec needs model=cladec, but this is model=cladec_vae"),
        (["model=cladec_vae", "explainer=refae"], "explainer=refae needs model=cladec or refae, but this is"),
    ],
)
def test_explainers_that_do_not_fit_are_named(settings: Settings, words: list[str], answer: str) -> None:
    with pytest.raises(InputError) as error:
        settings("dataset=mnist", *words, stage="explain")
    assert str(error.value).startswith(answer)


def test_what_a_run_stands_on_is_the_same_whoever_asks(settings: Settings) -> None:
    words = ("dataset=mnist", "layer=conv", "model.latent=3")
    own = settings(*words, "model=cladec_vae", stage="explain")
    typed = [settings("dataset=mnist", "model=classifier")]
    typed += [settings(*words, f"model={model}") for model in ("cladec_vae", "refvae")]
    assert [Run("train", needed).path for needed in derived.needed(own)] == [Run("train", each).path for each in typed]
    alone = settings(*words, "model=cladec_vae", "explainer=refvae", stage="explain")
    assert Run("explain", alone).path == Run("explain", settings(*words, "model=refvae", stage="explain")).path
    assert Run("explain", alone).path.parent.name == "refvae"
    assert Run("train", typed[1]).path.name.startswith("layer=conv,latent=3,alpha=0.9,")


@pytest.mark.parametrize("model", ["cladec_vae", "refvae", "evaluation"])
def test_the_command_that_a_run_tells_makes_it(settings: Settings, model: str) -> None:
    words = ["model.of=cladec_vae"] if model == "evaluation" else []
    own = settings("dataset=mnist", f"model={model}", *words, "model.latent=4", "model.beta=0.5")
    said = commands.train_command(own).split()[2:]
    assert store.run_id("train", settings(*said)) == store.run_id("train", own)
    if model == "evaluation":
        assert Run("train", derived.judged(own)).path.parent.name == "cladec_vae"


def test_the_settings_of_other_evaluation_classifiers_are_what_they_were(settings: Settings) -> None:
    own = settings("dataset=mnist", "model=evaluation").model
    assert own.plain() == {"name": "evaluation", "of": "cladec", "decoder": "published", "reconstruction": "sse"}


def test_the_layer_is_looked_at_before_anything_is_trained(settings: Settings) -> None:
    with pytest.raises(InputError, match="no layer 'dens'"):
        train.check(settings(*TINY, "model=cladec_vae", "layer=dens"))
    train.check(settings(*TINY, "model=cladec_vae", "layer=stem.1"))
    assert data.info(settings(*TINY).dataset).shape == (1, 28, 28)
    assert Encoder(nn.Sequential(nn.Flatten()), "0")(torch.zeros(1, 2, 2)).shape == (1, 4)
