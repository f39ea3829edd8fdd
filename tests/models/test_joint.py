"""The joint explainer-classifier: its map, its gates, its phases, and what post-hoc methods make of it."""

import copy
import csv
import json
import math
import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import helpers
from benchmarks.train import learning
from helpers import OPTIONS, ended, size_of, started
from networks import explainer
from xmnist import data
from xmnist.config import derived, resolution
from xmnist.config.declarations import EXPLAINERS
from xmnist.data.base import Data, Info, Split
from xmnist.models import joint
from xmnist.models.canonical import unrolled
from xmnist.models.folding import folded
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import explain, train
from xmnist.training import checks, loop, networks, objectives

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = (
    *("model=joint", "dataset=polygons", "dataset.train=60", "dataset.test=20", "dataset.size=32", "trainer=smoke"),
    *("dataset.radius=[4,8]", "dataset.shapes=3", "model.width=2", "model.depth=2"),
)
"""A joint training that takes a second."""

NETWORKS = {
    "vgg_small": {"dropout": 0.5},
    "cam_net": {"width": 4},
    "vgg_xml": {"dropout": 0.3, "width": 2, "batch_norm": False},
    "resnet18": {"stem": "small"},
    "vgg11": {"dropout": 0.3},
    "resnet10": {"width": 2},
}


def build(name: str = "vgg_small", shape: tuple[int, int, int] = (3, 32, 32), **options: Any) -> joint.Joint:
    classifier = helpers.build(name, shape, 3, **(NETWORKS.get(name, {}) | options))
    return joint.Joint(classifier, joint.Explainer(shape, 2, 2, 3.0))


def lively(model: joint.Joint) -> joint.Joint:
    """In eval mode, with a map that differs from place to place."""
    with torch.no_grad():
        model.explainer.head[0].weight.mul_(5)
        model.explainer.head[1].bias.fill_(0.5)
    return model.double().eval()


# --- the explainer


def test_the_published_explainer_has_the_published_shape() -> None:
    model = joint.Explainer((3, 224, 224), 32, 3, 3.0)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [
        *((3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)),
        *((128, 128), (128, 128), (64, 64), (64, 64), (32, 32), (32, 32), (32, 1)),
    ]
    ups = [m for m in model.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [(u.in_channels, u.out_channels, u.stride) for u in ups] == [
        *((128, 128, (2, 2)), (128, 64, (2, 2)), (64, 32, (2, 2))),
    ]


@pytest.mark.parametrize("init_bias", [1.0, 3.0])
@pytest.mark.parametrize("shape", [(3, 224, 224), (1, 28, 28), (1, 30, 45)])
def test_the_map_starts_near_tanh_of_init_bias(shape: tuple[int, int, int], init_bias: float) -> None:
    model = joint.Explainer(shape, 4, 3, init_bias).eval()
    maps = model(torch.rand(2, *shape))
    assert maps.shape == (2, 1, *shape[1:]) and maps.min() >= 0 and maps.max() <= 1
    assert maps.mean().item() == pytest.approx(math.tanh(init_bias), abs=0.15)


def test_sizes_that_cannot_be_halved_are_padded_and_the_map_is_cut_back() -> None:
    images = torch.rand(2, 1, 30, 45)
    model = joint.Explainer((1, 30, 45), 2, 3, 0.5).eval()
    whole = joint.Explainer((1, 32, 48), 2, 3, 0.5).eval()
    whole.load_state_dict(model.state_dict())
    padded = nn.functional.pad(images, (0, 3, 0, 2), mode="replicate")
    torch.testing.assert_close(model(images), whole(padded)[:, :, :30, :45])


def test_too_deep_is_refused() -> None:
    with pytest.raises(InputError, match="model.depth=6 is too deep for images of 28x28"):
        joint.Explainer((1, 28, 28), 2, 6, 3.0)


# --- gates


@pytest.mark.parametrize("name", [*NETWORKS, "lenet_avgpool", "dropout_cnn"])
def test_a_map_of_ones_is_the_ungated_classifier_exactly(name: str) -> None:
    options = {"dropout": 0.2, "nonpositive_bias": True} if name == "lenet_avgpool" else {"dropout": 0.2}
    model = build(name, **(options if name not in NETWORKS else {})).eval()
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(model.gated(images, torch.ones(3, 1, 32, 32)), model.classifier(images))
    assert not torch.allclose(model.gated(images, torch.full((3, 1, 32, 32), 0.5)), model.classifier(images))


def test_gates_multiply_by_the_average_of_the_map() -> None:
    model = build().double().eval()
    images, maps, seen = torch.rand(2, 3, 32, 32).double(), torch.rand(2, 1, 32, 32).double(), []
    stem, conv = model.classifier.stem, model.classifier.conv
    features = stem[3](stem[:3](model.classifier.normalize(images)) * maps)
    coarse = nn.functional.avg_pool2d(maps, 2)
    features = conv[3](conv[:3](features) * coarse)
    handle = model.classifier.flatten.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    model.gated(images, maps)
    handle.remove()
    torch.testing.assert_close(seen[0], features)


@pytest.mark.parametrize("depth", [18, 50])
def test_resnets_are_gated_after_the_stem_and_every_block(depth: int) -> None:
    model = helpers.build(f"resnet{depth}", (3, 64, 64), 2, stem="large")
    blocks = {18: [2, 2, 2, 2], 50: [3, 4, 6, 3]}[depth]
    assert model.gates == (
        "network.maxpool",
        *(f"network.layer{i + 1}.{b}" for i, count in enumerate(blocks) for b in range(count)),
    )
    shapes = []
    for name in model.gates:
        model.get_submodule(name).register_forward_hook(lambda _, args, out: shapes.append(out.shape[-1]))
    model.eval()(torch.rand(1, 3, 64, 64))
    sizes = [16] * (1 + blocks[0]) + [8] * blocks[1] + [4] * blocks[2] + [2] * blocks[3]
    assert shapes == sizes  # of 64: 56, 28, 14, 7 of 224


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg_xml_is_gated_before_each_pooling(batch_norm: bool) -> None:
    model = helpers.build("vgg_xml", (3, 64, 64), 2, dropout=0.3, width=32, batch_norm=batch_norm)
    for name in model.gates:
        block, place = name.split(".")
        assert isinstance(model.get_submodule(name), nn.ReLU)
        assert isinstance(model.get_submodule(block)[int(place) + 1], nn.MaxPool2d)
    assert model.eval()(torch.rand(2, 3, 64, 64)).shape == (2, 2)
    if not batch_norm:
        own = 3 * 32 * 9 + 32 + 32 * 32 * 9 + 32 + 32 * 64 * 9 + 64 + 64 * 64 * 9 + 64 + 64 * 128 * 9 + 128
        own += 128 * 128 * 9 + 128 + 128 * 256 * 9 + 256 + 256 * 256 * 9 + 256 + 256 * 128 + 128 + 128 * 128 + 128
        assert size_of(model) == own + 128 * 2 + 2


def test_any_classifier_takes_gates_by_name_and_keeps_no_hook() -> None:
    classifier = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    classifier(torch.rand(1, 1, 8, 8))
    model = joint.Joint(classifier, joint.Explainer((1, 8, 8), 2, 1, 3.0), ["1"]).eval()
    images = torch.rand(2, 1, 8, 8)
    maps = model.explainer(images)
    coarse = nn.functional.adaptive_avg_pool2d(maps, (6, 6))
    torch.testing.assert_close(model(images), classifier[3]((classifier[1](classifier[0](images)) * coarse).flatten(1)))
    assert not any(m._forward_hooks for m in model.modules())
    with pytest.raises(RuntimeError):
        model(torch.rand(2, 3, 8, 8))
    assert not any(m._forward_hooks for m in model.modules())


def test_gates_that_cannot_be_are_refused() -> None:
    model = build()
    with pytest.raises(InputError, match="no gate 'stem.9'.*stem.2, conv.2"):
        joint.Joint(model.classifier, model.explainer, ["stem.9"])
    with pytest.raises(InputError, match="names no gates"):
        joint.Joint(nn.Sequential(nn.Conv2d(1, 1, 1)), model.explainer)
    flat = joint.Joint(model.classifier, model.explainer, ["dense"])
    with pytest.raises(InputError, match="gate dense has no feature maps to multiply: it answers with 128"):
        joint.check_gates(flat.eval(), torch.rand(1, 3, 32, 32))


# --- phases


def masked_data(classes: int = 3) -> Data:
    def split(count: int) -> Split:
        masks = torch.zeros(count, 1, 32, 32, dtype=torch.bool)
        masks[:, :, 8:20, 8:20] = True
        return Split(torch.rand(count, 3, 32, 32), torch.arange(count) % classes, masks)

    return Data(split(48), split(18), split(18), Info((3, 32, 32), ("a", "b", "c"), masks=True))


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("loss", ["unsupervised", "hybrid"])
@pytest.mark.parametrize("frozen", [("explainer",), ("classifier",), ()])
def test_a_phase_freezes_what_it_should(frozen: tuple[str, ...], loss: str) -> None:
    """Weights, BatchNorm statistics and dropout: a frozen part does not move, and is in eval mode meanwhile."""
    torch.manual_seed(0)
    model, modes = build(), set()
    task = objectives.joint.joint(model, masked_data(), frozen, alpha=0.5, beta=0.9, gamma=1.0, loss=loss)
    parts = {part: state(model.get_submodule(part)) for part in joint.PARTS}
    model.classifier.dropout.register_forward_hook(
        lambda module, args, out: modes.add((torch.is_grad_enabled(), module.training))
    )
    task.prepare()
    options = learning({**OPTIONS, "epochs": 1, "lr": {"classifier": 0.01, "explainer": 0.01}, "figures": task.figures})
    loop.fit(model, task.loss, task.rows(), lambda: task.watch(masked_data().validation), **options)
    for part in joint.PARTS:
        changed = moved(parts[part], state(model.get_submodule(part)))
        statistics = {name for name in changed if "running" in name}
        assert bool(changed) == (part not in frozen), part
        assert bool(statistics) == (part not in frozen), part
    assert (True, "classifier" not in frozen) in modes and (True, "classifier" in frozen) not in modes


def test_maps_made_once_give_what_maps_made_anew_give(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for limit in (2**30, 0):
        monkeypatch.setattr(objectives.base, "CODES_AT_MOST", limit)
        torch.manual_seed(0)
        model = build()
        task = objectives.joint.joint(model, masked_data(), ("explainer",), 1.0, 0.9, 1.0, "hybrid")
        task.prepare()
        rows = task.rows()
        (batch,) = rows.batches([torch.arange(5)], 0)
        assert len(batch) == (4 if limit else 3)
        results.append(task.loss(*batch))
    torch.testing.assert_close(results[0], results[1])


def test_the_loss_of_a_phase_is_the_weighted_sum_and_an_image_without_object_has_no_outside() -> None:
    torch.manual_seed(0)
    model, own = build().eval(), masked_data()
    assert own.train.masks is not None
    own.train.masks[0] = False
    task = objectives.joint.joint(model, own, (), alpha=0.3, beta=0.6, gamma=2.0, loss="hybrid")
    images, labels, masks = own.train.images[:4], own.train.labels[:4], own.train.masks[:4]
    maps, logits = model.explainer(images), model(images)
    entropy = nn.functional.cross_entropy(logits, labels)
    each = []
    for z, m in zip(maps, masks, strict=True):
        variation = (z[:, 1:] - z[:, :-1]).abs().mean() + (z[:, :, 1:] - z[:, :, :-1]).abs().mean()
        outside = ((~m) * z).sum() / ((~m).sum() + 1e-6) if m.any() else 0.0
        each.append(0.6 * z.abs().mean() + 0.4 * variation + 2.0 * outside)
    explained = sum(each) / 4
    found = task.loss(images, labels, masks)
    expected = [0.3 * entropy + 0.7 * explained, entropy, explained, (logits.argmax(1) == labels).float().mean()]
    torch.testing.assert_close(found, torch.stack([torch.as_tensor(e) for e in expected]))
    history = task.watch(own.train[:4])
    assert list(history) == ["loss", "classification_loss", "explanation_loss", "accuracy"]
    assert history["loss"] == pytest.approx(expected[0].item(), rel=1e-5)
    assert task.test(own.train[:4]).keys() == {"accuracy", "loss", "explanation_loss"}


def test_class_weights_count_in_training_and_not_in_the_figures() -> None:
    torch.manual_seed(0)
    model, own = build().eval(), masked_data()
    weighted = Data(own.train, own.validation, own.test, own.info, torch.tensor([5.0, 1.0, 1.0]))
    plain, other = (objectives.joint.joint(model, d, (), 1.0, 0.9, 0.0, "unsupervised") for d in (own, weighted))
    batch = own.train.images[:7], own.train.labels[:7]
    expected = nn.functional.cross_entropy(model(batch[0]), batch[1], torch.tensor([5.0, 1.0, 1.0]))
    torch.testing.assert_close(other.loss(*batch)[0], expected)
    assert not torch.isclose(plain.loss(*batch)[0], other.loss(*batch)[0])
    assert plain.watch(own.test) == other.watch(own.test)


def test_phases_are_read_from_the_config(settings: Settings) -> None:
    own = settings(
        *SMALL,
        *("trainer.joint.epochs=[1,2,3]", "trainer.joint.lr_classifier=0.1", "trainer.joint.lr_explainer=[0,0.2,0.3]"),
        *("++trainer.joint.optimizer=sgd", "++trainer.joint.stop_patience=[null,4,5]"),
    )
    found = derived.phases(own)
    assert [p.epochs for p in found] == [1, 2, 3] and [p.stop_patience for p in found] == [None, 4, 5]
    assert [p.lr for p in found] == [
        {"classifier": 0.1, "explainer": 0.0},
        {"classifier": 0.1, "explainer": 0.2},
        {"classifier": 0.1, "explainer": 0.3},
    ]
    assert {p.optimizer.name for p in found} == {"sgd"} and own.trainer.own["optimizer"] == "adamw"
    published = derived.phases(settings("model=joint", "dataset=polygons", "trainer=paper"))
    assert [(p.epochs, p.batch_size, p.optimizer.name, p.optimizer.momentum, p.weight_decay) for p in published] == [
        *((10, 8, "sgd", 0.9, 1e-4), (10, 8, "sgd", 0.9, 1e-4), (100, 8, "sgd", 0.9, 1e-4)),
    ]
    assert [p.lr for p in published] == [
        {"classifier": 0.01, "explainer": 0.0},
        {"classifier": 0.0, "explainer": 0.01},
        {"classifier": 0.01, "explainer": 0.01},
    ]
    with pytest.raises(InputError, match="both 0 in phase 2"):
        settings(*SMALL, "trainer.joint.lr_explainer=[0,0,0.1]", "trainer.joint.lr_classifier=[0.1,0,0]")


# --- the stages


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").open()))


def test_train_writes_phases_history_and_pictures(settings: Settings) -> None:
    own = settings(*SMALL, "model.loss=hybrid", "trainer.joint.epochs=[1,2,1]")
    checks.check(own)
    figures = train.main(own)
    folder = Run("train", own).path
    assert folder.name.startswith("classifier=vgg_small,loss=hybrid,alpha=1+0.25+0.9,seed=0-")
    names = {p.name for p in folder.iterdir()}
    assert {f"phase{i}.{suffix}" for i in (1, 2, 3) for suffix in ("pt", "png")} <= names
    assert {"model.pt", "curves.png", "metrics.json", "status.json"} <= names and "last.pt" not in names
    assert set(figures) == {"accuracy", "loss", "explanation_loss", "epochs", "seconds", "images_per_second"}
    history = rows_of(folder)
    assert [(row["phase"], row["epoch"]) for row in history] == [("1", "1"), ("2", "1"), ("2", "2"), ("3", "1")]
    for part in ("train", "val"):
        assert all(f"{part}_{n}" in history[0] for n in ("loss", "classification_loss", "explanation_loss", "accuracy"))
    alphas = [1.0, 0.25, 0.25, 0.9]
    for row, alpha in zip(history, alphas, strict=True):
        value = alpha * float(row["val_classification_loss"]) + (1 - alpha) * float(row["val_explanation_loss"])
        assert float(row["val_loss"]) == pytest.approx(value, rel=1e-5)
    first, second, last = (torch.load(folder / f"phase{i}.pt", weights_only=True) for i in (1, 2, 3))
    model = torch.load(folder / "model.pt", weights_only=True)
    assert not moved(last, model)
    assert {name.split(".")[0] for name in moved(first, second)} == {"explainer"}
    assert {name.split(".")[0] for name in moved(second, last)} == {"explainer", "classifier"}


@pytest.mark.usefixtures("undrawn")
def test_each_phase_ends_with_its_best_epoch(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The validation loss grows from epoch to epoch, so the first epoch of each phase is what the next begins with."""
    own = settings(*SMALL, "trainer.joint.epochs=[2,2,2]")
    starts: list[dict[str, Tensor]] = []
    ends: list[dict[str, Tensor]] = []
    real = loop.fit

    def fit(model: nn.Module, loss: Any, rows: Any, validate: Any, **options: Any) -> Any:
        starts.append(state(model))
        losses, epochs = iter([1.0, 2.0]), []

        def save(saved: dict[str, Any]) -> None:
            epochs.append(copy.deepcopy(saved["model"]))
            options_save(saved)

        options_save = options.pop("save")
        out = real(model, loss, rows, lambda: {**validate(), "loss": next(losses)}, **options, save=save)
        ends.append(epochs[0])
        return out

    monkeypatch.setattr(loop, "fit", fit)
    train.main(own)
    assert len(starts) == 3
    for end, start in zip(ends[:2], starts[1:], strict=True):
        assert not moved(end, start)


def killed(own: resolution.Settings, at: int) -> None:
    """Train until an epoch is begun in which the process dies."""
    real, calls = loop._epoch, 0

    def epoch(*given: Any) -> list[float]:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*given)

    loop._epoch = epoch
    train.main(own)


@pytest.mark.parametrize(("at", "rates"), [(2, "[0,0.01,0.01]"), (4, "[0.05,0,0.01]")])
@pytest.mark.usefixtures("undrawn")
def test_a_run_killed_in_any_phase_ends_as_if_it_had_not_been(
    settings: Settings, tmp_path: Path, at: int, rates: str
) -> None:
    """Also where the explainer is frozen after it has learned, and its maps are made once."""
    words = (*SMALL, "trainer.joint.epochs=[2,2,1]", f"trainer.joint.lr_explainer={rates}")
    words = (*words, "trainer.joint.lr_classifier=[0.01,0.01,0.01]")
    own = settings(*words)
    train.main(own)
    whole = Run("train", own).path
    out = tmp_path / "killed"
    assert ended(started(killed, replace(own, out_dir=str(out)), at)) == -signal.SIGKILL
    train.main(replace(own, out_dir=str(out)))
    (again,) = out.glob("train/polygons/joint/*/")
    for name in ("phase1.pt", "phase2.pt", "phase3.pt", "model.pt"):
        assert (again / name).read_bytes() == (whole / name).read_bytes(), name
    drop = ("seconds", "images_per_second")
    assert [{k: v for k, v in r.items() if k not in drop} for r in rows_of(again)] == [
        {k: v for k, v in r.items() if k not in drop} for r in rows_of(whole)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.loss=hybrid", "dataset=mnist"), "model.loss=hybrid needs a data set with masks"),
        (("alpha=[1,0.5]",), "alpha must be a list of three"),
        (("alpha=0.5",), "alpha must be a list of three"),
        (("alpha=[1,0.5,2]",), "alpha must be a list of three"),
        (("beta=2",), "beta must be a number in [0, 1], got 2"),
        (("gamma=-1",), "gamma must be a number of at least 0, got -1"),
        (("model.gates=[stem.7]",), "no gate 'stem.7'"),
        (("model.gates=[logits]",), "gate logits has no feature maps"),
        (("model.depth=9",), "model.depth must be a whole number from 1 to 8"),
        (("model.depth=7",), "model.depth=7 is too deep for images of 32x32"),
        (("trainer.joint.epochs=[1,2]",), "trainer.joint.epochs must be"),
        (("++trainer.joint.lr=0.1",), "no key 'trainer.joint.lr'"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    settings: Settings, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        checks.check(settings(*(SMALL if "dataset=mnist" not in words else SMALL[:1]), *words))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "beta=0.5"), "beta belongs to model=joint"),
        (("explain", "gamma=0.5"), "gamma belongs to model=joint"),
        (("explain", "dataset=glyphs", "map=fixed"), "map=fixed needs model=joint, but this is model=cladec"),
        (("explain", "dataset=glyphs", "explainer=joint"), "explainer=joint needs model=joint"),
        (("explain", *SMALL, "explainer=cladec"), "explainer=cladec needs model=cladec, but this is model=joint"),
        (("train", *SMALL, "alpha=[1,2]"), "alpha must be a list of three, each a number in [0, 1]"),
    ],
)
def test_mistakes_on_the_command_line(xmnist: Xmnist, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    done = xmnist(*words, unreachable=True)
    assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().split("\n")) == 1
    assert not (tmp_path / "work" / "outputs").exists()


@pytest.mark.parametrize("method", ["lrp", "deep_taylor"])
def test_a_map_of_an_image_whose_size_is_padded_takes_no_relevance(method: str) -> None:
    """The explainer pads what it normalises, which no rule is needed for: relevance does not come through it."""
    torch.manual_seed(0)
    shape = (1, 18, 18)
    model = joint.Joint(helpers.build("vgg_small", shape, 3, dropout=0.5), joint.Explainer(shape, 2, 2, 1.0), None)
    pixels = torch.rand(3, *shape, dtype=torch.float64)
    maps = explainer(method, size=18)(model.double().eval(), pixels, torch.tensor([0, 1, 2]))
    assert maps.isfinite().all() and maps.abs().max() > 0


METHODS = sorted({each.name for each in EXPLAINERS.values() if each.answer == "heatmap"} - {"cam"})


@pytest.mark.parametrize("how", ["recomputed", "fixed"])
def test_explain_draws_the_map_beside_post_hoc_methods(settings: Settings, how: str) -> None:
    words = (*SMALL, f"map={how}", "explainer=[joint,saliency,lrp,gradcam,deeplift]", "explainers.gradcam.layer=conv")
    own = settings(*words, stage="explain")
    explain.check(own)
    explain.main(own, "xmnist explain ...")
    folder = Run("explain", own).path
    with np.load(folder / "explanations.npz") as arrays:
        found = dict(arrays)
    assert found["masks"].shape == (2, 1, 32, 32) and found["masks"].dtype == bool
    maps = found["joint"]
    assert maps.shape == (2, 1, 32, 32) and maps.min() >= 0 and maps.max() <= 1
    model = networks.load_explained(own, data.load(own.dataset, "", 0), torch.device("cpu"))
    assert isinstance(model, joint.Joint)
    images = torch.from_numpy(found["images"])
    np.testing.assert_allclose(maps, model.explainer(images).detach().numpy(), atol=1e-6)
    for place, image in enumerate(images.repeat_interleave(2, 0).split(2)):  # alone, flat colours tie in another way
        image.requires_grad_()
        made = model.explainer(image)
        logits = model.gated(image, made.detach() if how == "fixed" else made)
        (gradient,) = torch.autograd.grad(logits[0, int(found["predictions"][place])], image)
        expected = gradient.abs().amax(1)[0].numpy()
        near = np.isclose(found["saliency"][place, 0], expected, rtol=1e-3, atol=1e-6)
        assert near.mean() > 0.999
    gaps = [float(row["deeplift gap"]) for row in csv.DictReader((folder / "selection.csv").open())]
    assert max(map(abs, gaps)) < 1e-4
    assert json.loads((folder / "status.json").read_text())["state"] == "done"


def test_the_map_is_part_of_what_names_a_run(settings: Settings) -> None:
    ids = {
        Run("explain", settings(*SMALL, "explainer=lrp", f"map={how}", stage="explain")).path.name
        for how in ("fixed", "recomputed")
    }
    assert len(ids) == 2
    trained = {
        Run("train", settings(*SMALL, *words)).path.name
        for words in ((), ("beta=0.5",), ("gamma=3",), ("alpha=[1,0.5,0.9]",), ("trainer.joint.epochs=2",))
    }
    assert len(trained) == 5


# --- post-hoc methods on a joint network


@pytest.mark.parametrize("name", ["cam_net", "vgg_xml", "resnet10"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_explains_a_joint_network_alike_alone_and_in_a_batch(name: str, method: str) -> None:
    torch.manual_seed(0)
    model, images = lively(build(name)), torch.rand(3, 3, 32, 32).double()
    targets = torch.tensor([0, 1, 2])
    own = explainer(method, channels=3, size=32)
    own.check(model, images[:1])
    together = own(model, images, targets)
    assert together.shape == (3, 1, 32, 32)
    for place in range(3):
        alone = own(model, images[place : place + 1], targets[place : place + 1])
        torch.testing.assert_close(alone[0], together[place], rtol=1e-6, atol=1e-9)
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())


@pytest.mark.parametrize("how", ["recomputed", "fixed"])
@pytest.mark.parametrize("name", [*NETWORKS])
def test_deeplift_is_complete_on_gated_networks(name: str, how: str) -> None:
    torch.manual_seed(0)
    model, image = lively(build(name)), torch.rand(1, 3, 32, 32).double()
    network = model if how == "recomputed" else joint.FixedMapClassifier(model, model.explainer(image).detach())
    own, target = explainer("deeplift", channels=3, size=32), torch.tensor([1])
    maps = own(network, image, target)
    gap = own.completeness_gap(network, image, target, maps)
    assert gap is not None and gap.abs().max() < 1e-8
    change = network(image) - network(own.start(image))
    assert maps.sum().item() == pytest.approx(change[0, 1].item(), abs=1e-8)


@pytest.mark.parametrize("name", [*NETWORKS])
def test_unrolled_and_folded_joint_networks_are_the_same_function(name: str) -> None:
    torch.manual_seed(0)
    model, images = lively(build(name)), torch.rand(2, 3, 32, 32).double()
    for rewritten in (unrolled(model), folded(model, images)):
        torch.testing.assert_close(rewritten(images), model(images))


def test_lrp_gives_the_features_all_relevance_at_a_gate() -> None:
    """By hand: the map weighs what is seen, and no relevance goes through the explainer."""
    torch.manual_seed(0)
    linear = nn.Linear(2 * 36, 2, bias=False)
    classifier = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.Flatten(), linear)
    model = joint.Joint(classifier, joint.Explainer((1, 8, 8), 2, 1, 0.5), ["1"]).double().eval()
    images = torch.rand(1, 1, 8, 8).double()
    maps = explainer("lrp", epsilon=0.0)(model, images, torch.tensor([0]))
    assert maps.sum().item() == pytest.approx(model(images)[0, 0].item(), rel=1e-6)
    features = classifier[:2](images)
    gated = features * nn.functional.adaptive_avg_pool2d(model.explainer(images), (6, 6))
    relevance = (gated.flatten(1) * linear.weight[0]).view_as(features)
    weight, low = classifier[0].weight, nn.functional.conv2d(torch.ones_like(images), classifier[0].weight.clamp(max=0))
    z = nn.functional.conv2d(images, weight) - low  # zB with bounds 0 and 1
    ratio = relevance / z
    back = images * nn.functional.conv_transpose2d(ratio, weight)
    back = back - nn.functional.conv_transpose2d(ratio, weight.clamp(max=0))
    torch.testing.assert_close(maps, back, rtol=1e-6, atol=1e-9)


def test_cam_reaches_the_gated_features() -> None:
    torch.manual_seed(0)
    model, images = lively(build("cam_net")), torch.rand(2, 3, 32, 32).double()
    targets = torch.tensor([0, 2])
    seen: list[Tensor] = []
    handle = model.classifier.pool.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    model(images)
    handle.remove()
    coarse = torch.einsum("nkhw,nk->nhw", seen[0], model.classifier.logits.weight[targets])[:, None]
    expected = nn.functional.interpolate(coarse, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explainer("cam", channels=3, size=32)(model, images, targets), expected)
