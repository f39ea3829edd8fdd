"""Networks that are trained side by side: the same weights, the same files, and no less safe."""

import errno
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

import waiting
from helpers import TINY, ended, started, type_
from xmnist.config import resolution
from xmnist.runs.store import Run
from xmnist.stages import explaining, missing, train
from xmnist.training import networks, results, side_by_side, workers
from xmnist.training.loop import NotFiniteError

Settings = Callable[..., resolution.Settings]


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine with two cores, where the shortest training pays."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    monkeypatch.setattr(side_by_side, "PAYS", 0)
    yield
    torch.set_num_threads(before)


class Here:
    """In place of a process: does what it is to do at once, and knows what that was."""

    done: ClassVar[list[tuple[str, float | None]]] = []

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def submit(self, work: Callable[[resolution.Settings], str], settings: resolution.Settings) -> Future[str]:
        self.done.append((settings.model.name, settings.alpha))
        future = Future[str]()
        future.set_result(work(settings))
        return future

    def shutdown(self, **_: Any) -> None: ...


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float | None]]:
    monkeypatch.setattr(side_by_side, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(workers, "_journal", SimpleNamespace())
    for module, name in ((results, "draw"), (train, "_draw")):
        monkeypatch.setattr(module, name, lambda *_: None)  # pictures would take half of the time
    Here.done = []
    return Here.done


def test_a_list_of_alphas_gives_what_each_gives_alone(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    several = settings(*TINY, "alpha=[0,0.5]")
    table = train.main(several)
    assert "training 2 networks, 2 at a time" in caplog.text
    assert "ClaDec of layer dense, alpha 0.5: epoch 2/2" in caplog.text  # by another process, told here
    for alpha in ("0", "0.5"):
        single = settings(*TINY, f"alpha={alpha}")
        beside, alone = Run("train", single), Run("train", replace(single, out_dir=single.out_dir + "-alone"))
        assert beside.status()["state"] == "done" and beside.status()["pid"] != os.getpid()
        train.main(alone.settings)
        assert (alone.path / "model.pt").read_bytes() == (beside.path / "model.pt").read_bytes()
        effort = ("seconds", "images_per_second")
        figures = {name: value for name, value in alone.metrics().items() if name not in effort}
        assert figures == {name: value for name, value in table[f"alpha={alpha}"].items() if name not in effort}


def test_a_forced_list_is_done_once_more_and_not_twice(settings: Settings, here: list[Any]) -> None:
    several = settings(*TINY, "alpha=[0,1]")
    train.main(several)
    before = Run("train", settings(*TINY, "alpha=1")).status()
    train.main(replace(several, force=True))
    assert here == 2 * [("cladec", 0.0), ("cladec", 1.0)]
    assert Run("train", settings(*TINY, "alpha=1")).status()["forced"] and not before["forced"]


def test_the_jobs_of_a_sweep_that_differ_in_alpha_are_trained_together(
    settings: Settings, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [settings(*TINY, f"layer={layer}", f"alpha={alpha}") for layer in ("dense", "conv") for alpha in (0, 0.5)]
    monkeypatch.setattr(train, "planned", list(jobs))
    for job in jobs[:2]:
        train.main(job)
    assert here == [("cladec", 0), ("cladec", 0.5)]
    assert train.planned == jobs[2:]  # what fails must not be tried again by every job
    assert [Run("train", job).finished() for job in jobs] == [True, True, False, False]


@pytest.mark.parametrize("words", [("model=joint", "alpha=[1,0.25,0.9]"), ("model=refae",), ("alpha=[0]",)])
def test_other_jobs_of_a_sweep_are_trained_one_by_one(
    words: tuple[str, ...], settings: Settings, here: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Any] = []
    monkeypatch.setattr(networks, "train", lambda own, typed=None: trained.append(own) or Run("train", own))
    monkeypatch.setattr(train, "_draw", lambda *_: None)
    monkeypatch.setattr(missing, "train", lambda *_: None)
    job = settings(*TINY, *words)
    monkeypatch.setattr(train, "planned", [job, replace(job, alpha=[0.5, 1.0, 1.0])])
    train.main(job)
    assert here == [] and len(trained) == 1


def test_a_command_with_several_jobs_knows_them_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmnist.cli import main

    monkeypatch.setattr(train, "planned", [])
    out_dir = settings().out_dir
    monkeypatch.setattr(sys, "argv", ["xmnist", "train", *TINY, "-m", "alpha=0,0.5", f"out_dir={out_dir}"])
    monkeypatch.setattr(train, "main", lambda settings, typed: {})
    main.main()
    assert train.planned == [settings(*TINY, f"alpha={alpha}") for alpha in (0, 0.5)]


@pytest.mark.usefixtures("undrawn")
def test_explainers_that_need_several_networks_have_them_trained_together(settings: Settings, here: list[Any]) -> None:
    words = ("explainer=[refae,cladec]", "alpha=[0,0.5]", "metric=reconstruction")
    explaining.scene(settings(*TINY, *words, "metrics.reconstruction.evaluation_accuracy=true", stage="evaluate"))
    decoders = [("refae", None), ("cladec", 0.0), ("cladec", 0.5)]
    assert sorted(map(str, here[:3])) == sorted(map(str, decoders))
    assert sorted(map(str, here[3:])) == sorted(str(("evaluation", alpha)) for _, alpha in decoders)


def test_what_fails_beside_others_fails_as_it_does_alone(
    settings: Settings, here: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    several = settings(*TINY, "alpha=[0,0.5]")
    decoder = several.trainer.decoder | {"lr": 1e30, "optimizer": "sgd"}
    several = replace(several, trainer=replace(several.trainer, decoder=decoder))
    with pytest.raises(NotFiniteError):
        train.main(several)
    assert len(here) == 2 and "ClaDec of layer dense, alpha 0.5 failed beside others: the loss is" in caplog.text
    assert Run("train", several).status()["state"] == "failed"
    assert Run("train", replace(several, alpha=0.0)).status()["state"] == "failed"


def test_after_the_death_of_a_process_the_rest_is_trained_here(
    settings: Settings, here: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dead = Future[str]()
    dead.set_exception(BrokenProcessPool())
    idle = [True, False]  # the second process has died before it is given anything

    def submit(*_: Any) -> Future[str]:
        if idle.pop():
            raise BrokenProcessPool
        return dead

    monkeypatch.setattr(Here, "submit", submit)
    assert set(train.main(settings(*TINY, "alpha=[0,1]"))) == {"alpha=0", "alpha=1"}
    assert caplog.text.count("a process died") == 1


def test_without_semaphores_one_is_trained_after_the_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(side_by_side, "ProcessPoolExecutor", full)
    members = {0: settings(*TINY, "alpha=0"), 1: settings(*TINY, "alpha=1")}
    assert side_by_side._all(members, 2) == set()
    assert "no semaphores can be made (No space left on device)" in caplog.text


def test_half_a_line_of_a_journal_is_told_when_it_is_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal, journals = workers._Journal(tmp_path / "1"), workers.Journals(tmp_path)
    journal.title = "a network"
    for text in ("epoch 1", "training a network: here"):
        journal.emit(logging.LogRecord("xmnist", logging.WARNING, "", 0, text, None, None))
    whole = (tmp_path / "1").read_text()
    (tmp_path / "1").write_text(whole[:-5])  # its process was killed, or is at it
    journals.tell()
    assert caplog.messages == ["a network: epoch 1"]
    (tmp_path / "1").write_text(whole)
    journals.tell()
    journals.tell()
    assert caplog.messages == ["a network: epoch 1", "training a network: here"]


def kill(seed: int, longest: float, count: int) -> None:
    """Kill workers of this process, each so many seconds after it was started; returns at once."""
    moments = random.Random(seed)

    def blow(worker: Any) -> None:
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGKILL)

    def strike() -> None:
        known = set[int | None]()
        while len(known) < count:
            new = [each for each in multiprocessing.active_children() if each.pid not in known]
            for worker in new[: count - len(known)]:
                known.add(worker.pid)
                threading.Timer(moments.uniform(0, longest), blow, [worker]).start()
            time.sleep(0.01)

    threading.Thread(target=strike, daemon=True).start()


@pytest.mark.parametrize("seed", range(5))
def test_whenever_processes_are_killed_the_others_go_on(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In processes that wait instead of training, and have not to load PyTorch for that."""
    monkeypatch.setattr(workers, "begin", waiting.begin)
    monkeypatch.setattr(workers, "train", waiting.train)
    pieces = {place: {"seconds": 0.1} for place in range(12)}
    done = set[int]()
    work = threading.Thread(target=lambda: done.update(side_by_side._all(pieces, 4)), daemon=True)
    work.start()
    kill(seed, 0.6, 3)
    work.join(60)
    assert not work.is_alive(), "it hangs"
    died = caplog.text.count("a process died")
    assert len(done) == len(pieces) - died and died <= 3


@pytest.mark.parametrize(("alphas", "threads", "pays"), [((0, 1), 1, 0), ((0, 1), 2, 10**9), ((0,), 2, 0)])
def test_processes_are_started_only_where_they_pay(
    settings: Settings,
    alphas: tuple[int, ...],
    threads: int,
    pays: int,
    here: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(threads)
    monkeypatch.setattr(side_by_side, "PAYS", pays)
    members = [settings(*TINY, f"alpha={alpha}") for alpha in alphas]
    assert side_by_side.side_by_side(members) == set() and here == []


def test_little_memory_means_few_processes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    members = [settings(*TINY, f"alpha={alpha}") for alpha in (0, 1)]
    assert side_by_side._available() > 2**28
    for gigabytes, count in ((8, 2), (2, 1), (1, 0)):
        monkeypatch.setattr(side_by_side, "_available", lambda gigabytes=gigabytes: gigabytes * 2**30)
        assert side_by_side._count(members) == count


def test_a_process_that_may_not_start_others_does_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    assert side_by_side._count([settings(*TINY, f"alpha={alpha}") for alpha in (0, 1)]) == 1


@pytest.mark.slow
def test_a_command_whose_processes_are_killed_does_all_that_it_was_to_do(tmp_path: Path) -> None:
    """`SEED=7 python -m pytest tests/training/test_side_by_side.py -k command_whose` kills them at other moments."""
    words = ("train", *TINY, "alpha=[0,0.5,1]", f"out_dir={tmp_path}")
    command = started(command_line, tmp_path, words, int(os.environ.get("SEED", 0)))
    assert ended(command) == 0, (tmp_path / "said").read_text()
    said = (tmp_path / "said").read_text()
    states = [json.loads(path.read_text())["state"] for path in tmp_path.rglob("status.json")]
    assert states == 5 * ["done"] and "a process died" in said, said


def command_line(folder: Path, words: tuple[str, ...], seed: int | None = None) -> None:
    """The command line on a machine with two cores, where the shortest training pays; its workers may be killed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a background job ignores
    side_by_side.PAYS = 0
    torch.set_num_threads(2)
    if seed is not None:
        kill(seed, 4, 2)
    type_(words, folder, dict(os.environ), 2 * (str(folder / "said"),))


BLOWS = {"parent is killed": signal.SIGKILL, "terminal is closed": signal.SIGHUP}


@pytest.mark.slow
@pytest.mark.parametrize("blow", ["parent is killed", "terminal is closed", "last child is killed"])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, blow: str) -> None:
    words = ("train", *TINY, "alpha=[0,1]", "trainer.decoder.epochs=100000", f"out_dir={tmp_path}")
    command = started(command_line, tmp_path, words)
    try:
        begun = waited(lambda: sorted(tmp_path.glob("train/glyphs/cladec/*alpha=[01],*/history.csv")), 2)
        pids = [read(path)["pid"] for path in begun]
        if blow == "last child is killed":
            os.kill(max(pids), signal.SIGKILL)
            waited(lambda: [pid for pid in pids if not alive(pid)], 1)  # the parent has noticed, and the other goes on
        assert command.pid is not None
        os.kill(command.pid, BLOWS.get(blow, signal.SIGINT))
        command.join(60)
    finally:
        command.kill()
    waited(lambda: [pid for pid in pids if not alive(pid)], 2)
    assert not any(map(alive, pids))


def waited(look: Callable[[], list[Any]], count: int) -> list[Any]:
    for _ in range(600):
        if len(look()) == count:
            return look()
        time.sleep(0.1)
    raise AssertionError(f"{look()} after a minute")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def read(history: Path) -> Any:
    return json.loads((history.parent / "status.json").read_text())
