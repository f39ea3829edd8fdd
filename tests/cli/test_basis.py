"""Working on a run that is there: `run=`, what is told of runs like it, and what to type next."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helpers import TINY
from xmnist.cli import basis, hints
from xmnist.runs import index, inspection, similar, store
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import train


@pytest.fixture
def classifier(settings: Any) -> Run:
    """A finished classifier."""
    own = settings(*TINY, "model=classifier", "trainer.epochs=1", "seed=7")
    train.main(own)
    return Run("train", own)


def out(run: Run) -> str:
    return f"out_dir={run.settings.out_dir}"


@pytest.mark.parametrize("how", ["hash", "four digits", "folder", "last"])
def test_a_run_is_named_by_hash_folder_or_last(classifier: Run, how: str) -> None:
    name = classifier.path.name[-8:]
    word = {"hash": name, "four digits": name[:4], "folder": str(classifier.path), "last": "last"}[how]
    words, taken = basis.taken_up("explain", [f"run={word}", out(classifier), "explainer=lrp"])
    assert taken is not None and taken.run.path == classifier.path.resolve()
    assert {"dataset=glyphs", "dataset.train=200", "trainer.epochs=1", "seed=7", "explainer=lrp"} <= set(words)
    assert not any(word.startswith(("run=", "model=")) for word in words)  # a classifier leaves open what explains it


def test_the_words_of_a_run_lead_to_it(classifier: Run, xmnist: Any) -> None:
    done = xmnist("explain", "run=last", out(classifier), "explainer=saliency")
    assert done.returncode == 0 and "trained first" not in done.stdout
    (folder,) = Path(classifier.settings.out_dir).glob("explain/glyphs/classifier/*")
    status = json.loads((folder / "status.json").read_text())
    assert classifier.key in status["stands_on"] and "run=" not in status["command"]  # it can be typed anywhere


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("seed=8",), "has seed=7, but this command says seed=8"),
        (("trainer.epochs=2",), "has trainer.epochs=1, but this command says trainer.epochs=2"),
        (("dataset=mnist",), "has dataset=glyphs, but this command says dataset=mnist"),
        (("run=nothing",), "takes one run"),
    ],
)
def test_a_word_that_contradicts_the_run_is_refused(
    classifier: Run, xmnist: Any, words: tuple[str, ...], message: str
) -> None:
    said = xmnist("explain", f"run={classifier.path.name[-8:]}", out(classifier), "explainer=lrp", *words)
    assert said.returncode == 2 and message in said.stderr and len(said.stderr.splitlines()) == 1
    assert not list(Path(classifier.settings.out_dir).glob("explain/*"))


def test_runs_that_cannot_be_worked_on_are_refused(classifier: Run, settings: Any) -> None:
    name, where = classifier.path.name[-8:], out(classifier)

    def refused(word: str, stage: str = "explain") -> str:
        with pytest.raises(InputError) as error:
            basis.taken_up(stage, [f"run={word}", where])
        return str(error.value)

    assert f"no run 'nothing' (newest below {classifier.settings.out_dir}" in refused("nothing")
    assert "takes one run" in refused("")
    other = Run("explain", settings(*TINY, "explainer=lrp", "trainer.epochs=1", "seed=7", stage="explain"))
    other.path.mkdir(parents=True)
    store.write_yaml(other.path / "config.yaml", other.settings.plain())
    other.write_status({"state": "done", "started": "2026-01-01T00:00:00+00:00"})
    assert f"is of xmnist explain: xmnist explain works on a trained network, such as run={name}" in refused(
        other.path.name[-8:]
    )
    with (classifier.path / "status.json").open("a") as file:
        file.write("x")
    assert "cannot be worked on: damaged" in refused(name)
    assert "there is no finished run" in refused("last")


def test_several_runs_with_one_beginning_are_named(tmp_path: Path) -> None:
    for name in ("a-12345678", "b-12349999"):
        folder = tmp_path / "train/mnist/classifier" / name
        folder.mkdir(parents=True)
        (folder / "status.json").write_text("{}")
    with pytest.raises(InputError, match=r"several runs begin with 1234: 1234\d{4}.*, 1234"):
        index.named("1234", tmp_path)


def test_the_nearest_run_is_told_unless_its_difference_was_typed(classifier: Run, settings: Any) -> None:
    """The first example of its issue: a classifier is there, and a command would train another for minutes."""
    other = settings(*TINY, "model=classifier", "seed=7", "dataset.train=null", "dataset=mnist")
    own = classifier.settings
    trainer = replace(own.trainer, own=own.trainer.own | {"epochs": 600})
    other = replace(own, dataset=replace(own.dataset, train=60000), trainer=trainer)
    near = similar.alike(other)
    line = similar.told(other, 57_000, "xmnist evaluate metric=classification dataset=glyphs", near)
    assert re.fullmatch(
        rf"a glyphs classifier exists with dataset\.train=200 trainer\.epochs=1; this trains another with 57,000 "
        rf"images x 600 epochs \(about \S+ \w+\)\. To use the existing one: run={classifier.path.name[-8:]}",
        line,
    )
    assert not similar.told(other, 57_000, "xmnist evaluate dataset.train=60000 trainer.epochs=600", near)
    soon = replace(other, trainer=classifier.settings.trainer)
    assert not similar.told(soon, 10, "xmnist evaluate", similar.alike(soon))  # in no time
    took, here = similar.seconds(other, 57_000, near) or (0, False)
    assert here and took == pytest.approx(57_000 * 600 / classifier.metrics()["images_per_second"])


def test_what_to_type_next_is_quoted_and_complete(classifier: Run) -> None:
    commands = hints.after(classifier)
    name = classifier.path.name[-8:]
    assert len(commands) == 3 and all(f"run={name}" in command for command in commands)
    assert all(command.endswith(shlex.quote(out(classifier))) for command in commands)
    assert "'explainer=[saliency,gradcam,lrp]'" in commands[0]
    assert hints.wanted(True) and not hints.wanted(False) and not hints.wanted("auto")  # no terminal here


def test_show_and_compare(classifier: Run, settings: Any, xmnist: Any) -> None:
    train.main(settings(*TINY, "model=classifier", "trainer.epochs=2", "seed=7"))
    several = index.below(Path(classifier.settings.out_dir))
    told = inspection.show(several[0])
    assert str(several[0].path) in told and "trainer.epochs" in told and "accuracy" in told and "curves.png" in told
    lines = inspection.compare(several).splitlines()
    assert lines[0].split() == [run.id for run in several] and ["trainer.epochs", "1", "2"] in map(str.split, lines)
    assert not any(line.startswith(("trainer.joint", "trainer.decoder", "seed")) for line in lines)
    accuracy = next(line for line in lines if line.startswith("accuracy"))
    first, second = (run.figures["accuracy"] for run in several)
    assert first == second or f"({second - first:+.3g})".replace("-", "−") in accuracy
    with pytest.raises(InputError, match="two or more"):
        inspection.compare(several[:1])
    said = xmnist("runs", "show", several[0].id[:5], out(classifier))
    assert said.returncode == 0 and said.stdout == told


def test_removing_leaves_no_empty_folders(classifier: Run, xmnist: Any) -> None:
    assert xmnist("runs", "state=done", "--remove", "--yes", out(classifier)).returncode == 0
    assert not list(Path(classifier.settings.out_dir).iterdir())


def test_pictures_come_in_every_format_that_is_asked_for(classifier: Run, xmnist: Any) -> None:
    before = (classifier.path / "model.pt").stat().st_mtime_ns
    words = [*TINY, "model=classifier", "trainer.epochs=1", "seed=7", out(classifier), "format=[png,pdf,svg]"]
    done = xmnist("train", *words)
    assert done.returncode == 0 and (classifier.path / "model.pt").stat().st_mtime_ns == before
    assert (classifier.path / "curves.pdf").read_bytes().startswith(b"%PDF")
    assert "<text" in (classifier.path / "curves.svg").read_text()  # letters stay letters
    assert b"FontFile2" in (classifier.path / "curves.pdf").read_bytes()  # TrueType


def test_an_image_of_ones_own_is_explained(classifier: Run, xmnist: Any, tmp_path: Path) -> None:
    image = Image.new("L", (60, 40), 255)
    image.paste(0, (25, 5, 35, 35))
    image.save(tmp_path / "five, or so=1.png")
    done = xmnist(
        "explain", "run=last", out(classifier), "explainer=saliency", f"image={tmp_path / 'five, or so=1.png'}"
    )
    assert done.returncode == 0 and "60x40 pixels to 28x28, gray, inverted" in done.stdout
    (folder,) = Path(classifier.settings.out_dir).glob("explain/glyphs/classifier/*image=*")
    (row,) = index.reading.csv_rows(folder / "selection.csv")
    assert row["file"] == "five, or so=1.png" and row["class"] == "" and row["predicted_class"]
    assert xmnist("report", out(classifier)).returncode == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no such file or folder"),
        (lambda path: path.write_bytes(b""), "cannot be read as an image"),
        (lambda path: path.write_text("no image"), "cannot be read as an image"),
        (lambda path: path.mkdir(), "no image in this folder"),
        (lambda path: Image.new("1", (30_000, 30_000)).save(path, "png"), "is larger than"),
    ],
)
def test_what_is_no_image_is_refused(classifier: Run, xmnist: Any, tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "x.png")
    said = xmnist("explain", "run=last", out(classifier), "explainer=saliency", f"image={tmp_path / 'x.png'}")
    assert said.returncode == 2 and message in said.stderr and len(said.stderr.splitlines()) == 1
    assert not list(Path(classifier.settings.out_dir).glob("explain/*"))


def test_hashes_are_completed(classifier: Run) -> None:
    line = f"xmnist explain {out(classifier)} run="
    environment = os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-m", "xmnist", "-sc", "query=bash"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.stdout.split() == ["run=last", f"run={classifier.path.name[-8:]}"]
