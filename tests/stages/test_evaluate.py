"""Stage `evaluate` end to end on the built-in data."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import Module

from helpers import TINY
from xmnist import data
from xmnist.cli import main
from xmnist.config import derived, resolution
from xmnist.config.declarations import METRICS, controls
from xmnist.data.base import Data, Info, Split
from xmnist.data.selection import Selection
from xmnist.explainers.controls import Sobel
from xmnist.metrics import axioms
from xmnist.metrics.aopc import Aopc
from xmnist.models import base
from xmnist.models.joint import Explainer as UNet
from xmnist.models.joint import FixedMapClassifier, Joint
from xmnist.models.layers import freeze
from xmnist.plots import figures, grids
from xmnist.reporting import across_seeds
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError, MeasurementError
from xmnist.stages import evaluate, explaining, measures, train
from xmnist.stages.explaining import ConfiguredExplainer, ExplanationContext
from xmnist.training import networks, resuming

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]

FEW = (*TINY, "select.count=6")
QUICK = (*FEW, "metrics.aopc.fill=[black,uniform]", "metrics.aopc.patch=[8,14]")


CLADEC_LINES = ["classifier", "refae", "cladec"]

WITHOUT_AOPC = ("metric=reconstruction", "metric=axioms", "metric=classification", "metric=[classification,pompom]")


@pytest.fixture
def evaluated(settings: Settings, tiny_classifier: Path) -> Callable[..., Run]:
    """`evaluated("metric=aopc", ...)`: the finished run."""

    def run(*overrides: str) -> Run:
        base = FEW if overrides[1] in WITHOUT_AOPC else QUICK
        own = settings(*base, *overrides, stage="evaluate")
        evaluate.check(own)
        if not Path(own.out_dir).exists():
            shutil.copytree(tiny_classifier, own.out_dir)
        evaluate.main(own, "xmnist evaluate ...")
        return Run("evaluate", own)

    return run


Evaluated = Callable[..., Run]


def table(run: Run, name: str) -> pd.DataFrame:
    return pd.read_csv(run.path / f"{name}.csv")


def test_the_command_as_a_user_types_it(xmnist: Xmnist, tmp_path: Path) -> None:
    words = ("evaluate", *QUICK, "explainer=[saliency,cladec]", "metric=[classification,aopc,pompom,localisation]")
    first = xmnist(*words)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    (folder,) = (tmp_path / "work" / "outputs" / "evaluate" / "glyphs" / "classifier").iterdir()
    assert folder.name.startswith("metric=classification+aopc+pompom+localisation,explainer=random+sobel+otsu+saliency")
    common = {"config.yaml", "status.json", "environment.json", "evaluate.log", ".hydra", ".lock"}
    tables = {"classification.csv", "confusion.csv", "classification_curves.csv", "pompom.csv", "localisation.csv"}
    tables |= {"aopc.csv", "aopc_curves.csv", "aopc_table.csv"}
    pictures = {"confusion.png", "classes.png", "roc.png", "precision_recall.png", "aopc.png", "mean_f.png"}
    pictures |= {"pompom.png", "localisation.png"}
    both = {"summary.csv", "summary.md", "aopc_table.md"}
    assert {path.name for path in folder.iterdir()} == common | tables | pictures | both
    assert all(min(Image.open(folder / name).size) > 200 for name in pictures)
    assert "cladec: nothing that these metrics measure" in first.stdout
    assert first.stdout.count("it is trained first") == 1  # no decoder was needed
    assert (folder / "summary.md").read_text() in first.stdout
    assert json.loads((folder / "status.json").read_text())["state"] == "done"

    again = xmnist(*words)
    assert again.returncode == 0 and "already done: " in again.stdout and "measuring" not in again.stdout
    assert (folder / "summary.md").read_text() in again.stdout


@pytest.mark.usefixtures("undrawn")
def test_rows_are_observations_and_the_summary_their_means(evaluated: Evaluated) -> None:
    run = evaluated("explainer=[saliency,gradcam]", "metric=[classification,aopc,pompom,localisation]")
    names = ["random", "sobel", "otsu", "saliency", "gradcam"]
    rows, summary = table(run, "aopc"), table(run, "summary").set_index("name")
    assert len(rows) == 5 * 2 * 2 * 6 and list(dict.fromkeys(rows["explainer"])) == names
    assert list(rows) == ["explainer", "patch", "fill", "image", "aopc", "aopc_lerf", "abpc"]
    assert rows["abpc"].to_numpy() == pytest.approx((rows["aopc"] - rows["aopc_lerf"]).to_numpy(), abs=1e-7)
    assert list(summary.index) == ["classifier", *names] and summary.loc["classifier", "kind"] == "model"
    for name in names:
        row = summary.loc[name]
        assert row["aopc"] == pytest.approx(rows.loc[rows["explainer"] == name, "aopc"].mean(), abs=1e-7)
        assert row["aopc_low"] <= row["aopc"] <= row["aopc_high"]
        assert math.isnan(row["aopc_p"]) == (name == "random")
    pompom = table(run, "pompom").groupby("explainer")["pompom"].mean()
    assert summary.loc["sobel", "pompom"] == pytest.approx(pompom["sobel"], abs=1e-7)
    for score in ("mass", "rank", "pointing"):
        means = table(run, "localisation").groupby("explainer")[score].mean()
        assert summary.loc["otsu", score] == pytest.approx(means["otsu"], abs=1e-7)
    detailed = table(run, "aopc_table")
    assert len(detailed) == 2 * 2 * 5 and set(detailed["fill"]) == {"black", "uniform"}
    part = rows[(rows["patch"] == 8) & (rows["fill"] == "black") & (rows["explainer"] == "gradcam")]
    cell = detailed[(detailed["patch"] == 8) & (detailed["fill"] == "black") & (detailed["explainer"] == "gradcam")]
    assert cell["aopc"].item() == pytest.approx(part["aopc"].mean(), abs=1e-7)
    curves = table(run, "aopc_curves")
    last = curves[(curves["step"] == 16) & (curves["patch"] == 8) & (curves["order"] == "morf")]
    found = last.set_index(["explainer", "fill"])["aopc"]
    assert found["gradcam", "black"] == pytest.approx(part["aopc"].mean(), abs=1e-7)
    assert (curves[curves["step"] == 0].groupby("fill")["f"].nunique() == 1).all()  # x_0 is the image itself
    report = table(run, "classification").set_index("class")
    assert summary.loc["classifier", "accuracy"] == pytest.approx(report.loc["micro", "recall"])
    confusion = table(run, "confusion").set_index("true")
    assert confusion.to_numpy().trace() / 100 == pytest.approx(summary.loc["classifier", "accuracy"])
    np.testing.assert_array_equal(confusion.sum(axis=1), report["support"].iloc[:10])
    drawn = table(run, "classification_curves")
    roc = drawn[(drawn["curve"] == "roc") & (drawn["class"] == "micro")]
    assert np.trapezoid(roc["y"], roc["x"]) == pytest.approx(report.loc["micro", "auc"], abs=1e-6)
    assert roc["area"].unique() == pytest.approx(report.loc["micro", "auc"])


@pytest.mark.usefixtures("undrawn")
def test_controls_can_be_switched_off(evaluated: Evaluated, settings: Settings) -> None:
    run = evaluated("explainer=saliency", "metric=aopc", "controls=false")
    summary = table(run, "summary")
    assert list(summary["name"]) == ["saliency"] and "aopc_p" not in summary
    own = settings(*QUICK, "explainer=[saliency,random]", "metric=aopc", stage="evaluate")
    assert list(own.explainers) == ["random", "sobel", "otsu", "saliency"]


def test_decoders_are_measured_on_all_test_images_and_by_fresh_classifiers(
    evaluated: Evaluated, settings: Settings
) -> None:
    run = evaluated("explainer=[refae,cladec]", "metric=reconstruction", "alpha=[0,0.9]", "layer=conv")
    rows, summary = table(run, "reconstruction"), table(run, "summary").set_index("name")
    names = ["classifier", "refae", "cladec,alpha=0", "cladec,alpha=0.9"]
    assert list(summary.index) == names and len(rows) == 4 * 100
    assert (run.path / "reconstruction.png").is_file() and not (run.path / "aopc.csv").exists()
    for name, words in (("refae", ["model=refae"]), ("cladec,alpha=0.9", ["alpha=0.9"])):
        told = train.main(settings(*TINY, "layer=conv", *words))  # finished
        keys = (
            "reconstruction_sse",
            "reconstruction_mse",
            "classification_loss",
            "accuracy",
            "agreement",
            "total_loss",
        )
        for key in keys:
            assert summary.loc[name, key] == pytest.approx(told[key], rel=1e-4), key
        of = "refae" if name == "refae" else "cladec"
        judge = settings(*TINY, "layer=conv", "model=evaluation", f"model.of={of}", "alpha=0.9")
        assert Run("train", judge).finished()
        assert summary.loc[name, "evaluation_accuracy"] == pytest.approx(train.main(judge)["accuracy"])
    classifier = train.main(settings(*TINY, "model=classifier"))
    assert summary.loc["classifier", "evaluation_accuracy"] == pytest.approx(classifier["accuracy"])
    assert summary.loc["classifier", "reconstruction_sse"] == 0 and summary.loc["classifier", "agreement"] == 1


@pytest.mark.usefixtures("undrawn")
def test_an_evaluation_classifier_learns_from_reconstructions_alone(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Data] = []
    own, fit = settings(*TINY, "model=evaluation", "alpha=0.5"), resuming.fit
    monkeypatch.setattr(resuming, "fit", lambda run, parts, images: seen.append(images) or fit(run, parts, images))
    train.main(own)
    cladec = settings(*TINY, "alpha=0.5")
    images = data.load(own.dataset, own.data_dir, own.seed)
    task = networks.fitted(Run("train", cladec), images, torch.device("cpu"))
    assert task.reconstruct is not None
    for split in ("train", "validation", "test"):
        made = task.reconstruct(getattr(images, split).images)
        torch.testing.assert_close(getattr(seen[-1], split).images, made, rtol=1e-4, atol=1e-5)
        assert torch.equal(getattr(seen[-1], split).labels, getattr(images, split).labels)
    assert derived.training(own) == derived.training(settings(*TINY, "model=classifier"))
    command = json.loads((Run("train", own).path / "status.json").read_text())["command"]
    assert "model=evaluation" in command and "alpha=0.5" in command


@pytest.mark.usefixtures("undrawn")
def test_without_evaluation_accuracy_nothing_is_trained_for_it(evaluated: Evaluated, settings: Settings) -> None:
    run = evaluated("explainer=refae", "metric=reconstruction", "metrics.reconstruction.evaluation_accuracy=false")
    assert "evaluation_accuracy" not in table(run, "summary")
    assert not (Path(settings().out_dir) / "train" / "glyphs" / "evaluation").exists()


def test_axioms(evaluated: Evaluated) -> None:
    methods = "explainer=[integrated_gradients,deeplift,deconvolution,lrp]"
    run = evaluated(methods, "metric=axioms", "metrics.axioms.count=3", "metrics.axioms.pixels=2")
    rows, summary = table(run, "axioms"), table(run, "summary").set_index("name")
    assert list(rows) == ["explainer", "axiom", "layer", "image", "value"]
    assert summary["completeness_gap"].notna().sum() == 2 and summary["conservation_gap"].notna().sum() == 1
    assert summary.loc["deeplift", "completeness_gap"] < 1e-4 > summary.loc["deeplift", "invariance_gap"]
    assert summary.loc["integrated_gradients", "invariance_gap"] < 1e-3
    assert summary.loc["deconvolution", "invariance_gap"] > 0.01
    assert (summary.loc[["random", "sobel", "otsu"], ["reset_rank_correlation", "reset_ssim"]] == 1).all(axis=None)
    assert summary.loc["integrated_gradients", "reset_rank_correlation"] < 0.9
    assert summary.loc["integrated_gradients", "sensitivity_a"] == 1
    reset = rows[rows["axiom"] == "reset_ssim"]
    assert list(dict.fromkeys(reset["layer"])) == ["logits", "dense.0", "conv.0", "stem.0"]
    last = reset[(reset["layer"] == "stem.0") & (reset["explainer"] == "lrp")]
    assert summary.loc["lrp", "reset_ssim"] == pytest.approx(last["value"].mean(), abs=1e-6) and len(last) == 3
    assert (run.path / "randomisation.png").is_file()


def test_sensitivity_is_1_for_maps_that_see_every_pixel_and_0_for_blind_ones(tiny_data: Data) -> None:
    network = freeze(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3)))
    images, targets = tiny_data.test.images[:4], torch.tensor([0, 1, 2, 0])

    class Answer(ConfiguredExplainer):
        def __call__(self, network: Module, images: Tensor, targets: Tensor) -> Tensor:
            return answers[self.name](images)

    answers: dict[str, Callable[[Tensor], Tensor]] = {
        **{"all": torch.clone, "none": torch.zeros_like, "others": lambda images: (images == 0).float()},
    }

    def found(name: str, network: Module, pixels: int = 5) -> Tensor:
        subject = Answer(name, name, None, "predicted")  # type: ignore[arg-type]
        return axioms.sensitivity(network, subject, images, targets, pixels, seed=0)

    assert found("all", network).tolist() == [1.0] * 4 == found("all", network, 1000).tolist()
    assert found("none", network).tolist() == found("others", network).tolist() == [0.0] * 4
    blind = freeze(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 3)))
    torch.nn.init.zeros_(blind[1].weight)  # type: ignore[arg-type]
    assert found("all", blind).isnan().all()


def scene(network: Joint, images: Split, settings: resolution.Settings) -> ExplanationContext:
    everything = Data(images, images, images, Info((1, 28, 28), ("a", "b", "c")))
    return ExplanationContext(settings, everything, network, network(images.images), torch.arange(len(images)))


def test_a_joint_model_keeps_its_map_or_makes_it_anew(settings: Settings, tiny_data: Data) -> None:
    torch.manual_seed(0)
    own = settings(*TINY, stage="evaluate")
    classifier = base.new_classifier(own, Info((1, 28, 28), ("a", "b", "c")))
    network = Joint(classifier, UNet((1, 28, 28), 4, 2, 0.5))
    torch.nn.init.normal_(network.explainer.head[0].weight, std=3.0)  # type: ignore[index, arg-type]
    freeze(network)
    images = tiny_data.test[:3]
    seen = scene(network, images, own)
    maps = torch.rand(3, 1, 28, 28)
    subject = ConfiguredExplainer("some", "some", None, "predicted")  # type: ignore[arg-type]
    metric = Aopc(patch=14, fill="black", steps=2, batch_size=4, precision="fp32")
    rows = metric.measure(measures.context(seen, subject), maps)["aopc"]
    assert sorted(set(rows["map"])) == ["fixed", "recomputed"] and len(rows) == 6
    from xmnist.metrics.aopc import patch_order

    for kind in ("fixed", "recomputed"):
        found = rows.loc[rows["map"] == kind, "aopc"].tolist()
        for n in range(3):
            image, target = images.images[n : n + 1], int(seen.logits[n].argmax())
            one = FixedMapClassifier(network, network.explainer(image)) if kind == "fixed" else network
            values, covered = [one(image).softmax(1)[0, target].item()], image.clone()
            for patch in patch_order(maps, 14, own.seed)[n, :2].tolist():
                y, x = 14 * (patch // 2), 14 * (patch % 2)
                covered[:, :, y : y + 14, x : x + 14] = 0
                values.append(one(covered).softmax(1)[0, target].item())
            assert found[n] == pytest.approx(sum(values[0] - value for value in values) / 3, abs=1e-6)
    assert rows.loc[rows["map"] == "fixed", "aopc"].tolist() != rows.loc[rows["map"] == "recomputed", "aopc"].tolist()


def test_the_least_relevant_patches_first_are_those_of_the_negative_map(settings: Settings, tiny_data: Data) -> None:
    own = settings(*TINY, stage="evaluate")
    classifier = freeze(base.new_classifier(own, Info((1, 28, 28), ("a", "b", "c"))))
    seen = scene(classifier, tiny_data.test[:4], own)  # type: ignore[arg-type]
    maps, subject = torch.rand(4, 1, 28, 28).round(), ConfiguredExplainer("some", "some", None, "predicted")  # type: ignore[arg-type]
    one, other = (
        Aopc(patch=[7], fill=["uniform"], steps=5, batch_size=9, precision="fp32").measure(
            measures.context(seen, subject), sign * maps
        )["aopc"]
        for sign in (1, -1)
    )
    assert one["aopc_lerf"].tolist() == other["aopc"].tolist() != one["aopc"].tolist()


def test_aopc_in_bfloat16_is_nearly_that_in_float32(settings: Settings, tiny_data: Data) -> None:
    own = settings(*TINY, stage="evaluate")
    classifier = freeze(base.new_classifier(own, Info((1, 28, 28), ("a", "b", "c"))))
    seen = scene(classifier, tiny_data.test[:4], own)  # type: ignore[arg-type]
    subject, maps = ConfiguredExplainer("some", "some", None, "predicted"), torch.rand(4, 1, 28, 28)  # type: ignore[arg-type]
    context = measures.context(seen, subject)
    fine, coarse = (
        torch.tensor(
            Aopc(patch=7, fill="black", steps=None, batch_size=9, precision=name)
            .measure(context, maps)["aopc"]["aopc"]
            .to_numpy()
        )
        for name in ("fp32", "bf16")
    )
    assert 0 < (fine - coarse).abs().max() < 2e-2


def test_a_joint_model_is_measured_with_its_own_map_among_others(evaluated: Evaluated) -> None:
    run = evaluated("model=joint", "model.width=4", "explainer=[joint,saliency]", "metric=[aopc,pompom]")
    summary = table(run, "summary").set_index("name")
    assert list(summary.index) == ["random", "sobel", "otsu", "joint", "saliency"]
    assert summary[["aopc", "aopc_recomputed", "aopc_recomputed_p", "pompom"]].loc["joint"].notna().all()
    assert {p.name for p in run.path.glob("*.png")} == {
        *("aopc.png", "mean_f.png", "aopc_recomputed.png", "mean_f_recomputed.png", "pompom.png"),
    }


def test_several_targets_are_told_to_be_a_sweep(evaluated: Evaluated) -> None:
    with pytest.raises(InputError, match="one target at a time; for both: -m target=predicted,label"):
        evaluated("explainer=saliency", "metric=aopc", "target=[predicted,label]")


@pytest.mark.usefixtures("undrawn")
def test_a_joint_models_map_is_measured_for_the_target_like_any_other(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    seen = lambda self, context, maps: asked.append(context.explainer.target) or {}  # noqa: E731
    monkeypatch.setattr(Aopc, "measure", seen)
    evaluated("model=joint", "metric=aopc", "model.width=4", "explainer=[joint,saliency]", "target=label")
    assert asked == ["label"] * 5


@pytest.mark.usefixtures("undrawn")
def test_metrics_of_all_test_images_choose_none(
    settings: Settings, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(Selection, "choose", None)
    evaluated("explainer=refae", "metric=reconstruction", "metrics.reconstruction.evaluation_accuracy=false")
    words = ("explainer=saliency", "metric=classification")
    run = evaluated(*words)
    assert "maps are made" not in caplog.text
    others = settings(*TINY, *words, "select=misclassified", "target=[predicted,label]", stage="evaluate")
    evaluate.check(others)
    assert run.path.name == Run("evaluate", others).path.name and "select" not in run.path.name
    assert table(run, "summary")["accuracy"].notna().all()


@pytest.mark.usefixtures("undrawn")
def test_what_fails_stands_in_its_cell_and_the_others_go_on(
    settings: Settings, evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("explainer=saliency", "metric=[aopc,pompom]")
    with monkeypatch.context() as patched:
        patched.setattr(Sobel, "attribute", lambda self, network, images, targets: images * torch.nan)
        fails = lambda self, context, maps: 1 / (context.explainer.name != "otsu") and {}  # noqa: E731
        patched.setattr(METRICS["pompom"], "measure", fails)
        with pytest.raises(MeasurementError, match=r"aopc of sobel failed: explainer sobel: NaN .* and 2 more"):
            evaluated(*words)
    run = Run("evaluate", settings(*QUICK, *words, stage="evaluate"))
    assert run.status()["state"] == "failed" and "sobel" in run.status()["error"]
    summary = table(run, "summary").set_index("name")
    assert summary.loc["sobel", "aopc"].startswith("failed: explainer sobel: NaN or Inf in the answer for image 1 of 6")
    assert summary.loc["otsu", "pompom"] == "failed: ZeroDivisionError: division by zero"
    assert float(summary.loc["saliency", "aopc"]) and summary.loc["sobel", "pompom"].startswith("failed: ")
    assert "| Sobel" in (run.path / "summary.md").read_text() and "failed: " in (run.path / "summary.md").read_text()
    assert "1 / (context.explainer.name" in (run.path / "evaluate.log").read_text()  # the traceback
    assert evaluated(*words).status()["state"] == "done"  # nothing of the failure is left
    assert "failed" not in (run.path / "summary.csv").read_text()


def test_the_exit_code_says_that_something_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Sobel, "attribute", lambda self, network, images, targets: images * math.nan)
    words = (*FEW, "metric=pompom", "explainer=saliency", f"out_dir={tmp_path}")
    monkeypatch.setattr(sys, "argv", ["xmnist", "evaluate", *words])
    with pytest.raises(SystemExit) as left:
        main.main()
    said = capfd.readouterr()
    line = "xmnist: pompom of sobel failed: explainer sobel: NaN or Inf in the answer for image 1 of 6; "
    assert left.value.code == 1 and said.err.startswith(line) and said.err.count("\n") == 1
    assert "| saliency" in said.out and "failed: explainer sobel" in said.out


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_have_a_summary_of_their_own(
    evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ("explainer=saliency", "metric=[classification,pompom]")
    runs = [evaluated(*words, f"seed={seed}") for seed in (0, 1)]
    evaluated(*words, "seed=0", "select.count=5")  # other images: another table
    (place,) = runs[0].path.parent.glob("*,seeds-*")
    (runs[0].path.parent / "broken,seed=7").mkdir()
    for name in ("config.yaml", "summary.csv"):
        (runs[0].path.parent / "broken,seed=7" / name).write_text("{")
    shutil.rmtree(place)
    monkeypatch.setattr(sys, "argv", ["xmnist", "evaluate", *FEW, *words, f"out_dir={runs[0].settings.out_dir}"])
    main.main()  # finds its run done, and says what all seeds say
    assert "over seeds 0, 1: " in capfd.readouterr().out
    summary, each = pd.read_csv(place / "summary.csv").set_index("name"), [table(run, "summary") for run in runs]
    values = [one.set_index("name").loc["saliency", "pompom"] for one in each]
    assert summary.loc["saliency", "pompom"] == pytest.approx(sum(values) / 2)
    assert summary.loc["saliency", "pompom_sd"] == pytest.approx(abs(values[0] - values[1]) / math.sqrt(2), abs=1e-7)
    assert set(summary["seeds"]) == {"0+1"} and summary.loc["classifier", "kind"] == "model"
    assert "±" in (place / "summary.md").read_text()
    shutil.rmtree(place)
    sources = runs[1].status()
    runs[1].write_status(sources | {"stands_on": dict.fromkeys(sources["stands_on"], "another digest")})
    assert "trained again" in runs[1].stale()
    across_seeds.summarise(runs[0])
    assert not place.exists()
    runs[1].write_status(sources)
    across_seeds.summarise(runs[0])
    shutil.rmtree(place)
    (runs[1].path / "status.json").unlink()  # who knows now what its figures are
    across_seeds.summarise(runs[0])
    assert not place.exists()


@pytest.mark.usefixtures("undrawn")
def test_batches_make_no_other_run_and_metrics_do(settings: Settings) -> None:
    def name(*overrides: str) -> str:
        return Run("evaluate", settings(*TINY, *overrides, stage="evaluate")).path.name

    base = name("metric=aopc")
    assert name("metric=aopc", "metrics.aopc.batch_size=3") == base
    assert name("metric=aopc", "alpha=0.9", "layer=conv") == base  # no decoder is measured
    others = [("metric=pompom",), ("metric=[aopc,pompom]",), ("metric=aopc", "metrics.aopc.steps=3")]
    others += [("metric=aopc", "controls=false"), ("metric=aopc", "seed=1"), ("metric=aopc", "select.count=9")]
    others += [("metric=reconstruction",), ("metric=reconstruction", "alpha=0.9")]
    assert len({base, *(name(*words) for words in others)}) == 1 + len(others)


BAD = [
    (
        ("metrics.aopc.fill=purple",),
        "metrics.aopc.fill must be one of black, white, gray, mean, uniform, gaussian_blur",
    ),
    (("metric=[]",), "metric must name one or more of aopc, axioms, classification"),
    (("select=indices", "select.indices=[]"), "select.indices must be a list of different ones"),
    (("metric=aopc", "explainer=cladec"), "metric=aopc measures maps, but no explainer here gives one: cladec"),
    (
        ("metric=reconstruction", "explainer=lrp"),
        "metric=reconstruction measures decoders: it needs explainer=",
    ),
    (("model=evaluation", "alpha=null", "metric=aopc"), "alpha must be"),
    (("dataset=mnist", "metric=pompom"), "metric=pompom needs a data set with ground truth, which mnist has not"),
    (("dataset=cifar10", "metric=localisation"), "metric=localisation needs a data set with ground truth"),
    (("metrics.aopc.patch=29",), "metrics.aopc.patch=29 is larger than the image: at most 28"),
    (("metrics.aopc.patch=[4,40]",), "metrics.aopc.patch=40 is larger than the image"),
    (("metric=aopc", "explainer=cam"), "explainer cam: "),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_mistakes_are_found_before_anything_is_written(
    settings: Settings, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        evaluate.check(settings("dataset=glyphs", *words, stage="evaluate"))
    assert not Path(settings().out_dir).exists()


TYPED = [
    (("dataset=mnist", "metric=pompom"), "metric=pompom needs a data set with ground truth, which mnist has not"),
    (("metrics.aopc.stepz=3",), "no key 'metrics.aopc.stepz'; did you mean 'metrics.aopc.steps'?"),
    (("metric=aocp",), "no metric 'aocp'; did you mean 'aopc'?"),
    (("layout=rows",), "layout belongs to xmnist explain, not to xmnist evaluate"),
]


@pytest.mark.parametrize(("words", "message"), TYPED)
def test_mistakes_are_told_in_one_line(xmnist: Xmnist, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    result = xmnist("evaluate", *(() if words[0].startswith("dataset") else ("dataset=glyphs",)), *words)
    assert result.returncode == 2, result
    assert result.stderr.startswith(f"xmnist: {message}"), result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""
    assert not list((tmp_path / "work").rglob("*.json"))


def test_help_names_the_metrics_and_their_keys(xmnist: Xmnist) -> None:
    result = xmnist("evaluate", "--help")
    assert result.returncode == 0
    for word in ("metric=NAME", "pompom", "metrics.aopc.patch", "select=sample", "controls", "explainers.lrp.gamma"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("experiment", "metrics"),
    [
        ("cladec_table", ["reconstruction"]),
        ("aopc_table", ["classification", "aopc", "axioms"]),
        ("aopc_table_joint", ["classification", "aopc", "pompom", "localisation", "axioms"]),
        ("nine_or_four", ["classification"]),
    ],
)
def test_experiments_say_what_is_measured(settings: Settings, experiment: str, metrics: list[str]) -> None:
    own = settings(f"+experiment={experiment}", stage="evaluate")
    assert list(own.metrics) == metrics
    if experiment == "cladec_table":
        assert derived.alphas(own) == [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.99, 0.999, 0.9999, 1]
        assert len(derived.needed(own)) == 1 + 11 + 11
    for stage in ("train", "explain"):  # they serve the other stages too
        assert not hasattr(settings(f"+experiment={experiment}", stage=stage), "metrics")


@pytest.mark.usefixtures("undrawn")
def test_nothing_is_selected(settings: Settings) -> None:
    words = ("dataset.train=300", "metric=aopc", "explainer=sobel", "select=confusion", "select.true=3")
    own = settings(*QUICK, *words, stage="evaluate")
    own = replace(own, select=replace(own.select, predicted=8))
    with pytest.raises(InputError, match=re.escape("select=confusion: there is no such test image")):
        explaining.scene(own)


def test_a_ladder_of_layers(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row, a point and a picture for each layer and decoder, from the image on."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(grids, "grid", lambda rows, *_, **__: drawn.update(rows=rows))
    monkeypatch.setattr(figures, "lines", lambda panels, *_: drawn.update(panels=panels))
    small = ("trainer.epochs=1", "metrics.reconstruction.evaluation_accuracy=false", "layer=[conv,dense]")
    run = evaluated("explainer=[refae,cladec,difference]", "metric=reconstruction", *small)
    names = [f"{name},layer={layer}" for layer in ("conv", "dense") for name in ("refae", "cladec")]
    summary = table(run, "summary").set_index("name")
    assert list(summary.index) == ["classifier", *names]
    titles = [row.name.split("\n")[:2] for row in drawn["rows"]]
    assert titles[1:4] == [[name, "layer conv"] for name in ("RefAE", "ClaDec", "RefAE − ClaDec")]
    assert titles[4:] == [[name, "layer dense"] for name in ("RefAE", "ClaDec", "RefAE − ClaDec")]
    first = drawn["panels"][0][0]
    assert first.ticks == ["conv", "dense"] and [series.name for series in first.series] == CLADEC_LINES
    for series in first.series[1:]:
        expected = [summary.loc[f"{series.name},layer={layer}", "reconstruction_sse"] for layer in ("conv", "dense")]
        assert list(series.x) == [0, 1] and list(series.y) == pytest.approx(expected)


@pytest.mark.usefixtures("undrawn")
def test_differences_of_several_layers_and_alphas_are_in_every_table(evaluated: Evaluated) -> None:
    small = ("metrics.aopc.patch=14", "metrics.aopc.fill=black", "trainer.epochs=1")
    words = ("metric=aopc", *small, "layer=[dense,conv]", "alpha=[0,0.5]")
    run = evaluated("explainer=difference", *words)
    names = [f"difference,layer={layer},alpha={alpha}" for layer in ("conv", "dense") for alpha in ("0", "0.5")]
    summary = table(run, "summary").set_index("name")
    assert [name for name in summary.index if name not in controls()] == names
    assert summary.loc[names, "aopc"].notna().all()
    assert all(name in (run.path / "aopc_table.md").read_text() for name in names)


def test_chosen_images_without_an_object_are_told(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(8):
            path = tmp_path / "data" / label / f"{number}.png"
            Image.fromarray(generator.integers(0, 255, (28, 28), dtype=np.uint8)).save(path)
            mask = np.zeros((28, 28), dtype=np.uint8)
            mask[5:9, 5:9] = 255 if number % 2 and label == "a" else 0
            Image.fromarray(mask).save(path.with_name(f"{number}_mask.png"))
    words = (
        "trainer=smoke",
        "dataset=folder",
        f"dataset.path={tmp_path / 'data'}",
        "dataset.size=28",
        "dataset.channels=1",
    )
    words = (*words, "dataset.test=0.5", "metric=[localisation,pompom]", "explainer=sobel", "controls=false")
    evaluate.main(settings(*words, "select=sample", "select.count=8", stage="evaluate"), "xmnist evaluate ...")
    assert "of 8 chosen images have no pixel of an object: localisation leaves them out" in caplog.text
    alone = settings(*words, "select=mixed", "select.label=b", "select.correct=4", "select.wrong=4", stage="evaluate")
    with pytest.raises(InputError, match="none of the 4 chosen images has a pixel of an object at 28x28 pixels"):
        evaluate.main(alone, "xmnist evaluate ...")
    assert not (Run("evaluate", alone).path / "status.json").exists()
