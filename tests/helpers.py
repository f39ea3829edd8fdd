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

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from xmnist import cli, hooks
from xmnist.config import conf_dir

TINY = ("+experiment=smoke", "dataset.train=200", "dataset.test=100")
"""The smoke experiment on even less data: a training takes about a second."""


UNREACHABLE = """
from xmnist.data import files
files.MIRRORS["mnist"] = "http://127.0.0.1:9/"
from xmnist.cli import main
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
"""Arguments of `trainer.fit`."""


CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = ["xmnist.train", "xmnist.explain", "xmnist.evaluate", "xmnist.export", "xmnist.hooks", "hydra.main"]
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
    cli.main()


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


def size_of(model: nn.Module) -> int:
    """How many numbers a model holds: parameters and BatchNorm statistics, as Keras counts them."""
    statistics = (b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in statistics)
