"""What no restructuring may change: the names of runs, the bytes of trained weights, and measured scores.

`GOLDEN=write python -m pytest tests/test_golden.py` writes down what this machine gives: where it is not known yet, or
after a change that is meant to change it.
"""

import hashlib
import json
import os
import pickle
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from helpers import TINY, composed
from xmnist.config import resolution
from xmnist.config.settings import KINDS, of_plain
from xmnist.runs import identity
from xmnist.runs.store import WEIGHTS
from xmnist.runtime import machine
from xmnist.stages import evaluate, train

GOLDEN = Path(__file__).parent / "golden"

MODELS = {
    **{model: (f"model={model}",) for model in ("classifier", "cladec", "refae", "cladec_vae", "refvae", "joint")},
    "evaluation": ("model=evaluation", "model.of=cladec"),
    "hybrid": ("model=joint", "model.loss=hybrid", "dataset=cluttered_glyphs"),
}
MEASURED = (
    *("explainer=[saliency,lrp,refae,cladec]", "metric=[classification,reconstruction,aopc,axioms]"),
    *("select.count=10", "metrics.axioms.count=2"),
)

Settings = Callable[..., resolution.Settings]


def golden(name: str, found: Mapping[str, Any]) -> Any:
    """What is written down by that name, after `found` is, if that is asked for."""
    path = GOLDEN / f"{name}.json"
    known = json.loads(path.read_text())
    if os.environ.get("GOLDEN") == "write":
        known |= found
        path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def hardware() -> str:
    """What the last bit of a sum depends on: the libraries choose their kernels and blocks by processor and caches."""
    first = machine._processor().split("\n\n")[0]
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    about = [told.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "cache size")]
    return " ".join([torch.__version__, *about, hashlib.sha256(told.get("flags", first).encode()).hexdigest()[:8]])


def weights(settings: Settings) -> dict[str, str]:
    """The SHA-256 of each kind of model's weights after a tiny training with one thread."""
    out = {}
    for name, words in MODELS.items():
        run = settings(*TINY, "trainer.precision=fp32", *words)
        train.main(run)
        out[name] = hashlib.sha256((train.Run("train", run).path / WEIGHTS).read_bytes()).hexdigest()
    return out


def scores(settings: Settings) -> dict[str, float]:
    """The means in the summary of an evaluation."""
    run = settings(*TINY, "trainer.precision=fp32", *MEASURED, stage="evaluate")
    evaluate.main(run, "xmnist evaluate")
    table = pd.read_csv(evaluate.Run("evaluate", run).path / "summary.csv", index_col=["kind", "name"])
    means = table[[column for column in table if not column.endswith(("_low", "_high", "_p"))]].stack()
    return {" ".join(place): float(mean) for place, mean in means.dropna().items()}


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_every_command_names_the_run_that_it_named_and_its_settings_are_read_back() -> None:
    found = {}
    for command in json.loads((GOLDEN / "names.json").read_text()):
        stage, *words = shlex.split(command)
        settings = resolution.resolve(composed(*words, stage=stage), stage)
        found[command] = identity.place(stage, settings)
        plain = settings.plain()
        again = of_plain(stage, plain)
        assert type(again) is KINDS[stage] and json.dumps(again.plain()) == json.dumps(plain), command
        assert of_plain(stage, again.plain()) == again == settings == pickle.loads(pickle.dumps(settings)), command
    assert len(found) >= 50 and found == golden("names", found)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "undrawn")
def test_every_kind_of_model_has_the_weights_that_it_had(settings: Settings) -> None:
    found = weights(settings)
    known = golden("weights", {hardware(): found})
    assert all(digests.keys() == found.keys() for digests in known.values())
    if hardware() in known:  # else it cannot be said: the last bit is another one
        assert found == known[hardware()]


@pytest.mark.usefixtures("one_thread", "undrawn")
def test_an_evaluation_measures_what_it_measured(settings: Settings) -> None:
    """To the last bit where the weights are; elsewhere rounding makes the trainings part."""
    found = scores(settings)
    known = golden("scores", {hardware(): found})
    assert all(means.keys() == found.keys() for means in known.values())
    if hardware() in known:
        assert found == known[hardware()]
