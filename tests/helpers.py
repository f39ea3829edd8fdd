"""Constants and functions that several test modules share."""

from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import nn

from xmnist import hooks
from xmnist.config import conf_dir

TINY = ("+experiment=smoke", "dataset.train=300", "dataset.test=100")
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


def composed(*overrides: str, stage: str = "train") -> DictConfig:
    """The config of `xmnist STAGE OVERRIDES` as Hydra composes it."""
    hooks.register(stage, ["dataset=mnist"])
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose(stage, list(overrides), return_hydra_config=False)


def size_of(model: nn.Module) -> int:
    """How many numbers a model holds: parameters and BatchNorm statistics, as Keras counts them."""
    statistics = (b for n, b in model.named_buffers() if n.endswith(("running_mean", "running_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in statistics)
