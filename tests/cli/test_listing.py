"""`xmnist runs`: what lies on the disk is told as it is, whatever it is, and removed only when that is meant."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from helpers import composed
from xmnist.cli import listing
from xmnist.config import resolution
from xmnist.runs import claims, index, store
from xmnist.runs.store import Run
from xmnist.runtime import reading
from xmnist.runtime.errors import InputError

DECODED = {"reconstruction_sse": 20.5, "loss": 3.0, "accuracy": 0.25}


@cache  # composing takes longer than all else here
def composed_once(stage: str, words: tuple[str, ...]) -> resolution.Settings:
    return resolution.resolve(composed("dataset=mnist", *words, stage=stage), stage)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """`made("alpha=0.5", ...)`: the folder of a finished run that did nothing but write these figures."""

    def make(*words: str, stage: str = "train", figures: Any = DECODED, **files: str) -> Path:
        run = Run(stage, replace(composed_once(stage, words), out_dir=str(tmp_path / "out")))
        with claims.claim(run, f"xmnist {stage} {' '.join(words)}"):
            run.write_json("metrics.json", figures)
            for name, text in files.items():
                (run.path / f"{name}.csv").write_text(text)
        return run.path

    return make


@pytest.fixture
def listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[dict[str, Any]]]:
    """`listed("alpha=0", ...)`: what `xmnist runs --json` says."""

    def ask(*words: str) -> list[dict[str, Any]]:
        listing.main([f"out_dir={tmp_path / 'out'}", "--json", *words])
        answer = json.loads(capsys.readouterr().out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
        assert isinstance(answer, list)
        return answer

    return ask


@pytest.fixture
def told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`told("--remove", ...)`: all that `xmnist runs` prints."""

    def ask(*words: str) -> str:
        listing.main([f"out_dir={tmp_path / 'out'}", *words])
        return "".join(capsys.readouterr())

    return ask


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


def state(path: Path, **changes: Any) -> Path:
    """Say something else in a run's status."""
    status = json.loads((path / "status.json").read_text()) | changes
    del status["checksum"]
    (path / "status.json").write_text(json.dumps(status | {"checksum": reading.checksum(status)}))
    return path


DEEP = '{"a":' * 3000 + "1" + "}" * 3000
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz"))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("status.json", DEEP, "status.json is damaged"),
        ("status.json", " " * 5_000_000 + "{}", "bytes, of at most"),
        ("status.json", None, "it is no regular file"),
        ("config.yaml", DEEP, "nested too deep"),
        ("config.yaml", BOMB, "refers to itself"),
        ("config.yaml", "a: 1\n" * 6_000_000, "bytes, of at most"),
        ("config.yaml", None, "it is no regular file"),
        ("summary.csv", None, ""),
    ],
)
def test_a_hostile_file_of_a_run_is_told_and_stops_nothing(
    made: Any, listed: Any, tmp_path: Path, name: str, text: str | None, reason: str
) -> None:
    path, other = made("alpha=0.5"), made("alpha=0.25")
    run = Run("train", replace(composed_once("train", ("alpha=0.5",)), out_dir=str(tmp_path / "out")))
    assert run.path == path and run.finished()
    (path / name).unlink(missing_ok=True)
    if text is None:
        os.mkfifo(path / name)  # whoever opens it waits until somebody writes
    else:
        (path / name).write_text(text)
    one, two = sorted(listed(), key=lambda each: each["path"] == str(other))
    assert two["state"] == "done" and reason in (one["error"] or "")
    assert one["state"] == ("damaged" if name == "status.json" else "done")
    assert run.finished() == (name != "status.json")
    if name == "config.yaml":
        with pytest.raises(ValueError, match="cannot be read"):
            store.described(path, "train")


@pytest.mark.parametrize(("key", "value"), [("files", ["model.pt"]), ("files", {"model.pt": 1}), ("stands_on", "x")])
def test_a_status_of_another_shape_is_damaged(made: Any, listed: Any, tmp_path: Path, key: str, value: Any) -> None:
    path = state(made("alpha=0.5"), **{key: value})
    (one,) = listed()
    assert one["state"] == "damaged" and f"{key} is" in one["error"]
    run = Run("train", replace(composed_once("train", ("alpha=0.5",)), out_dir=str(tmp_path / "out")))
    assert run.path == path and run.status() == {} and not run.finished()


def edit(path: Path, old: str, new: str) -> None:
    text = (path / "config.yaml").read_text()
    assert old in text
    (path / "config.yaml").write_text(text.replace(old, new))


def test_a_run_is_told_with_all_that_is_known_of_it(made: Any, listed: Any) -> None:
    path = made("alpha=0.5")
    (one,) = listed()
    assert 0 <= one.pop("age_seconds") < 60 and one.pop("seconds") < 60 and one["settings"].pop("alpha") == 0.5
    assert datetime.fromisoformat(one.pop("started")).tzinfo == UTC
    assert one.pop("bytes") == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert one.pop("settings")["classifier"]["name"] == "vgg_small"
    assert one == {
        **{"path": str(path), "stage": "train", "state": "done", "dataset": "mnist", "model": "cladec", "error": None},
        **{"figures": {"reconstruction_sse": 20.5, "accuracy": 0.25}, "command": "xmnist train alpha=0.5"},
        "edited": False,
        "warnings": [],
    }


def test_altered_figures_are_not_told(made: Any, listed: Any) -> None:
    path = made() / "metrics.json"
    path.write_text(path.read_text().replace("0.25", "0.99"))
    (one,) = listed()
    assert one["figures"] == {} and "metrics.json is not the file that this run wrote" in one["error"]


def test_a_run_whose_config_was_edited_is_not_removed(made: Any, told: Any) -> None:
    path = made("seed=1")
    edit(path, "seed: 1", "seed: 77")
    assert "stays: its config.yaml was edited" in told("seed=77", "--remove", "--yes") and path.is_dir()


LADDER = """kind,name,reconstruction_sse
model,classifier,0
model,"refae,layer=a",1
model,"cladec,layer=a",3
model,"cladec,layer=b",4
"""
AOPC = "kind,name,accuracy,aopc\nmodel,classifier,0.9,\nexplainer,random,,0.9\nexplainer,lrp,,0.3\nexplainer,ig,,0.2\n"


@pytest.mark.parametrize(
    ("stage", "words", "figures", "files", "expected"),
    [
        ("train", ["model=classifier"], {"loss": 1, "accuracy": 0.9, "epochs": 3}, {}, {"accuracy": 0.9}),
        ("train", ["model=refae"], {}, {}, {}),
        ("train", ["model=refae"], {"reconstruction_sse": float("nan"), "accuracy": 10**400}, {}, {}),
        (
            "train",
            ["alpha=[0,0.5]"],
            {"alpha=0": DECODED, "alpha=0.5": DECODED | {"reconstruction_sse": 9, "accuracy": 0.5}},
            {},
            {"reconstruction_sse": 9, "accuracy": 0.5},
        ),
        (
            "train",
            ["model=joint"],
            {"loss": 1, "accuracy": 0.9, "explanation_loss": 0.2},
            {},
            {"accuracy": 0.9, "explanation_loss": 0.2},
        ),
        ("explain", [], {}, {"selection": "index,label\n7,1\n9,2\n"}, {"images": 2}),
        ("export", [], {"images": {"train": 20, "test": 5}}, {}, {"images": 25}),
        ("evaluate", [], {}, {"summary": AOPC}, {"aopc of lrp": 0.3}),
        ("evaluate", [], {}, {"summary": LADDER}, {"reconstruction_sse of cladec,layer=a": 3.0}),
        ("evaluate", [], {}, {"summary": "kind,name,pompom\nexplainer,a,0.9\nexplainer,b,0.2\n"}, {"pompom of b": 0.2}),
        ("evaluate", [], {}, {"summary": "kind,name,accuracy\nmodel,classifier,0.9\n"}, {"accuracy": 0.9}),
        ("evaluate", [], {}, {"summary": "\0"}, {}),
        ("evaluate", [], {}, {"summary": "kind,name,aopc\nexplainer,a,inf\nexplainer,b,nan\n"}, {}),
    ],
)
def test_the_main_figures(made: Any, stage: str, words: list[str], figures: Any, files: Any, expected: Any) -> None:
    path = made(*words, stage=stage, figures=figures, **files)
    assert index.read(path).figures == expected
    assert index.main_figure(path) == next(iter(expected.items()), None)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("alpha=0.0", {"a"}),
        ("alpha=0,0.25", {"a", "b"}),
        ("alpha=[0.25,1]", {"b"}),
        ("alpha=[0.25]", set()),
        ("alpha=[0.25,1,2]", set()),
        ("alpha=1", {"b"}),
        ("model=cladec", {"a", "b"}),
        ("model=classifier,cladec", {"a", "b", "c", "e"}),
        ("model=classifier", {"c", "e"}),
        ("stage=evaluate", {"e"}),
        ("layer=dense", {"a", "b"}),  # a classifier is the same for all layers
        ("trainer.epochs=7", {"c"}),
        ("classifier=vgg_small", {"a", "b", "c", "e"}),
        ("explainer=gradcam", {"e"}),
        ("explainer=own", {"e"}),
        ("explainer=saliency", set()),
        ("metric=aopc", {"e"}),
        ("trainer.stop_patience=null", {"a", "b", "c", "e"}),
        ("device=cpu", set()),
        ("nothing=ab", set()),
        ("nothing=[]", {"c"}),
        ("older=1h", {"a"}),
        ("newer=60m", {"b", "c", "e"}),
        ("state=failed,done", {"a", "b", "c", "e"}),
    ],
)
def test_filters(made: Any, listed: Any, word: str, expected: set[str]) -> None:
    paths = {"a": made("alpha=0"), "b": made("alpha=[0.25,1]"), "c": made("model=classifier", "trainer.epochs=7")}
    paths["e"] = made("explainer=gradcam", "metric=aopc", stage="evaluate")
    edit(paths["e"], "\n  gradcam:", "\n  own:")  # a method under a name of one's own
    edit(paths["c"], "trainer:", "nothing: []\ntrainer:")
    state(paths["a"], started=(datetime.now(UTC) - timedelta(minutes=61)).isoformat())
    assert {run["path"] for run in listed(word)} == {str(paths[name]) for name in expected}
    assert len(listed("seed=0", word)) == len(expected) and listed("seed=1", word) == []
    assert listed()[0]["path"] == str(paths["a"])  # the oldest first


def test_states(made: Any, listed: Any) -> None:
    state(made("seed=1"), state="failed", error="RuntimeError: no\n room")
    state(made("seed=2"), state="interrupted")
    state(made("seed=3"), state="running")
    with FileLock(state(made("seed=4"), state="running") / ".lock"):
        answer = {run["settings"]["seed"]: (run["state"], run["error"]) for run in listed()}
    dead = ("killed", None)
    assert answer == {1: ("failed", "RuntimeError: no room"), 2: ("interrupted", None), 3: dead, 4: ("running", None)}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"state": "do', "status.json is damaged: Unterminated string"),
        ("[1]", "it holds no keys"),
        ("[" * 100_000, "status.json is damaged: "),
        ('{"state": "done"}', "started is null"),
        ('{"state": ["done"], "started": "2026-01-01"}', 'state is ["done"]'),
        ('{"state": "won", "started": "2026-01-01"}', 'state is "won"'),
        ('{"state": "done", "started": 5}', "started is 5"),
        ('{"state": "done", "started": "2026-01-01", "error": {"a": 1}}', "error is {"),
        ('{"state": "done", "started": "2026-01-01", "command": []}', "command is []"),
        ('{"state": "done", "started": "2026-01-01", "seconds": "long"}', 'seconds is "long"'),
        ('{"state": "done", "started": "2026-01-01"}', "status.json is not what this run wrote"),
        (None, "status.json is missing"),
    ],
)
def test_a_damaged_status_is_told(made: Any, listed: Any, told: Any, text: str | None, reason: str) -> None:
    path = made() / "status.json"
    path.unlink() if text is None else path.write_text(text)
    (one,) = listed("state=damaged")
    assert reason in one["error"] and one["age_seconds"] >= 0 and reason in told()


def test_an_edited_status_and_one_of_another_run_are_told(made: Any, listed: Any) -> None:
    one, other = made("alpha=0.5"), made("alpha=0.25")
    (one / "status.json").write_bytes((other / "status.json").read_bytes())
    assert [run["path"] for run in listed("state=damaged")] == [str(one)]
    text = (other / "status.json").read_text()
    (other / "status.json").write_text(text.replace('"done"', '"failed"'))
    assert len(listed("state=damaged")) == 2


def test_an_edited_config_is_told(made: Any, listed: Any) -> None:
    path = made("alpha=0.5")
    edit(path, "alpha: 0.5", "alpha: 0.75")
    (one,) = listed("alpha=0.75")
    assert one["state"] == "done" and "would be called layer=dense,alpha=0.75,seed=0-" in one["error"]
    edit(path, "layer: dense", "")
    assert "it is not what this one writes" in listed()[0]["error"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: !!python/object/apply:os.mkdir [pwned]", "could not determine a constructor"),
        ("a: [" * 10_000, "it is nested too deep"),
        ("a: &a [1, 2]\nb: [*a, *a]", "refers to itself"),
        ("model", "it holds no keys"),
        ("\0", "control characters"),
    ],
)
def test_a_damaged_config_is_told(
    made: Any, listed: Any, text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (made() / "config.yaml").write_text(text)
    (one,) = listed()
    assert one["state"] == "done" and one["settings"] == {} and reason in one["error"]
    assert not (tmp_path / "pwned").exists()


def test_an_interpolation_is_not_resolved_and_dates_and_nan_are_plain(made: Any, listed: Any) -> None:
    path = made("seed=5", "data_dir=data", figures={})
    edit(path, "data_dir: data", "data_dir: ${oc.env:HOME}\nday: 2024-01-02\nnumber: .nan\n3: x")
    settings = listed()[0]["settings"]
    assert (settings["data_dir"], settings["day"], settings["number"]) == ("${oc.env:HOME}", "2024-01-02", None)


def test_what_is_no_run_is_passed_over(made: Any, listed: Any) -> None:
    path = made("metric=aopc", stage="evaluate")
    beside = path.parent / path.name.replace(",seed=0-", ",seeds-")
    for folder in (beside, path.parent / "notes", path.parent / "refused-0123abcd"):
        folder.mkdir()
        (folder / "summary.csv").write_text("")
    (path.parent / "notes" / "config.yaml").write_text("model: mine")
    (path.parents[2] / "multirun.yaml").write_text("")
    assert [run["path"] for run in listed()] == [str(path)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stat=failed"], "no setting 'stat'; did you mean 'state'? (settings: alpha, "),
        (["state=faild"], "no state 'faild'; did you mean 'failed'? (allowed: done, failed, "),
        (["dataset=mnits"], "no dataset 'mnits'; did you mean 'mnist'?"),
        (
            ["trainer.epoch=3"],
            "no setting 'trainer.epoch'; did you mean 'trainer.epochs'? (settings: trainer.batch_size",
        ),
        (["trainer=paper"], "trainer is a group of settings: trainer.batch_size, "),
        (["older=7x"], "older=7x: an age is a number and one of s, m, h, d, w, such as 7d"),
        (["newer=-1d"], "newer=-1d: an age"),
        (["failed"], "cannot read 'failed': a filter is KEY=VALUE"),
        (["alpha="], "cannot read 'alpha='"),
        (["alpha=0", "alpha=1"], "alpha is given twice"),
        (["--rmove"], "no flag '--rmove'; did you mean '--remove'?"),
        (["--yes"], "--yes belongs to --remove"),
        (["--json", "--remove", "state=done"], "give one of them"),
        (["--remove", "--yes"], "--remove needs a filter"),
        (["--remove", "state=done"], "no terminal to ask at: add --yes"),
    ],
)
def test_mistakes_are_named_and_remove_nothing(
    made: Any, told: Any, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    path = made()
    with pytest.raises(InputError) as error:
        told(*words)
    assert message in str(error.value) and "\n" not in str(error.value) and index.read(path).state == "done"


def test_a_mistake_is_found_without_any_run(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="did you mean 'state'"):
        listing.main([f"out_dir={tmp_path / 'out'}", "stat=failed"])
    with pytest.raises(InputError, match="older=soon: an age"):
        listing.main([f"out_dir={tmp_path / 'out'}", "older=soon"])
    with pytest.raises(InputError, match="there is no such folder"):
        listing.main([f"out_dir={tmp_path / 'missing'}"])


def test_what_would_have_fitted_is_told(made: Any, told: Any) -> None:
    made("alpha=0.5"), made("alpha=0.25")
    assert told("alpha=0.75") == "xmnist: no run fits alpha=0.75 (there: 0.25, 0.5)\n"


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("Yes", True), ("", False), ("n", False), ("yikes", False)])
def test_removal_shows_and_asks(made: Any, told: Any, answer: str, goes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    failed, done = state(made("alpha=0.5"), state="failed"), made("alpha=0.25")
    (failed / "folder").mkdir()
    (failed / "folder" / "big").write_bytes(bytes(10_000_000))
    (failed / "link").symlink_to(done)
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    text = told("state=failed", "--remove")
    assert "remove this run (10.0 MB)? [y/N] " in text and "alpha=0.5" in text and "alpha=0.25" not in text
    assert ("removed 1 run (10.0 MB)" in text, failed.exists()) == (goes, not goes)
    assert index.read(done).state == "done" and (done / "metrics.json").exists()


def test_removal_without_asking(made: Any, told: Any) -> None:
    paths = [made("alpha=0.5"), made("alpha=0.25")]
    assert "removed 2 runs" in told("alpha=0.5,0.25", "--remove", "--yes")
    assert not any(path.exists() for path in paths)


def test_a_run_at_which_a_process_is_at_work_stays(made: Any, told: Any) -> None:
    held, free = made("alpha=0.5"), made("alpha=0.25")
    with FileLock(held / ".lock"):
        text = told("state=done", "--remove", "--yes")
    assert f"xmnist: {held} stays: a process is at work on it" in text and "removed 1 run (" in text
    assert index.read(held).state == "done" and not free.exists()


def test_a_link_to_a_run_elsewhere_stays(made: Any, told: Any, tmp_path: Path) -> None:
    path = made("alpha=0.5")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemExit):
        told("state=done", "--remove", "--yes")
    assert index.read(path).state == "done" and (path / "metrics.json").exists()


@pytest.mark.parametrize("taken", [True, False])
def test_what_happens_while_the_question_is_open_counts(
    made: Any, told: Any, taken: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = state(made("alpha=0.5"), state="failed", started="2026-01-01T00:00:00+00:00")
    lock = FileLock(path / ".lock")

    def answer(question: str) -> str:
        lock.acquire() if taken else state(path, state="done", started="2026-01-02T00:00:00+00:00")
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(SystemExit) as left:
        told("state=failed", "--remove")
    lock.release()
    reason = "a process is at work on it" if taken else "it is another one by now"
    assert left.value.code == 1 and f"{path} stays: {reason}" in capsys.readouterr().err
    assert (path / "metrics.json").exists()


@pytest.mark.parametrize("width", [80, 100, 200, None])
def test_the_table_fits(made: Any, width: int | None) -> None:
    made("alpha=[1,0.25,0.9]", "model=joint", figures={"accuracy": 0.91234, "explanation_loss": 0.2})
    made("metric=aopc", stage="evaluate", summary=AOPC)
    made(stage="export")
    made("seed=3"), made("seed=3", "trainer.epochs=5")
    path = state(made("seed=4"), state="interrupted", error="a long \x1b[31m story " * 20)
    lines = listing.table(index.below(path.parents[3]), width).splitlines()
    assert len(lines) == 7 and len({line.find("mnist") for line in lines[1:]}) == 1 and "\x1b" not in "".join(lines)
    assert all(len(line) <= width for line in lines) if width else "…" not in "".join(lines)
    for word in ("0.9123 acc", "20.5 sse") + (("seed=3,trainer.epochs=5",) if width in (200, None) else ()):
        assert any(word in line for line in lines), word


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (172_800, "2d"), (1e9, "1653w")])
def test_ages(seconds: float, text: str) -> None:
    assert listing.age_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1_250, "1.2 kB"), (999_600, "1.0 MB"), (5e16, "50000 TB")]
)
def test_sizes(size: float, text: str) -> None:
    assert listing.size_text(size) == text


def test_the_command_line(made: Any, tmp_path: Path) -> None:
    """As typed: without what takes long to import; a reader that leaves is no error, a mistake has exit code 2."""
    state(made(), state="failed")
    code = "import sys\nfrom xmnist.cli.main import main\ntry: main()\nfinally: print(*sys.modules, file=sys.stderr)"
    words = [sys.executable, "-c", code, "runs", f"out_dir={tmp_path / 'out'}"]
    start = time.monotonic()
    answer = subprocess.run(words, capture_output=True, text=True)
    assert answer.returncode == 0 and "failed" in answer.stdout and time.monotonic() - start < 10
    assert not {"torch", "pandas", "matplotlib", "hydra", "numpy"} & set(answer.stderr.split())
    reader, writer = os.pipe()
    os.close(reader)
    words[1:3] = ["-m", "xmnist"]
    answer = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (0, "")
    wrong = subprocess.run(
        [sys.executable, "-m", "xmnist", "runs", "stat=x"], capture_output=True, text=True, cwd=tmp_path
    )
    assert wrong.returncode == 2 and wrong.stderr.startswith("xmnist: no setting 'stat'; did you mean 'state'?")
    assert len(wrong.stderr.splitlines()) == 1
