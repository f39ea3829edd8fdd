"""Constants and functions that several test modules share."""

from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from xmnist import hooks
from xmnist.cli import conf_dir

TINY = ("+experiment=smoke", "dataset.train=300", "dataset.test=100")
"""The smoke experiment on even less data: a training takes about a second."""


OPTIONS: dict[str, Any] = {
    "seed": 0,
    "epochs": 4,
    "batch_size": 8,
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
}
"""Arguments of `trainer.fit`."""


def composed(*overrides: str) -> DictConfig:
    """The config of `xmnist train OVERRIDES` as Hydra composes it."""
    hooks.register(["dataset=mnist"])
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        return compose("train", list(overrides), return_hydra_config=False)
