"""The benchmarks write what they found, and two of them run; how fast anything is, no test says."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from benchmarks import __main__ as benchmarks
from benchmarks.timing import Ratio, side_by_side


def test_a_ratio_is_that_of_the_best_rounds() -> None:
    assert Ratio("some", [2.0, 4.0], [3.0, 9.0]).ratio == 1.5


def test_both_are_timed_in_turn_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def floor() -> float:
        calls.append("floor")
        return float(len(calls))

    def ours() -> None:
        calls.append("ours")

    found = side_by_side("some", floor, ours, rounds=2)
    assert calls == ["floor", "ours"] * 3
    assert found.floor == [3.0, 5.0] and len(found.ours) == 2 and max(found.ours) < 1


def test_what_was_found_is_written_as_a_table_and_a_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["aopc", "joint", "--rounds", "1", "--images", "64", "--out", str(tmp_path / "found")]
    monkeypatch.setattr("sys.argv", ["benchmarks", *words])
    benchmarks.main()
    table = pd.read_csv(tmp_path / "found" / "benchmarks.csv")
    assert len(table) == 4 and (table["ratio"] > 0).all() and table["name"].str.contains("AOPC of 64").sum() == 2
    assert min(Image.open(tmp_path / "found" / "benchmarks.png").size) > 100


def test_an_unknown_benchmark_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "trian"])
    with pytest.raises(SystemExit, match="2"):
        benchmarks.main()
    assert "no benchmark trian (there are train, joint, aopc" in capsys.readouterr().err
