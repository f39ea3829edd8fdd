"""The search over joint models: what differs, what is best, and what several seeds say together."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from helpers import TINY
from xmnist.config import resolution
from xmnist.runs import claims
from xmnist.runs.store import Run
from xmnist.stages import search

Settings = Callable[..., resolution.Settings]
JOINT = (
    "model=joint",
    "model.loss=hybrid",
    "explainer=joint",
    "metric=[classification,localisation]",
    "controls=false",
)


@pytest.fixture
def measured(settings: Settings) -> Callable[..., Run]:
    """`measured(accuracy, mass, overrides...)`: a finished evaluation of a joint model that has found these."""

    def made(accuracy: float, mass: float, *words: str) -> Run:
        run = Run("evaluate", settings(*TINY, *JOINT, *words, stage="evaluate"))
        rows = [
            {"kind": "model", "name": "classifier", "accuracy": accuracy, "accuracy_low": 0.1, "accuracy_high": 0.9},
            {"kind": "explainer", "name": "joint", "mass": mass, "mass_low": mass - 0.1, "mass_high": mass + 0.1},
        ]
        with claims.claim(run, "xmnist evaluate"):
            pd.DataFrame(rows).to_csv(run.path / "summary.csv", index=False)
        return run

    return made


def written(run: Run) -> Path:
    (folder,) = run.path.parent.glob("search=*")
    return folder


def test_the_front_has_what_no_other_beats(measured: Callable[..., Run]) -> None:
    scores = {0: (0.9, 0.2), 1: (0.8, 0.5), 2: (0.8, 0.4), 3: (0.5, 0.5), 4: (0.4, 0.9)}
    made = [measured(*pair, f"gamma={gamma}") for gamma, pair in scores.items()]
    search.compare(made)
    table = pd.read_csv(written(made[0]) / "search.csv")
    assert list(table["gamma"]) == [0, 1, 2, 3, 4]  # from the highest accuracy down
    assert list(table["pareto"]) == [True, True, False, False, True]
    assert list(table["mass_low"]) == pytest.approx([0.1, 0.4, 0.3, 0.4, 0.8])
    text = (written(made[0]) / "search.md").read_text()
    assert "| gamma | seeds | accuracy" in text and "0.800 [0.100, 0.900]" in text
    with Image.open(written(made[0]) / "pareto.png") as picture:
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 20


def test_all_keys_that_differ_are_named(measured: Callable[..., Run]) -> None:
    made = [measured(0.5, 0.5, "alpha=[1,0.5,0.5]", "beta=0.1"), measured(0.6, 0.6, "beta=0.9", "trainer.epochs=3")]
    search.compare(made)
    table = pd.read_csv(written(made[0]) / "search.csv")
    assert {"alpha", "beta", "trainer.epochs"} < set(table) and "1+0.5+0.5" in list(table["alpha"])
    assert written(made[0]).name.startswith("search=") and "beta" in written(made[0]).name


def test_seeds_are_one_row_from_lowest_to_highest(measured: Callable[..., Run]) -> None:
    made = [measured(0.5 + seed / 10, 0.5, "gamma=1", f"seed={seed}") for seed in range(3)]
    made.append(measured(0.3, 0.2, "gamma=2"))
    search.compare(made)
    row = pd.read_csv(written(made[0]) / "search.csv").iloc[0]
    assert row["seeds"] == "0+1+2" and row["accuracy"] == pytest.approx(0.6)
    assert (row["accuracy_low"], row["accuracy_high"]) == pytest.approx((0.5, 0.7))
    assert "of several seeds: from the lowest to the highest one" in (written(made[0]) / "search.md").read_text()


def test_nothing_is_written_of_one_model_or_of_others(measured: Callable[..., Run], settings: Settings) -> None:
    alone = measured(0.5, 0.5)
    search.compare([alone, measured(0.5, 0.5, "seed=1")])
    words = ("explainer=saliency", "metric=[classification,localisation]")
    search.compare([alone, Run("evaluate", settings(*TINY, *words, stage="evaluate"))])
    unfinished = Run("evaluate", settings(*TINY, *JOINT, "gamma=7", stage="evaluate"))
    search.compare([alone, unfinished])
    assert not list(alone.path.parent.glob("search=*"))


def test_a_damaged_table_is_left_out_and_named(measured: Callable[..., Run], caplog: pytest.LogCaptureFixture) -> None:
    made = [measured(0.5 + gamma / 10, 0.5, f"gamma={gamma}") for gamma in range(3)]
    (made[1].path / "summary.csv").write_text("kind,name\n")
    search.compare(made)
    assert list(pd.read_csv(written(made[0]) / "search.csv")["gamma"]) == [2, 0]
    assert "summary.csv is not the file that this run wrote" in caplog.text
