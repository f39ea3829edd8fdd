"""Killed, interrupted, damaged, full: nothing is lost, done twice or used wrongly."""

import json
import logging
import os
import pickle
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import TINY, ended, started, type_
from xmnist.config import resolution
from xmnist.runs.identity import identity
from xmnist.runs.store import Run, described
from xmnist.runtime import interrupts
from xmnist.runtime.errors import InputError
from xmnist.stages import train
from xmnist.training import checks, networks, resuming

Settings = Callable[..., resolution.Settings]


def quiet(out_dir: str) -> None:
    """Send what a process says to a file."""
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    log = os.open(f"{out_dir}/said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout)


def trained(settings: resolution.Settings) -> None:
    quiet(settings.out_dir)
    train.main(settings)


def command(out_dir: str, words: tuple[str, ...]) -> None:
    Path(out_dir).mkdir(parents=True, exist_ok=True)
    said = f"{out_dir}/said"
    type_([*words, f"out_dir={out_dir}"], Path(out_dir), dict(os.environ), (said, said))


def killed_while_at_it(
    work: Callable[..., None],
    given: tuple[Any, ...],
    out_dir: str,
    progress: str,
    dice: random.Random,
    after: float = 0.1,
) -> bool:
    """Kill a process at a random moment, at its start or soon after it has saved; returns whether it was at work."""

    def saved() -> set[tuple[Path, int]]:
        try:
            return {(path, path.stat().st_mtime_ns) for path in Path(out_dir).rglob(progress)}
        except FileNotFoundError:  # replaced in this moment
            return set()

    before, process = saved(), started(work, *given)
    if dice.random() < 0.6:
        while process.is_alive() and saved() <= before:
            time.sleep(0.002)
        process.join(dice.uniform(0, after))
    else:
        process.join(dice.uniform(0, 0.6))
    process.kill()
    return ended(process) == -signal.SIGKILL


SMALL = ("model=classifier", "classifier=dropout_cnn", "trainer.batch_size=32")
JOINT = ("model=joint", "model.width=2", "classifier=cam_net", "classifier.width=4", "trainer.joint.epochs=[3,3,3]")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "kills"), [((*SMALL, "trainer.epochs=80"), 25), ((*JOINT, "dataset.train=200"), 10)])
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(
    settings: Settings, tmp_path: Path, model: tuple[str, ...], kills: int
) -> None:
    dice, own = random.Random(0), settings(*TINY, *model)
    whole = replace(own, out_dir=f"{tmp_path}/whole")
    assert ended(started(trained, whole)) == 0
    assert all(killed_while_at_it(trained, (own,), own.out_dir, "last.pt", dice) for _ in range(kills))
    assert ended(started(trained, own)) == 0
    log = (Run("train", own).path / "train.log").read_text()
    assert log.count("going on after epoch") > 3
    made = {path.relative_to(own.out_dir): path for path in Path(own.out_dir).rglob("*.pt")}
    assert made
    for place, path in made.items():
        assert path.read_bytes() == Path(whole.out_dir, place).read_bytes(), place
    assert not [path for path in Path(own.out_dir).rglob("*") if path.name.startswith(".partial-")]


SWEEP = ("train", "-m", *TINY, "trainer.epochs=3", "alpha=0,1", "layer=dense,conv")


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_does_every_job_once(tmp_path: Path) -> None:
    dice, out_dir = random.Random(1), str(tmp_path / "out")
    assert ended(started(command, f"{tmp_path}/whole", SWEEP)) == 0
    done: dict[Path, bytes] = {}
    for _ in range(6):
        killed_while_at_it(command, (out_dir, SWEEP), out_dir, "examples.png", dice, after=0.5)
        for path in Path(out_dir).rglob("status.json"):
            if json.loads(path.read_text())["state"] == "done":
                assert done.setdefault(path, path.read_bytes()) == path.read_bytes(), "it was done again"
    assert 0 < len(done) < 5
    assert ended(started(command, out_dir, SWEEP)) == 0
    assert all(path.read_bytes() == status for path, status in done.items())
    weights = {path.relative_to(f"{tmp_path}/whole"): path for path in Path(tmp_path, "whole").rglob("model.pt")}
    assert len(weights) == 5  # the four ClaDecs and their classifier
    for place, path in weights.items():
        assert path.read_bytes() == Path(out_dir, place).read_bytes()
    assert (
        Path(out_dir, "said").read_text().rstrip().endswith("4 done (the table is in " + out_dir + "/train/sweep.csv)")
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_that_a_library_swallows_still_ends_the_run(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    own, save = settings(*TINY, "model=classifier", "trainer.epochs=50"), torch.save
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def swallowing(*given: Any) -> None:
        save(*given)
        try:
            os.kill(os.getpid(), how)
            time.sleep(5)
        except KeyboardInterrupt:
            pass

    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts.listen()
    monkeypatch.setattr(torch, "save", swallowing)
    try:
        with pytest.raises(KeyboardInterrupt):
            train.main(own)
    finally:
        interrupts._asked = False
        for number, handler in before.items():
            signal.signal(number, handler)
    assert Run("train", own).status()["state"] == "interrupted"
    assert len((Run("train", own).path / "history.csv").read_text().splitlines()) == 2


def test_an_interrupt_that_a_library_makes_an_error_of_is_no_failure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(*TINY, "model=classifier")

    def erring(*_: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            interrupts.interrupt()
        raise ValueError("something went wrong")

    monkeypatch.setattr(interrupts, "_asked", False)
    monkeypatch.setattr(torch, "save", erring)
    with pytest.raises(ValueError, match="something went wrong"):
        train.main(own)
    assert Run("train", own).status()["state"] == "interrupted"


def test_a_second_signal_does_not_disturb_what_the_first_one_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr(interrupts, "_asked", False)
    monkeypatch.setattr(os, "_exit", left.append)
    with pytest.raises(KeyboardInterrupt):
        interrupts.interrupt()
    interrupts.interrupt()
    assert left == []
    monkeypatch.setattr(interrupts, "_moment", time.monotonic() - interrupts.PATIENCE - 1)
    interrupts.interrupt()
    assert left == [130]


def test_two_processes_that_begin_together_share_one_run(settings: Settings, tmp_path: Path) -> None:
    words = ("train", *TINY, "model=classifier")
    both = [started(command, f"{tmp_path}/out", words) for _ in range(2)]
    assert [ended(process) for process in both] == [0, 0]
    said = (tmp_path / "out" / "said").read_text()
    assert said.count("training classifier") == 1 and said.count("waiting for it") == 1
    assert said.count("already done") == 1


def limited(settings: resolution.Settings, room: int) -> None:
    """Train where no file may be larger than `room` bytes, from the second epoch on."""
    quiet(settings.out_dir)
    save = Run.save

    def then_none(self: Run, *given: Any) -> None:
        save(self, *given)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    Run.save = then_none  # type: ignore[method-assign]
    cli_like(settings)


def cli_like(settings: resolution.Settings) -> None:
    try:
        train.main(settings)
    except OSError as error:
        print(error, flush=True)
        sys.exit(1)


@pytest.mark.parametrize("room", [200_000, 0])
@pytest.mark.usefixtures("undrawn")
def test_a_full_disk_fails_the_run_and_says_so_and_room_lets_it_go_on(
    settings: Settings, tmp_path: Path, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own = settings(*TINY, "model=classifier", "trainer.epochs=3")
    whole = replace(own, out_dir=f"{tmp_path}/whole")
    train.main(whole)
    assert ended(started(limited, own, room)) == 1
    run = Run("train", own)
    if room:  # enough for the status
        assert run.status()["state"] == "failed"
        assert "File too large; what was saved last is there" in run.status()["error"]
    else:
        assert run.status()["state"] == "running"  # nobody could write that it is not
    assert len(resuming.saved_state(run)["history"]) == 1  # type: ignore[index]
    assert not list(run.path.glob(".partial-*"))
    train.main(own)
    assert "going on after epoch 1" in caplog.text
    assert (run.path / "model.pt").read_bytes() == Path(
        whole.out_dir, run.path.relative_to(own.out_dir), "model.pt"
    ).read_bytes()


class Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def mutated(content: bytes, other: bytes, mark: Path, dice: random.Random) -> bytes:
    """A file's content, damaged: cut off, with a flipped bit or a changed range, of another run, or hostile."""
    kind = dice.choice(["cut", "flip", "flip", "flip", "range", "swap", "hostile", "pickle", "text"])
    place = dice.randrange(len(content))
    if kind == "cut":
        return content[:place]
    if kind in ("flip", "range"):
        changed = bytearray(content)
        for index in range(place, min(len(changed), place + (1 if kind == "flip" else 9))):
            changed[index] ^= 1 << dice.randrange(8)
        return bytes(changed)
    if kind == "hostile":
        return pickle.dumps({"state": Hostile(mark)}, protocol=2)
    if kind == "pickle":
        path = mark.with_suffix(".pt")
        torch.save({"weight": Hostile(mark)}, path)
        return path.read_bytes()
    return (
        other if kind == "swap" else dice.choice([b"", b"{}", b"[]", b"null", b"\xff\xfe", b"state: done", b'{"a": '])
    )


FINISHED = ("model.pt", "status.json", "metrics.json", "config.yaml", "history.csv", "environment.json")
STOPPED = ("last.pt", "phase1.pt", "status.json", "config.yaml")


def finished_run(own: resolution.Settings) -> Run:
    train.main(own)
    return Run("train", own)


def stopped_run(own: resolution.Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A joint model that was interrupted in its second phase."""
    run, save = Run("train", own), Run.save

    def until_then(self: Run, name: str, state: dict[str, Any]) -> None:
        save(self, name, state)
        if state.get("phase") == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "save", until_then)
        train.main(own)
    return run


def used(run: Run) -> Any:
    """What a run's directory is used for: finished, its weights and figures; stopped, the state to go on from."""
    if run.reusable():
        files = [(run.path / name).read_bytes() for name in ("history.csv", "environment.json")]
        return run.load("model.pt"), run.metrics(), identity(described(run.path, "train")), files
    checks.check(run.settings)
    if run.settings.model.name != "joint" or not (run.path / "last.pt").is_file():
        return None
    images = networks.load_data(run.settings)
    parts = networks.tasks(run.settings, images, torch.device("cpu"))
    state = resuming._resumed(run, parts[0].model)
    return state, dict(parts[0].model.state_dict())


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("kind", ["finished", "stopped"])
@pytest.mark.usefixtures("undrawn")
def test_of_200_damaged_files_each_is_refused_or_made_again_and_none_is_used(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    words = (*TINY, "model=classifier") if kind == "finished" else (*TINY, *JOINT, "dataset.train=200")
    runs = []
    for seed in (0, 1):
        own = settings(*words, f"seed={seed}")
        runs.append(finished_run(own) if kind == "finished" else stopped_run(own, monkeypatch))
    run, foreign = runs
    names = FINISHED if kind == "finished" else STOPPED
    whole, right = {name: (run.path / name).read_bytes() for name in names}, used(run)
    dice, mark, told = random.Random(2), tmp_path / "executed", {"refused": 0, "made again": 0, "harmless": 0}
    for _ in range(100):
        name = dice.choice(names)
        (run.path / name).write_bytes(mutated(whole[name], (foreign.path / name).read_bytes(), mark, dice))
        try:
            found = used(run)
        except InputError as error:
            assert "\n" not in str(error) and name in str(error), error
            told["refused"] += 1
        else:
            assert found is None or same(found, right), f"{name} was used"
            told["made again" if found is None else "harmless"] += 1
        assert not mark.exists(), f"{name} was executed"
        for each, content in whole.items():
            (run.path / each).write_bytes(content)
    assert told["refused"] > 30 and (kind == "stopped" or told["made again"] > 5), told
