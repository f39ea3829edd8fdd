"""Fixtures: settings, tiny data, the command line as a user types it."""

import gc
import logging
import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one thread for each of the workers, and for the commands that they start
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["OMP_WAIT_POLICY"] = "passive"  # where a test has two, they must not burn what the other worker needs

from xmnist.runtime import machine

machine.prepare()

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from helpers import TINY, UNREACHABLE, composed, typed
from xmnist.config import resolution
from xmnist.data.base import Data, Info, Split
from xmnist.runs.store import Run
from xmnist.runtime import progress
from xmnist.stages import train

os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="xmnist-tests-")


def pytest_collection_finish() -> None:
    """What is imported by now stays: looking through it again and again takes a tenth of the time."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    gc.unfreeze()  # some libraries tell at the end what was not freed


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees the user's data, a data set that another test settled on, or logs to the screen of another one."""
    monkeypatch.delenv("XMNIST_DEFAULT_DATASET", raising=False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    torch.manual_seed(0)
    handlers = list(logging.getLogger().handlers)
    yield
    for handler in set(logging.getLogger().handlers).difference(handlers):
        if isinstance(handler, progress.Handler):  # of a command that ran in this process: its screen is gone
            logging.getLogger().removeHandler(handler)
    GlobalHydra.instance().clear()


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Any]:
    """`settings("alpha=0.5", ...)`: resolved settings that write below the test's own folder."""

    def resolved(*overrides: str, stage: str = "train") -> Any:
        return replace(resolution.resolve(composed(*overrides, stage=stage), stage), out_dir=str(tmp_path / "out"))

    return resolved


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No run draws pictures, which take half of the time of a tiny one: for tests of anything else."""
    monkeypatch.setattr(Run, "draw", lambda *_: None)


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An `out_dir` with the classifier of the settings TINY, for what explains and measures it."""
    folder = tmp_path_factory.mktemp("classifier")
    train.main(replace(resolution.resolve(composed(*TINY, "model=classifier")), out_dir=str(folder)))
    return folder


@pytest.fixture
def xmnist(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`xmnist("train", ...)`: the command line in a process of its own and an empty folder, without network or data.

    The process has imported PyTorch already, which takes seconds, unless it is to be a `fresh` one.
    """
    (tmp_path / "work").mkdir()

    def run(
        *words: str, unreachable: bool = False, fresh: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("XMNIST_", "HYDRA_"))} | environment
        if not fresh and not unreachable:
            return typed(words, tmp_path / "work", clean)
        return subprocess.run(
            [sys.executable, *(["-c", UNREACHABLE] if unreachable else ["-m", "xmnist"]), *words],
            cwd=tmp_path / "work",
            env=clean,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def tiny_data() -> Data:
    """60 + 20 + 20 random images of 28x28 in three classes."""

    def split(count: int) -> Split:
        return Split(torch.rand(count, 1, 28, 28), torch.arange(count) % 3)

    return Data(split(60), split(20), split(20), Info((1, 28, 28), ("a", "b", "c")))


@pytest.fixture
def real_data() -> str:
    """The folder of the real data sets; without one the test is skipped."""
    folder = os.environ.get("XMNIST_DATA", "")
    if not Path(folder, "MNIST").is_dir():
        pytest.skip("XMNIST_DATA does not name a folder with the real data sets")
    return folder
