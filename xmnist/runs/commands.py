"""Commands that make runs, with the overrides that give their settings."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from xmnist.config.components import Options
from xmnist.config.declarations import DATASETS
from xmnist.config.defaults import conf_dir, option
from xmnist.config.derived import plain
from xmnist.config.kinds import loss_weights
from xmnist.config.rules import quoted
from xmnist.config.schema import COMMON, JOINT_TRAINING, TRAINING
from xmnist.config.settings import Settings
from xmnist.config.sizing import fitted_trainer

UNTOLD = ("force=", "train_missing=", "fail_fast=")
"""Overrides that a run's command leaves out: they change no result."""


def command(stage: str, overrides: Sequence[str]) -> str:
    """Return the command line that makes a run, without the overrides that change no result."""
    return shlex.join(["xmnist", stage, *(word for word in overrides if not word.startswith(UNTOLD))])


def train_command(settings: Settings) -> str:
    """Return the command line that makes the `train` run of these settings."""
    return command("train", words(settings))


def words(settings: Settings) -> list[str]:
    """Return the overrides that give `xmnist train` these settings: all values that differ from the defaults."""
    top = OmegaConf.load(Path(conf_dir(), "train.yaml"))
    assert isinstance(top, DictConfig)
    out, values = [], settings.plain()
    for group, default in (("dataset", None), ("classifier", "vgg_small"), ("model", "cladec")):
        name = values[group]["name"]
        out += [f"{group}={name}"] if name != default else []
        file = option(group, name)
        out += _changed(f"{group}.", values[group], file.get("model", file))
        if group == "model":
            out += _changed("", {key: values[key] for key in ("alpha", *loss_weights()) if key in values}, file)
    options, usual = values["trainer"], option("trainer", "default")
    images = settings.dataset.training_images()
    trainer = fitted_trainer(usual | {"joint": {}}, images) | {"joint": usual["joint"]}
    out += _changed("trainer.", options, trainer)
    part, rules = settings.model.part or "decoder", TRAINING | JOINT_TRAINING
    defaults = {key: rules[key].convert(usual) for key, usual in trainer[part].items() if key in options[part]}
    out += _changed(f"trainer.{part}.", options | options[part], options | defaults)
    untold = ["force", "train_missing", "hints"]
    if settings.model.explained:
        untold += ["layer", "neurons"]  # only a decoder has them
    common = {key: values[key] for key in COMMON if values[key] != top[key] and key not in untold}
    return out + [f"{key}={spelled(value)}" for key, value in common.items()]


def _changed(where: str, values: Options, file: Options) -> list[str]:
    """Return overrides for the values that differ from those of a config file."""
    different = {k: v for k, v in values.items() if k != "fingerprint" and (k not in file or file[k] != v)}
    return [f"{where}{k}={spelled(v)}" for k, v in different.items() if not isinstance(v, dict)]


def spelled(value: Any) -> str:
    """Return a value as Hydra's command line reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(spelled, value))}]"
    if isinstance(value, float):
        # The short form is used only if it is read back as the same number.
        return plain(value) if float(plain(value)) == value else repr(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = str(value)
    return text if re.fullmatch(r"[\w./:@%+-]+", text) else quoted(text)


def public(words: Sequence[str]) -> str:
    """Return a command without the folders of the machine where it was typed; needed paths keep their last part."""
    out = []
    folders = ["classifier.weights", *(f"dataset.{key}" for dataset in DATASETS.values() for key in dataset.places)]
    for before, word in zip(["", *words], words, strict=False):
        key, sign, value = word.lstrip("+").partition("=")
        if key in ("out_dir", "data_dir"):
            continue
        if before == "--config-dir" or key in folders:
            word = f"{key}{sign}{Path(value).name}" if sign else Path(word).name
        out.append(word)
    return shlex.join(out)
