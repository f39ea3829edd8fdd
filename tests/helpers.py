"""Constants and functions that several test modules share."""

import gc
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from xmnist.cli import hooks, main
from xmnist.config.declarations import DATASETS
from xmnist.config.defaults import conf_dir
from xmnist.data.sets.downloaded import Published
from xmnist.models import base

TINY = ("+experiment=smoke", "dataset.train=200", "dataset.test=100")
"""The smoke experiment on even less data: a training takes about a second."""


UNREACHABLE = """
from xmnist.data import files
files.MIRRORS["mnist"] = "http://127.0.0.1:9/"
from xmnist.cli.main import main
main()
"""
"""The command line on a machine that cannot reach MNIST's server."""

OPTIONS: dict[str, Any] = {
    "seed": 0,
    "epochs": 4,
    "batch_size": 8,
    "precision": "fp32",
    "optimizer": "adam",
    "lr": 0.01,
    "weight_decay": 0.0,
    "eps": 1e-8,
    "momentum": 0.9,
    "schedule": "constant",
    "warmup": 0.3,
    "step_epochs": 2,
    "factor": 0.5,
    "patience": 0,
    "keep": "last",
    "stop_patience": None,
    "stop_delta": 0.0,
    "min_lr": 0.0,
}
"""All keys of `trainer`, and a seed."""


CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = [
    "xmnist.stages.train",
    "xmnist.stages.explain",
    "xmnist.stages.evaluate",
    "xmnist.stages.export",
    "xmnist.cli.hooks",
    "hydra.main",
]
PRELOADED += ["torch._dynamo", "torchvision", "captum.attr", "zennit.composites", "torchmetrics", "scipy.stats"]
CONTEXT.set_forkserver_preload(PRELOADED)


def started(work: Callable[..., None], *given: Any) -> ForkServerProcess:
    """A process of its own that does some work; it has imported everything already, and begins at once."""
    process = CONTEXT.Process(target=_done, args=(work, *given))
    process.start()
    return process


def _done(work: Callable[..., None], *given: Any) -> None:
    gc.freeze()  # looking through all that is imported costs more than many a command
    work(*given)


def ended(process: ForkServerProcess) -> int | None:
    """The exit code of a process, once it has one."""
    process.join(300)
    return process.exitcode


def type_(words: Sequence[str], folder: Path, environment: Mapping[str, str], said: tuple[str, str]) -> None:
    """Be `xmnist WORDS` in a folder; what it says goes to two files."""
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["xmnist", *words]
    main.main()


def typed(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """`xmnist WORDS`, typed in a folder."""
    with tempfile.TemporaryDirectory() as place:
        said = f"{place}/out", f"{place}/error"
        code = ended(started(type_, words, folder, environment, said))
        assert code is not None, f"{words} did not end"
        return subprocess.CompletedProcess(["xmnist", *words], code, *(Path(each).read_text() for each in said))


@lru_cache(200)
def composed(*overrides: str, stage: str = "train") -> DictConfig:
    """The config of `xmnist STAGE OVERRIDES` as Hydra composes it, for many a test the same."""
    hooks.register(stage, ["dataset=mnist"])
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose(stage, list(overrides), return_hydra_config=False)


def build(name: str, shape: tuple[int, int, int], classes: int, **options: Any) -> nn.Module:
    """A freshly initialised classifier."""
    return base.made({"name": name, **options}).build(shape, classes)


def size_of(model: nn.Module) -> int:
    """How many numbers a model holds: parameters and BatchNorm statistics, as Keras counts them."""
    statistics = (b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in statistics)


def idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file of unsigned bytes."""
    return b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def files_of(name: str, folder: str | Path, **options: Any) -> list[Path]:
    """Where the files of a published data set lie."""
    made = DATASETS.made("dataset", {"name": name, "train": None, "test": None, **options})
    assert isinstance(made, Published)
    return made.files(str(folder))


def images(count: int, seed: int = 0) -> np.ndarray:
    """Random images (N, 28, 28) of unsigned bytes."""
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def labels(count: int, classes: int = 10, first: int = 0) -> np.ndarray:
    """Labels (N,) that go through all classes again and again."""
    return (np.arange(count) % classes + first).astype(np.uint8)
