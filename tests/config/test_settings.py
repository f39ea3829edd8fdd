"""Settings are one typed object, which run directories hold as plain values."""

import shlex
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from helpers import composed
from xmnist.config import resolution
from xmnist.config.settings import ReportSettings, StageSettings, of_plain
from xmnist.config.trainer import Trainer
from xmnist.runtime.errors import InputError


def plain(command: str) -> tuple[str, dict[str, Any]]:
    stage, *words = shlex.split(command)
    return stage, resolution.resolve(composed(*words, stage=stage), stage).plain()


@pytest.fixture
def own() -> dict[str, Any]:
    return plain("train dataset=glyphs model=joint")[1]


def test_what_every_version_did_need_not_be_told(own: dict[str, Any]) -> None:
    earlier = {key: value for key, value in own.items() if key not in ("neurons", "hints", "format")}
    assert of_plain("train", earlier | {"unknown": 1}) == of_plain("train", own)


def test_nothing_can_be_changed_but_a_copy(own: dict[str, Any]) -> None:
    settings = of_plain("train", own)
    with pytest.raises(FrozenInstanceError):
        settings.seed = 1  # type: ignore[misc]
    assert replace(settings, seed=1).plain() == own | {"seed": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "0"}, "seed must be a whole number"),
        ({"alpha": 0.5}, "alpha must be a list of three, .* with model=joint, got 0.5"),
        ({"beta": 2}, "beta must be a number in"),
        ({"trainer": {}}, "trainer.epochs is missing"),
        ({"trainer": 3}, "trainer must be a group of keys, got 3"),
        ({"dataset": {}}, "dataset.name must be a name"),
        ({"classifier": None}, "classifier.name must be a name"),
    ],
)
def test_what_is_not_sound_is_refused(own: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        of_plain("train", own | change)
    with pytest.raises(InputError, match="seed is missing"):
        of_plain("train", {key: value for key, value in own.items() if key != "seed"})
    with pytest.raises(InputError, match="no stage 'none'"):
        of_plain("none", own)


def test_a_component_that_is_not_known_here_stands_for_itself(own: dict[str, Any]) -> None:
    for group, told in (("classifier", {"name": "theirs", "width": 3}), ("dataset", {"name": "mnist", "old": 1})):
        settings = of_plain("train", own | {group: told})
        assert getattr(settings, group).name == told["name"] and settings.plain()[group] == told
        assert settings == of_plain("train", own | {group: told}) != of_plain("train", own)


def test_a_report_is_never_found_done() -> None:
    settings = of_plain("report", plain("report only.dataset=mnist")[1] | {"force": False})
    assert isinstance(settings, ReportSettings) and settings.force
    assert settings.only.chosen() == {"dataset": "mnist"}


def test_a_trainer_has_changes_for_decoders_and_joint_models(own: dict[str, Any]) -> None:
    trainer = Trainer.of_plain(own["trainer"])
    assert trainer.plain() == own["trainer"] and isinstance(of_plain("train", own), StageSettings)
    assert trainer.changed("decoder")["batch_size"] == 32 and trainer.changed(None)["batch_size"] == 128
