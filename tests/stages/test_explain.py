"""Stage `explain` end to end on the built-in data."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import TINY
from xmnist import data
from xmnist.config import chosen, derived, resolution
from xmnist.config.declarations import EXPLAINERS
from xmnist.explainers import gradients
from xmnist.plots import grids
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError, MeasurementError
from xmnist.stages import explain, train
from xmnist.training import networks, results

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {
    *("config.yaml", "status.json", "environment.json", "explain.log", "grid.png", "explanations.npz"),
    *("selection.csv", ".hydra", ".lock"),
}


@pytest.fixture
def explained(settings: Settings, tiny_classifier: Path) -> Callable[..., tuple[Path, dict[str, Any]]]:
    """`explained("explainer=lrp", ...)`: the folder of the finished run, and its arrays."""

    def run(*overrides: str) -> tuple[Path, dict[str, Any]]:
        own = settings(*TINY, *overrides, stage="explain")
        explain.check(own)
        if not Path(own.out_dir).exists():
            shutil.copytree(tiny_classifier, own.out_dir)
        explain.main(own, "xmnist explain ...")
        folder = Run("explain", own).path
        with np.load(folder / "explanations.npz") as arrays:
            return folder, dict(arrays)

    return run


Explained = Callable[..., tuple[Path, dict[str, Any]]]


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "selection.csv").open()))


def test_the_command_as_a_user_types_it(xmnist: Xmnist, tmp_path: Path) -> None:
    words = ("explain", *TINY, "select=per_class")
    first = xmnist(*words)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    out = tmp_path / "work" / "outputs"
    (folder,) = (out / "explain" / "glyphs" / "cladec").iterdir()
    assert folder.name.startswith("explainer=saliency..difference(7),select=per_class,layer=dense,alpha=0.25,seed=0-")
    assert {p.name for p in folder.iterdir()} == FILES
    assert "3 networks that this needs are not there yet" in first.stdout and "picture: " in first.stdout
    assert first.stdout.index("cladec") < first.stdout.index("explaining 10 test images")
    status = json.loads((folder / "status.json").read_text())
    checksummed = {"explanations.npz", "grid.png", "selection.csv", "environment.json"}
    assert status["state"] == "done" and status["files"].keys() == checksummed
    assert {p.name for p in (out / "train" / "glyphs").iterdir()} == {"classifier", "cladec", "refae"}
    assert min(Image.open(folder / "grid.png").size) > 600
    with np.load(folder / "explanations.npz") as arrays:
        names = ["images", "predictions", "indices", "probabilities", "labels", "masks"]
        methods = ["saliency", "integrated_gradients", "gradcam", "lrp", "refae", "cladec", "difference"]
        assert list(arrays) == [*names, *methods, "classes"]
        assert all(arrays[name].shape == (10, 1, 28, 28) for name in ("images", *methods))
        assert arrays["labels"].tolist() == list(range(10))
        np.testing.assert_allclose(arrays["difference"], arrays["refae"] - arrays["cladec"], atol=1e-6)
    rows = table(folder)
    assert [row["label"] for row in rows] == [str(i) for i in range(10)]
    assert all(row["class"] == row["label"] and abs(float(row["integrated_gradients gap"])) < 1 for row in rows)
    assert first.stdout.count("completeness gap at most") == 1
    assert all(row[f"{name} predicted_class"] in map(str, range(10)) for row in rows for name in ("refae", "cladec"))
    assert "lrp predicted_class" not in rows[0]

    again = xmnist(*words)
    assert again.returncode == 0 and "already done: " in again.stdout and "explaining" not in again.stdout
    forced = xmnist(*words, "force=true")
    assert "explaining 10 test images" in forced.stdout and "trained first" not in forced.stdout
    classifier = next((out / "train" / "glyphs" / "classifier").iterdir())
    repeated = xmnist(*json.loads((classifier / "status.json").read_text())["command"].split()[1:])
    assert f"already done: {classifier.relative_to(tmp_path / 'work')}" in repeated.stdout


@pytest.mark.usefixtures("undrawn")
def test_the_arrays_are_what_the_explainers_say(settings: Settings, explained: Explained) -> None:
    folder, arrays = explained("explainer=[saliency,lrp]", "select=misclassified", "select.count=3")
    own = settings(*TINY, "model=classifier")
    images = data.load(own.dataset, own.data_dir, own.seed)
    classifier = networks.load_explained(own, images, torch.device("cpu"))
    shown = images.test[torch.from_numpy(arrays["indices"])]
    np.testing.assert_array_equal(arrays["images"], shown.images)
    np.testing.assert_array_equal(arrays["labels"], shown.labels)
    predicted = classifier(shown.images).argmax(1)
    np.testing.assert_array_equal(arrays["predictions"], predicted)
    assert (arrays["labels"] != arrays["predictions"]).all() and len(arrays["labels"]) == 3
    saliency = gradients.Saliency(train=images.train.images, batch_size=2, translations=0)
    maps = saliency(classifier, shown.images, predicted)
    np.testing.assert_allclose(arrays["saliency"], maps, rtol=1e-4, atol=1e-6)
    assert folder.parent.name == "classifier"  # nothing was explained that needs a decoder
    assert not (folder.parents[3] / "train" / "glyphs" / "cladec").exists()
    sure = classifier(shown.images).softmax(1).max(1).values
    np.testing.assert_allclose([float(row["probability"]) for row in table(folder)], sure.detach(), atol=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_every_alpha_has_a_row_and_an_array(settings: Settings, explained: Explained) -> None:
    train.main(settings(*TINY, "alpha=0.5"))
    trained = list((Path(settings().out_dir) / "train" / "glyphs" / "cladec").iterdir())
    stamp = (trained[0] / "model.pt").stat().st_mtime_ns
    _, arrays = explained("explainer=[refae,cladec]", "alpha=[0,0.5]", "select=indices", "select.indices=[5,2]")
    assert [n for n in arrays if "ae" in n or "dec" in n] == ["refae", "cladec,alpha=0", "cladec,alpha=0.5"]
    assert (trained[0] / "model.pt").stat().st_mtime_ns == stamp  # it was there
    assert arrays["indices"].tolist() == [5, 2]
    own = settings(*TINY, "alpha=0.5")
    images = data.load(own.dataset, own.data_dir, own.seed)
    task = networks.fitted(Run("train", own), images, torch.device("cpu"))
    assert task.reconstruct is not None
    np.testing.assert_allclose(arrays["cladec,alpha=0.5"], task.reconstruct(images.test.images[[5, 2]]), atol=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_the_target_is_the_predicted_or_the_true_class(explained: Explained) -> None:
    common = ("explainer=[saliency,integrated_gradients]", "select=misclassified", "select.count=2")
    predicted, label, both = (
        explained(*common, f"target={target}")[1] for target in ("predicted", "label", "[predicted,label]")
    )
    assert not np.allclose(predicted["saliency"], label["saliency"])
    for target, single in (("predicted", predicted), ("label", label)):
        for name in ("saliency", "integrated_gradients"):
            np.testing.assert_allclose(both[f"{name},target={target}"], single[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("name", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_pictures_for_screens_and_papers(explained: Explained, name: str, magic: bytes) -> None:
    folder, _ = explained("explainer=sobel", f"format={name}")
    assert (folder / f"grid.{name}").read_bytes().startswith(magic)
    assert len(list(folder.glob("grid.*"))) == 1


def test_reconstructions_and_maps_are_drawn_as_what_they_are(
    explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("xmnist.plots.grids.grid", lambda *args, **_: drawn.extend(args))
    explained("explainer=[activation_maximisation,simple_taylor,gradcam,cladec]", "select=mixed", "select.wrong=2")
    rows, truth, title, _ = drawn[-7:-3]  # the training of ClaDec has drawn its own before
    assert [row.name for row in rows] == [
        *("original", "ground truth", "activation maximisation", "simple Taylor", "Grad-CAM", "ClaDec\nalpha 0.25")
    ]
    assert [row.kind for row in rows] == ["image", "mask", "image", "heatmap", "heatmap", "image"]
    assert [row.predicted is None for row in rows] == [False, True, False, True, True, False]
    assert all(len(row.pictures) == len(truth) for row in rows)
    assert title == "layer dense of vgg_small on glyphs, seed 0; target class: predicted"


def test_a_picture_of_many_images_shows_some(
    explained: Explained, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("xmnist.plots.grids.grid", lambda *args, **_: drawn.extend(args))
    with caplog.at_level("INFO"):
        _, arrays = explained("explainer=otsu", "select.count=4", "dataset.train=300")
    assert len(arrays["otsu"]) == 40 and len(drawn[0][1].pictures) == len(drawn[1]) == explain.SHOWN
    assert "the picture shows the first 24 of 40 images; explanations.npz has all" in caplog.messages


@pytest.mark.slow
def test_all_heatmap_explainers_from_one_command(settings: Settings) -> None:
    short = ("dataset=glyphs", "dataset.train=300", "dataset.test=100", "trainer=smoke")
    own = settings("+experiment=heatmaps", *short, stage="explain")
    explain.main(own, "xmnist explain ...")
    arrays = dict(np.load(Run("explain", own).path / "explanations.npz"))
    maps = {name: array for name, array in arrays.items() if name not in chosen.RESERVED}
    posthoc = {each.name for each in EXPLAINERS.values() if each.answer == "heatmap"}
    assert set(maps) == posthoc | {"simple_taylor"}
    assert all(array.shape == (8, 1, 28, 28) and np.isfinite(array).all() for array in maps.values())
    np.testing.assert_array_equal(maps["simple_taylor"], maps["input_x_gradient"])
    different = {array.tobytes() for array in maps.values()}
    assert len(different) == len(maps) - 1


@pytest.mark.usefixtures("undrawn")
def test_resnet18_can_be_trained_and_explained(explained: Explained) -> None:
    _, arrays = explained(
        *("classifier=resnet18", "explainer=[cam,lrp,deeplift]", "select.count=1", "dataset.train=200"),
        *("trainer.epochs=1", "dataset.test=20"),
    )
    assert all(np.isfinite(arrays[name]).all() and arrays[name].any() for name in ("cam", "lrp", "deeplift"))


def test_what_is_missing_may_be_asked_for_instead_of_trained(xmnist: Xmnist) -> None:
    words = (*TINY, "explainer=[saliency,cladec]", "train_missing=false")
    refused = xmnist("explain", *words)
    assert refused.returncode == 2 and refused.stdout == ""
    message = "the classifier that this needs is not there and train_missing=false; it would be trained by: "
    assert refused.stderr.startswith(f"xmnist: {message}xmnist train dataset=glyphs ")
    made = xmnist(*refused.stderr.split("by: xmnist ")[1].split())
    assert made.returncode == 0
    refused = xmnist("explain", *words)
    assert "the ClaDec that this needs is not there" in refused.stderr
    assert "alpha" not in refused.stderr.split("by: xmnist ")[1]  # 0.25 is the default


BAD = [
    (("explainer=cam",), "explainer cam: it needs a classifier that ends in global average pooling"),
    (("explainer=lpr",), "no explainer 'lpr'; did you mean 'lrp'"),
    (("select=mxied",), "no select 'mxied'; did you mean 'mixed'"),
    (("explainer=cladec", "model=classifier"), "explainer=cladec needs model=cladec, but this is model=classifier"),
    (("explainer=[refae,cladec]", "model=refae"), "explainer=cladec needs model=cladec, but this is model=refae"),
    (("select=indices", "select.indices=3"), "select.indices must be a list of different ones, each a whole number"),
    (("explainers.lrp.gama=1",), "no key 'explainers.lrp.gama'; did you mean 'explainers.lrp.gamma'"),
    (("explainers.lrp.gamma=-1",), "explainers.lrp.gamma must be a number of at least 0, got -1"),
    (("explainer=occlusion", "explainers.occlusion.widnow=7"), "no key 'explainers.occlusion.widnow'; did you mean "),
    (("explainer=[otsu,smoothgrad]", "explainers.smoothgrad.smples=3"), "no key 'explainers.smoothgrad.smples'; did"),
    (
        ("explainer.lrp.gamma=1",),
        "no key 'explainer.lrp.gamma'; did you mean 'explainers'? (keys: image, layout, overlay, ",
    ),
    (("+explainers.foo.steps=3",), "explainers.foo.name is missing: it must be one of cam, gradcam"),
    (("+explainers.images.name=otsu",), "an explainer cannot be called 'images'"),
    (("target=dog",), "target must be one of predicted, label"),
    (("format=jpg",), "format must be one of png, pdf, svg, or a list of different ones, got 'jpg'"),
    (("explainer=[]",), "explainer must name one or more of cam, gradcam"),
    (("alpha=2",), "alpha must be a number in [0, 1]"),
]

FOUND_OUT_BY_THE_CLASSIFIER = [
    (("explainer=gradcam", "explainers.gradcam.layer=cnov"), "explainer gradcam: no layer 'cnov'; did you mean 'conv'"),
    (("explainer=gradcam", "explainers.gradcam.layer=dense"), "explainer gradcam: layer dense has no feature maps"),
    (("layer=desne",), "no layer 'desne'; did you mean 'dense'"),
    (("select=confusion", "select.true=11"), "no class '11'"),
    (("explainer=occlusion", "explainers.occlusion.stride=7"), "explainer occlusion: stride 7 is more than window 5"),
    (("select=confusion", "select.predicted=4"), "select=confusion needs two classes"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_mistakes_are_told_in_one_line_before_anything_is_written(
    xmnist: Xmnist, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = xmnist("explain", "dataset=glyphs", *words)
    assert result.returncode == 2, result
    assert result.stderr.startswith(f"xmnist: {message}"), result.stderr
    assert result.stderr.count("\n") == 1 and result.stdout == ""
    assert not list((tmp_path / "work").rglob("*.json"))


def test_a_class_that_does_not_exist_is_named(settings: Settings) -> None:
    with pytest.raises(InputError, match=re.escape("no class 'Sneaker' (by name, or by number from 0 to 9: 0, 1, ")):
        settings("dataset=glyphs", "select=mixed", "select.label=Sneaker", stage="explain")


@pytest.mark.parametrize(("words", "message"), FOUND_OUT_BY_THE_CLASSIFIER)
def test_mistakes_that_only_the_classifier_shows_are_found_before_it_is_trained(
    settings: Settings, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        explain.check(settings("dataset=glyphs", *words, stage="explain"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "word", ["explainer=lrp", "explainers.lrp.gamma=1", "select=mixed", "target=label", "layout=rows", "image=five.png"]
)
def test_words_of_another_stage_are_refused(xmnist: Xmnist, word: str) -> None:
    result = xmnist("train", *TINY, word)
    assert result.returncode == 2
    key = word.split("=")[0].split(".")[0]
    also = "" if key in ("layout", "image") else " and xmnist evaluate"
    assert result.stderr == f"xmnist: {key} belongs to xmnist explain{also}, not to xmnist train\n"


def test_an_own_explainer_without_its_place_is_told_what_is_missing(xmnist: Xmnist, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "explainer"
    own.mkdir(parents=True)
    (own / "white.yaml").write_text("name: saliency\nbatch_size: 9\ntranslations: 0\n")
    result = xmnist("explain", *TINY, "explainer=white", "--config-dir", str(tmp_path / "mine"))
    assert result.returncode == 2
    assert result.stderr == "xmnist: a file of group explainer must begin with the line # @package explainers.NAME\n"


def test_a_picture_that_was_deleted_is_drawn_again(explained: Explained) -> None:
    folder, _ = explained("explainer=otsu")
    (folder / "grid.png").unlink()
    explained("explainer=otsu")
    assert (folder / "grid.png").is_file()


def test_the_published_settings_of_the_two_studies(settings: Settings) -> None:
    montavon, intel = (settings(f"+experiment={name}", stage="explain") for name in ("montavon", "nine_or_four"))
    common = {"optimizer": "adam", "lr": 0.001, "eps": 1e-8, "batch_size": 4, "epochs": 10, "schedule": "constant"}
    assert {k: derived.training(montavon)[k] for k in common} == common
    assert montavon.classifier.plain() == {"name": "lenet_avgpool", "dropout": 0.25, "nonpositive_bias": True}
    assert montavon.explainers["lrp_shifted"].translations == 2
    common = {"optimizer": "sgd", "lr": 0.01, "momentum": 0.5, "batch_size": 128, "epochs": 1, "weight_decay": 0.0}
    assert {k: derived.training(intel)[k] for k in common} == common
    assert intel.select.plain() == {"name": "confusion", "true": 4, "predicted": 9, "count": 6}
    assert {e.background_size for e in intel.explainers.values()} == {100}


def test_no_such_image_is_an_error_that_leaves_no_run(settings: Settings, explained: Explained) -> None:
    own = settings(*TINY, "explainer=sobel", "select=indices", "select.indices=[100]", stage="explain")
    with pytest.raises(InputError, match=r"select.indices: there is no test image 100 \(they run from 0 to 99\)"):
        explain.main(own, "xmnist explain ...")
    assert not Path(settings().out_dir).exists()  # nothing was trained for it either
    with pytest.raises(
        InputError, match=r"select=confusion: there is no such test image \(true class 3, predicted class 8\)"
    ):
        explained("explainer=sobel", "select=confusion", "select.true=3", "select.predicted=8", "dataset.train=300")
    assert not (Path(settings().out_dir) / "explain").exists()


def test_what_fails_leaves_the_other_explanations_and_no_finished_run(
    settings: Settings, explained: Explained, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xmnist.explainers.gradients import Saliency

    monkeypatch.setattr(Saliency, "attribute", lambda self, network, images, targets: images * torch.nan)
    with pytest.raises(MeasurementError, match="saliency failed: .*NaN or Inf in the answer for image 1 of 10; .*oth"):
        explained("explainer=[saliency,sobel]")
    run = Run("explain", settings(*TINY, "explainer=[saliency,sobel]", stage="explain"))
    assert not run.finished() and run.status()["state"] == "failed" and (run.path / "grid.png").is_file()
    with np.load(run.path / "explanations.npz") as arrays:
        assert "sobel" in arrays and "saliency" not in arrays
    with pytest.raises(InputError, match="explainer saliency: NaN or Inf"):
        explained("explainer=[saliency]")  # nothing is left


def test_own_explainers_and_two_settings_of_one_method(xmnist: Xmnist, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "explainer"
    own.mkdir(parents=True)
    (own / "white.yaml").write_text(
        "# @package explainers.white\nname: integrated_gradients\nbaseline: white\nsteps: 5\nbatch_size: 9\n"
        "translations: 0\n"
    )
    words = ("explain", *TINY, "explainer=[integrated_gradients,white]", "--config-dir", str(tmp_path / "mine"))
    result = xmnist(*words)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "work" / "outputs" / "explain" / "glyphs" / "classifier").iterdir()
    assert json.loads((folder / "status.json").read_text())["command"].endswith(f"--config-dir {tmp_path / 'mine'}")
    with np.load(folder / "explanations.npz") as arrays:
        assert not np.allclose(arrays["white"], arrays["integrated_gradients"])


def test_batches_make_no_other_run_and_order_does(settings: Settings) -> None:
    def name(*overrides: str) -> str:
        return Run("explain", settings(*TINY, *overrides, stage="explain")).path.name

    base = name("explainer=[lrp,sobel]")
    assert name("explainer=[lrp,sobel]", "explainers.lrp.batch_size=3") == base
    others = [
        *(("explainer=[sobel,lrp]",), ("explainer=[lrp,sobel]", "explainers.lrp.gamma=1")),
        *(("explainer=[lrp,sobel]", "target=label"), ("explainer=[lrp,sobel]", "format=svg")),
        *(("explainer=[lrp,sobel]", "select.count=2"), ("explainer=[lrp,sobel]", "classifier=cam_net")),
    ]
    assert len({base, *(name(*words) for words in others)}) == 1 + len(others)
    assert name("explainer=[lrp,sobel]", "alpha=0.9", "layer=conv") == base  # no ClaDec, so no part in it
    assert name("explainer=[lrp,sobel]", "target=[predicted]") == base
    assert name("explainer=refae", "alpha=0.9") == name("explainer=refae", "model=refae")


def test_help_names_the_explainers_and_their_keys(xmnist: Xmnist) -> None:
    result = xmnist("explain", "--help")
    assert result.returncode == 0
    for word in ("explainer=NAME", "deep_shap", "explainers.lrp.gamma", "select.count", "target", "format"):
        assert word in result.stdout


def test_several_layers_and_part_of_one(explained: Explained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of one layer stand together; half of its units make another picture than all of them."""
    drawn: list[list[grids.Row]] = []
    monkeypatch.setattr(grids, "grid", lambda rows, *_, **__: drawn.append(rows))
    monkeypatch.setattr(results, "draw_examples", lambda *_: None)
    words = ("explainer=[cladec,difference,saliency]", "layer=[logits,conv]", "trainer.epochs=1")
    folder, both = explained(*words, "alpha=[0,0.5]")
    variants = [f"layer={layer},alpha={alpha}" for layer in ("conv", "logits") for alpha in ("0", "0.5")]
    names = [f"{name},{each}" for name in ("cladec", "difference") for each in variants]
    in_order = ["saliency", *(name for layer in ("conv", "logits") for name in names if f"layer={layer}," in name)]
    assert list(both)[6:-1] == in_order and "layer=conv+logits,alpha=0+0.5" in folder.name
    titles = [row.name.split("\n") for row in drawn[0]]
    assert titles[3:5] == [["ClaDec", "layer conv", "alpha 0"], ["ClaDec", "layer conv", "alpha 0.5"]]
    assert titles[5] == ["RefAE − ClaDec", "layer conv", "alpha 0"]
    alone = explained("explainer=cladec", "layer=conv", "alpha=0.5", "trainer.epochs=1")[1]["cladec"]
    np.testing.assert_array_equal(both["cladec,layer=conv,alpha=0.5"], alone)
    part = explained("explainer=cladec", "layer=conv", "alpha=0.5", "trainer.epochs=1", "neurons=0.5")[1]["cladec"]
    assert np.abs(part - alone).max() > 0.01
