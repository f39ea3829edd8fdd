"""What a command stands on is made first, in order, and only what is missing."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from helpers import TINY
from xmnist.config import resolution
from xmnist.config.derived import evaluation, needed
from xmnist.runs import claims, graph
from xmnist.runs.store import Run
from xmnist.stages import missing, train
from xmnist.training import networks, side_by_side

Settings = Callable[..., resolution.Settings]
WORDS = ("+experiment=smoke", "explainer=cladec", "metric=reconstruction", "alpha=[0,1]")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The kinds of models that were trained, group by group; a training writes a file instead of learning."""
    groups: list[list[str]] = []

    def finish(members: Sequence[Any]) -> None:
        groups.append([each.model.name for each in members])
        for each in members:
            run = Run("train", each)
            with claims.claim(run, "xmnist train"):
                (run.path / "model.pt").write_text(f"weights {each.model.name}")

    monkeypatch.setattr(side_by_side, "train", finish)
    return groups


def test_each_is_trained_after_what_it_stands_on(settings: Settings, made: list[list[str]]) -> None:
    own = settings(*WORDS, stage="evaluate")
    judges = [each for each in needed(own) if each.model.name == "evaluation"]
    missing.train(judges)  # they alone: what they stand on is found
    assert made == [["classifier"], ["cladec", "cladec"], ["evaluation", "evaluation"]]
    missing.train(needed(own))
    assert len(made) == 3  # nothing twice


def test_what_a_finished_run_stands_on_is_not_made_again(settings: Settings, made: list[list[str]]) -> None:
    decoder = Run("train", settings("+experiment=smoke", "model=cladec"))
    missing.train([decoder.settings])
    (decoder.bases()[0].path / "status.json").unlink()
    assert graph.missing([decoder]) == [] and [len(group) for group in graph.missing(decoder.bases())] == [1]


@pytest.mark.parametrize("same", [True, False])
def test_a_decoder_of_weights_that_are_gone_is_trained_again_only_for_other_ones(
    settings: Settings, made: list[list[str]], same: bool
) -> None:
    decoder = Run("train", settings("+experiment=smoke", "model=cladec"))
    classifier = decoder.bases()[0]
    missing.train([decoder.settings])
    if not same:
        status = decoder.status()
        decoder.write_status(status | {"stands_on": {classifier.key: "of other weights"}})
    (classifier.path / "status.json").unlink()
    missing.train([classifier.settings, decoder.settings, evaluation(decoder.settings)])
    assert made[2:] == [["classifier"], *([] if same else [["cladec"]]), ["evaluation"]]


def test_a_finished_decoder_is_drawn_again_after_its_classifier_was_removed(settings: Settings) -> None:
    own = settings(*TINY)
    train.main(own)
    classifier = Run("train", own).bases()[0]
    before, weights = Run("train", own).status()["files"]["model.pt"], (classifier.path / "model.pt").read_bytes()
    shutil.rmtree(classifier.path)
    train.main(replace(own, format=["png", "svg"]))
    assert (Run("train", own).path / "examples.svg").is_file() and classifier.finished()
    assert (classifier.path / "model.pt").read_bytes() == weights
    assert Run("train", own).status()["files"]["model.pt"] == before


def test_a_classifier_that_fails_leaves_nothing_of_the_decoder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Run) -> None:
        raise ArithmeticError(run.settings.model.name)

    monkeypatch.setattr(networks, "_train", fail)
    own = settings("+experiment=smoke", "model=cladec")
    with pytest.raises(ArithmeticError, match="^classifier$"):
        train.main(own)
    assert not Run("train", own).path.exists()
