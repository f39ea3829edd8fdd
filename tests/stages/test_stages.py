"""Whole commands on the built-in data: what lands on disk, reuse, resuming, refusals."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers import TINY, build, ended, started, type_, typed
from xmnist import data
from xmnist.config import resolution
from xmnist.config.derived import explained
from xmnist.data.base import Data
from xmnist.plots import pictures
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import missing, train
from xmnist.training import networks, resuming
from xmnist.training.loop import NotFiniteError

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]

FILES = {
    *("config.yaml", "status.json", "environment.json", "train.log", "history.csv", "metrics.json", "model.pt"),
    *("curves.png", "model.txt", "data.json", ".hydra", ".lock"),
}


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def read(path: Path) -> Any:
    return json.loads(path.read_text())


CHECKSUMMED = {"model.pt", "metrics.json", "history.csv", "environment.json", "data.json"}


def test_the_main_job_as_a_user_types_it(xmnist: Xmnist, tmp_path: Path) -> None:
    words = ("train", *TINY, "model=cladec", "layer=dense", "alpha=0.25")
    first = xmnist(*words, fresh=True)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    out = tmp_path / "work" / "outputs" / "train" / "glyphs"
    run, classifier = only(out, "cladec/layer=dense,alpha=0.25,seed=0-*"), only(out, "classifier/*")
    assert {p.name for p in run.iterdir()} == FILES | {"examples.png"}
    assert {p.name for p in classifier.iterdir()} == FILES
    assert "examples.png\n  beside it: curves.png" in first.stdout
    assert "it is trained first" in first.stdout and str(run.relative_to(tmp_path / "work")) in first.stdout
    for folder, figures in (
        (classifier, {"accuracy", "loss"}),
        (
            run,
            {"reconstruction_sse", "reconstruction_mse", "classification_loss", "total_loss", "accuracy", "agreement"},
        ),
    ):
        metrics, status = read(folder / "metrics.json"), read(folder / "status.json")
        assert set(metrics) == figures | {"epochs", "seconds", "images_per_second"}
        assert status["state"] == "done" and status["files"].keys() == CHECKSUMMED
        environment = read(folder / "environment.json")
        assert {"versions", "device", "threads", "seed", "commit"} <= environment.keys()
        assert environment["precision"] == "fp32"
        about = read(folder / "data.json")
        assert about["shape"] == [1, 28, 28] and about["classes"] == [*map(str, range(10))] and about["masks"]
        splits = {name: sum(counts) for name, counts in about["images"].items()}
        assert splits == {"train": 190, "validation": 10, "test": 100}
        rows = list(csv.DictReader((folder / "history.csv").open()))
        assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[-1]["val_loss"]) > 0
        for picture in folder.glob("*.png"):
            assert min(Image.open(picture).size) > 200
    metrics = read(run / "metrics.json")
    assert metrics["reconstruction_sse"] == pytest.approx(784 * metrics["reconstruction_mse"], rel=1e-5)
    assert metrics["total_loss"] == pytest.approx(
        0.75 * metrics["reconstruction_sse"] + 0.25 * metrics["classification_loss"], rel=1e-6
    )
    weights, stamp = (run / "model.pt").read_bytes(), (run / "status.json").stat().st_mtime_ns

    again = xmnist(*words)
    assert again.returncode == 0 and "already done" in again.stdout and "epoch 1/" not in again.stdout
    assert (run / "model.pt").read_bytes() == weights and (run / "status.json").stat().st_mtime_ns == stamp

    forced = xmnist(*words, "force=true")
    assert forced.returncode == 0 and "epoch 2/2" in forced.stdout
    assert forced.stdout.count("epoch 1/2") == 1  # the classifier stays
    assert (run / "model.pt").read_bytes() == weights  # same seed, same weights

    repeated = xmnist(*read(run / "status.json")["command"].split()[1:])
    assert "already done: " + str(run.relative_to(tmp_path / "work")) in repeated.stdout


def loaded(settings: resolution.Settings) -> Data:
    return data.load(settings.dataset, settings.data_dir, settings.seed)


@pytest.mark.usefixtures("undrawn")
def test_the_saved_weights_give_the_reported_figures(settings: Settings) -> None:
    own = settings(*TINY, "model=classifier")
    reported = train.main(own)
    whole = loaded(own)
    model = build(shape=(1, 28, 28), classes=10, **own.classifier.plain()).eval()
    Run("train", own).load_into(model, "model.pt")
    right = model(whole.test.images).argmax(1) == whole.test.labels
    assert right.float().mean().item() == pytest.approx(reported["accuracy"])


@pytest.mark.usefixtures("undrawn")
def test_the_classifier_is_normalised_by_its_training_images(settings: Settings) -> None:
    own = settings(*TINY, "model=classifier")
    train.main(own)
    state = Run("train", own).load("model.pt")
    assert state is not None
    images = loaded(own).train.images
    assert state["normalize.mean"].item() == pytest.approx(images.mean().item(), rel=1e-5)
    assert state["normalize.std"].item() == pytest.approx(images.std().item(), rel=1e-5)


@pytest.mark.usefixtures("undrawn")
def test_the_test_set_is_not_trained_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other test images, other figures, but the same weights."""
    own = settings(*TINY)
    real, weights, figures = data.load, [], []

    def spoiled(*args: Any) -> Data:
        whole = real(*args)
        return Data(
            whole.train, whole.validation, type(whole.test)(1 - whole.test.images, whole.test.labels), whole.info
        )

    for load in (real, spoiled):
        monkeypatch.setattr(data, "load", load)
        figures.append(train.main(replace(own, force=True))["reconstruction_sse"])
        weights.append((Run("train", own).path / "model.pt").read_bytes())
    assert weights[0] == weights[1] and figures[0] != figures[1]


def test_a_list_of_alphas_trains_each_in_its_own_run(settings: Settings) -> None:
    several = settings(*TINY, "alpha=[0,0.5]")
    table = train.main(several)
    single = train.main(settings(*TINY, "alpha=0.5"))
    assert table["alpha=0.5"] == single
    folder = Run("train", several).path
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["run"] for row in rows] == ["alpha=0", "alpha=0.5"]
    assert (
        Image.open(folder / "examples.png").size[1]
        > Image.open(only(folder.parent, "*alpha=0.5,*") / "examples.png").size[1]
    )
    assert Run("train", several).finished() and len(list(folder.parent.iterdir())) == 3


@pytest.mark.usefixtures("undrawn")
def test_alphas_share_the_codes_of_the_training_images(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made, original = [], networks._codes

    def spy(own: resolution.Settings, *others: Any) -> torch.Tensor:
        *same, make = others
        return original(own, *same, lambda: made.append(own.alpha) or make())

    monkeypatch.setattr(networks, "_codes", spy)
    monkeypatch.setattr(networks, "_last_codes", {})
    train.main(settings(*TINY, "alpha=[0,0.5]"))
    assert made == [0]
    shared = (Run("train", settings(*TINY, "alpha=0.5")).path / "model.pt").read_bytes()
    networks._last_codes.clear()
    train.main(settings(*TINY, "alpha=0.5", "force=true"))
    assert (Run("train", settings(*TINY, "alpha=0.5")).path / "model.pt").read_bytes() == shared
    train.main(settings(*TINY, "alpha=1", "layer=conv"))
    train.main(settings(*TINY, "alpha=1", "seed=1"))
    assert made == [0, 0.5, 1, 1]
    for precision in ("fp32", "bf16"):
        train.main(settings(*TINY, "alpha=1", "seed=1", f"trainer.precision={precision}", "force=true"))
    assert made == [0, 0.5, 1, 1, 1] and next(iter(networks._last_codes.values())).dtype == torch.bfloat16


def rows_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []
    monkeypatch.setattr("xmnist.plots.grids.grid", lambda rows, *_, **__: names.extend(row.name for row in rows))
    return names


def test_a_finished_refae_joins_the_picture(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    train.main(settings(*TINY, "model=refae"))
    train.main(settings(*TINY, "model=refae", "layer=conv"))  # another layer's does not
    names = rows_of_the_picture(monkeypatch)
    train.main(settings(*TINY))
    assert names == ["original", "RefAE", "ClaDec\nalpha 0.25", "RefAE −\nClaDec"]


def test_a_damaged_refae_is_left_out_and_named(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train.main(settings(*TINY, "model=refae"))
    (Run("train", settings(*TINY, "model=refae")).path / "model.pt").write_bytes(b"damaged")
    names = rows_of_the_picture(monkeypatch)
    train.main(settings(*TINY))
    assert names == ["original", "ClaDec\nalpha 0.25"]
    assert "drawn without a RefAE" in caplog.text


def test_the_picture_shows_right_and_wrong_images() -> None:
    labels = torch.arange(10).repeat(3)
    predicted = labels.clone()
    predicted[[0, 25]] = 9
    assert pictures.choose(labels, predicted).tolist() == [10, 1, 2, 3, 4, 5, 6, 7, 0, 25]
    two = torch.tensor([0, 1] * 8)
    assert pictures.choose(two, two).tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


class Stop(BaseException):
    """Like a kill at a certain place."""


@pytest.mark.parametrize("model", ["classifier", "cladec", "refae"])
@pytest.mark.usefixtures("undrawn")
def test_a_run_stopped_in_its_third_epoch_goes_on_there_bit_for_bit(
    settings: Settings, model: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = (*TINY, f"model={model}", "trainer.epochs=4")
    whole = settings(*overrides)
    train.main(whole)
    stopped = replace(whole, out_dir=whole.out_dir + "-stopped")
    real, saves = Run.save, []

    def save(run: Run, name: str, state: dict[str, Any]) -> None:
        if run.settings.model.name == model and name == "last.pt":
            saves.append(name)
            if len(saves) == 3:
                raise Stop
        real(run, name, state)

    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(Stop):
        train.main(stopped)
    run = Run("train", stopped)
    assert run.status()["state"] == "interrupted" and len((run.path / "history.csv").read_text().splitlines()) == 3
    monkeypatch.setattr(Run, "save", real)
    caplog.set_level("INFO")
    train.main(stopped)
    assert "going on after epoch 2" in caplog.text
    assert (run.path / "model.pt").read_bytes() == (Run("train", whole).path / "model.pt").read_bytes()
    assert len((run.path / "history.csv").read_text().splitlines()) == 5


KILLED = ["train", "+experiment=smoke", "model=classifier", "dataset.train=400", "trainer.epochs=12"]  # still at work


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights that the command KILLED gives when it is left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert typed(KILLED, folder, dict(os.environ)).returncode == 0
    return only(folder, "outputs/train/glyphs/classifier/*/model.pt").read_bytes()


def interruptible(*given: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
    type_(*given)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_process_is_resumed_by_the_same_command(
    xmnist: Xmnist, tmp_path: Path, how: signal.Signals, undisturbed: bytes
) -> None:
    folder, said = tmp_path / "work", tmp_path / "said"
    process = started(interruptible, KILLED, folder, dict(os.environ), (os.devnull, str(said)))
    logs: list[Path] = []
    while process.is_alive() and not (logs and "epoch 2/12" in logs[0].read_text()):
        logs = list(folder.rglob("train.log"))
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, how)
    assert ended(process) == 130
    run = logs[0].parent
    assert read(run / "status.json")["state"] == "interrupted"
    assert said.read_text() == "xmnist: interrupted; type the same command again to resume\n"
    resumed = xmnist(*KILLED)
    assert resumed.returncode == 0 and re.search(r"going on after epoch \d", resumed.stdout)
    assert not list(run.glob("last.pt"))
    assert (run / "model.pt").read_bytes() == undisturbed


def other_network() -> dict[str, torch.Tensor]:
    return build("vgg_small", (3, 32, 32), 7, dropout=0.5).state_dict()


@pytest.mark.usefixtures("undrawn")
def test_a_checkpoint_of_another_network_in_a_finished_run_is_refused(
    xmnist: Xmnist, settings: Settings, tmp_path: Path
) -> None:
    out_dir = settings().out_dir
    path = train.main(settings(*TINY, "model=classifier")) and only(Path(out_dir), "train/glyphs/classifier/*/model.pt")
    torch.save(other_network(), path)
    for words in (["model=classifier"], ["model=cladec"]):
        answer = xmnist("train", *TINY, *words, f"out_dir={out_dir}")
        assert answer.returncode == 2 and answer.stdout == "" and len(answer.stderr.splitlines()) == 1
        assert "model.pt is not the file that this run wrote" in answer.stderr and "force=true" in answer.stderr
    assert not list(Path(out_dir).glob("train/glyphs/cladec/*"))
    assert train.main(settings(*TINY, "model=classifier", "force=true"))
    assert train.main(settings(*TINY, "model=cladec"))


@pytest.mark.parametrize("origin", ["another network", "another seed", "nowhere"])
@pytest.mark.usefixtures("undrawn")
def test_a_foreign_last_checkpoint_is_refused_and_nothing_is_written(
    settings: Settings, origin: str, xmnist: Xmnist, tmp_path: Path
) -> None:
    own = settings(*TINY, "model=classifier")
    run = Run("train", own)
    run.path.mkdir(parents=True)
    state = {"model": other_network(), "optimizer": {}, "scheduler": {}, "history": [], "best": {"model": {}}}
    if origin == "another seed":
        other = Run("train", settings(*TINY, "model=classifier", "seed=1"))
        state["run"] = other.path.name
    elif origin == "another network":
        state["run"] = run.path.name  # in the right place and of the right name, but the weights are not
    run.save("last.pt", state)
    before = (run.path / "last.pt").read_bytes()
    answer = xmnist("train", *TINY, "model=classifier", f"out_dir={own.out_dir}")
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1
    assert "last.pt is no checkpoint of this run: " in answer.stderr and "force=true" in answer.stderr
    assert (run.path / "last.pt").read_bytes() == before and run.status() == {}
    if origin != "another network":
        assert [p.name for p in run.path.iterdir()] == ["last.pt"]
    assert train.main(settings(*TINY, "model=classifier", "force=true"))


@pytest.mark.usefixtures("undrawn")
def test_a_forced_run_that_was_stopped_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = settings(*TINY, "model=classifier", "trainer.epochs=3")
    train.main(own)
    real, epochs = Run.save, []

    def save(run: Run, name: str, state: dict[str, Any]) -> None:
        real(run, name, state)
        epochs.append(len(state["history"]) if name == "last.pt" else 0)
        if epochs == [1, 2]:
            raise Stop

    monkeypatch.setattr(Run, "save", save)
    with pytest.raises(Stop):
        train.main(replace(own, force=True))
    train.main(replace(own, force=True))
    assert epochs == [1, 2, 3, 0]
    train.main(replace(own, force=True))  # a finished forced run is done again, from the start
    assert epochs == [1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.usefixtures("undrawn")
def test_what_a_killed_process_left_half_written_is_removed(settings: Settings) -> None:
    run = Run("train", settings(*TINY, "model=classifier"))
    run.path.mkdir(parents=True)
    (run.path / ".partial-abc.pt").touch()
    train.main(run.settings)
    assert not list(run.path.glob(".partial*"))


@pytest.mark.usefixtures("undrawn")
def test_models_of_one_seed_start_from_different_weights(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RefAE's encoder starts neither from the trained classifier nor from what that one started from."""
    starts = {}
    real = resuming.fit

    def fit(run: Run, parts: Any, images: Any) -> Any:
        task = parts[0]
        weights = {name.removeprefix("0.classifier."): value for name, value in task.model.state_dict().items()}
        starts[run.settings.model.name] = weights["dense.0.weight"].clone()
        return real(run, parts, images)

    monkeypatch.setattr(resuming, "fit", fit)
    train.main(settings(*TINY, "model=refae"))
    trained = Run("train", settings(*TINY, "model=classifier")).load("model.pt")
    assert trained is not None
    assert not torch.equal(starts["refae"], starts["classifier"])
    assert not torch.equal(starts["refae"], trained["dense.0.weight"])


@pytest.mark.usefixtures("undrawn")
def test_the_paper_trainer_trains(settings: Settings) -> None:
    figures = train.main(settings(*TINY, "trainer=paper", "layer=conv"))
    assert figures["epochs"] == 10 and figures["reconstruction_sse"] < 784


def test_train_missing_false_names_the_command_that_helps(settings: Settings) -> None:
    own = settings(*TINY, "train_missing=false", "layer=conv")
    with pytest.raises(InputError, match="trained by: xmnist train .*model=classifier") as caught:
        train.check(own)
    words = str(caught.value).split("xmnist train ")[1].split()
    train.main(settings(*words))
    train.check(own)
    assert train.main(own)["epochs"] == 2


@pytest.mark.usefixtures("undrawn")
def test_a_loss_that_is_not_finite_fails_the_run_and_keeps_the_last_good_state(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(*TINY, "dataset.train=300", "model=classifier", "trainer.epochs=3")
    real = torch.nn.functional.cross_entropy
    calls = iter(range(10**6))
    monkeypatch.setattr(  # 3 steps and 1 validation batch an epoch
        "xmnist.training.losses.F.cross_entropy", lambda *a: real(*a) * (float("nan") if next(calls) > 8 else 1)
    )
    with pytest.raises(NotFiniteError, match=r"nan in epoch \d, step \d"):
        train.main(own)
    run = Run("train", own)
    status, state = run.status(), run.load("last.pt")
    assert status["state"] == "failed" and re.search(r"nan in epoch \d, step \d", status["error"])
    assert state is not None and all(v.isfinite().all() for v in state["model"].values() if v.is_floating_point())
    assert "Traceback" in (run.path / "train.log").read_text()


def test_a_failed_run_is_one_line_and_exit_code_1(xmnist: Xmnist) -> None:
    answer = xmnist("train", *TINY, "model=classifier", "trainer.optimizer=sgd", "trainer.lr=1e30")
    assert answer.returncode == 1 and len(answer.stderr.splitlines()) == 1
    assert re.search(
        r"xmnist: NotFiniteError: the loss is .* in epoch 1, step \d: try a smaller trainer.lr", answer.stderr
    )


@pytest.mark.slow
def test_a_sweep_and_single_runs_share_their_work(xmnist: Xmnist, tmp_path: Path) -> None:
    assert xmnist("train", *TINY, "alpha=0.5").returncode == 0
    sweep = xmnist("train", "-m", *TINY, "alpha=0,0.5")
    assert sweep.returncode == 0, sweep.stderr
    runs = list((tmp_path / "work").glob("outputs/train/glyphs/cladec/*"))
    assert len(runs) == 2 and all(read(r / "status.json")["state"] == "done" for r in runs)
    assert re.search(r"already done: \S*alpha=0\.5", sweep.stdout)


@pytest.mark.slow
def test_real_images_are_learnt(real_data: str, tmp_path: Path, settings: Settings) -> None:
    small = ("dataset=mnist", "dataset.train=3000", "dataset.test=1000", "trainer.epochs=2", f"data_dir={real_data}")
    assert train.main(settings(*small, "model=classifier"))["accuracy"] > 0.9
    decoded = train.main(settings(*small, "layer=conv"))
    assert decoded["reconstruction_sse"] < 20 and decoded["accuracy"] > 0.85


@pytest.mark.usefixtures("undrawn")
def test_the_explained_classifier_is_frozen_and_judges_in_eval_mode(settings: Settings) -> None:
    own = settings(*TINY)
    missing.train([explained(own)])
    task = networks.tasks(own, loaded(own), torch.device("cpu"))[0]
    assert task.explained is not None and not any(module.training for module in task.explained.modules())
    assert not any(p.requires_grad for p in task.explained.parameters())
