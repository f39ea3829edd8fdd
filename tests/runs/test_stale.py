"""A result is bound to the weights and the data that it was made from."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import files_of
from xmnist.config import resolution
from xmnist.runs import claims, index
from xmnist.runs.store import Run
from xmnist.runtime.storage import digest
from xmnist.training import resuming

Settings = Callable[..., resolution.Settings]


@pytest.fixture
def chain(settings: Settings) -> list[Run]:
    """A classifier, a ClaDec of it and a picture of both, with the files of finished runs."""
    stages = (("train", "model=classifier"), ("train", "model=cladec"), ("explain", "explainer=cladec"))
    made = [Run(stage, settings("+experiment=smoke", more, stage=stage)) for stage, more in stages]
    for place, each in enumerate(made):
        finish(each, f"weights {place}")
    return made


def finish(run: Run, weights: str) -> None:
    with claims.claim(run, "xmnist ...") as to_do:
        assert to_do
        (run.path / "model.pt").write_text(weights)


def states(chain: list[Run]) -> list[str]:
    return [index.read(run.path).state for run in chain]


def test_a_run_whose_networks_were_trained_again_is_stale_with_all_that_stands_on_it(
    chain: list[Run], caplog: pytest.LogCaptureFixture
) -> None:
    classifier, decoder, drawn = chain
    assert decoder.status()["stands_on"] == {classifier.key: digest(classifier.path / "model.pt")}
    assert set(drawn.status()["stands_on"]) == {classifier.key, decoder.key}
    assert all(run.reusable() for run in chain) and states(chain) == ["done"] * 3

    again = Run("train", replace(classifier.settings, force=True))
    finish(again, "weights 0")  # the same weights: nothing has changed
    assert all(run.reusable() for run in chain) and states(chain) == ["done"] * 3
    finish(again, "other weights")
    assert [run.reusable() for run in chain] == [True, False, False] and states(chain) == ["done", "stale", "stale"]
    assert "cladec that it stands on is stale" in drawn.stale() or "trained again" in drawn.stale()
    assert f"{decoder.path} is stale, and done again: the classifier that it stands on was trained again" in caplog.text

    finish(decoder, "weights 1")
    assert [run.reusable() for run in chain] == [True, True, False]
    finish(drawn, "weights 2")
    assert all(run.reusable() for run in chain) and states(chain) == ["done"] * 3
    (classifier.path / "status.json").unlink()  # what is gone cannot be compared
    assert all(run.reusable() for run in chain[1:])


def test_a_run_of_before_sources_were_written_down_is_stale_if_its_network_is_younger(chain: list[Run]) -> None:
    classifier, decoder, _ = chain
    for run, times in ((classifier, ("01", "02")), (decoder, ("03", "04"))):
        started, ended = (f"2026-01-{day}T00:00:00+00:00" for day in times)
        old = {key: value for key, value in run.status().items() if key not in ("stands_on", "data")}
        run.write_status({**old, "started": started, "ended": ended})
    assert not decoder.stale()
    classifier.write_status({**classifier.status(), "started": "2026-01-05T00:00:00+00:00"})
    assert "trained again" in decoder.stale()


def test_a_training_does_not_go_on_with_other_weights_below_it(chain: list[Run]) -> None:
    classifier, decoder, _ = chain
    decoder.save("last.pt", {"run": decoder.path.name, "phase": 1, "before": [], "weights": {}} | {
        "sources": decoder.sources()
    })  # fmt: skip
    assert resuming.saved_state(decoder) is not None
    finish(Run("train", replace(classifier.settings, force=True)), "other weights")
    assert resuming.saved_state(decoder) is None


def test_other_files_of_a_data_set_make_its_runs_stale_and_another_place_does_not(
    settings: Settings, tmp_path: Path
) -> None:
    def written(folder: Path, content: bytes) -> str:
        for path in files_of("mnist", folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return str(folder)

    own = settings("+experiment=smoke", "dataset=mnist", "model=classifier")
    run = Run("train", replace(own, data_dir=written(tmp_path / "one", b"digits")))
    finish(run, "weights")
    assert run.reusable()
    for folder, content, stale in (("two", b"digits", False), ("three", b"digitS", True), ("one", b"Digits", True)):
        elsewhere = Run("train", replace(run.settings, data_dir=written(tmp_path / folder, content)))
        assert elsewhere.path == run.path and bool(elsewhere.stale()) == stale, folder
    assert not Run("train", replace(run.settings, data_dir=str(tmp_path / "nowhere"))).stale()
