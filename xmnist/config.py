"""What a config may say, and which of it can change a result.

Everything here works without torch, so that a mistyped word is answered at once. A schema is a table from key to
`Rule`; `resolve` turns a composed Hydra config into plain checked values, which is all that the rest of the
package ever sees.
"""

import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xmnist.data import files
from xmnist.errors import InputError, unknown

Settings = dict[str, Any]
"""A resolved config: plain values, nested as in YAML."""


@dataclass(frozen=True)
class Rule:
    """What one key may hold: `convert` returns the value in its normal form or raises ValueError."""

    text: str
    convert: Callable[[Any], Any]


def _raise_unless(condition: bool, value: Any) -> Any:
    if not condition:
        raise ValueError
    return value


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] with `above`."""

    def convert(value: Any) -> float:
        _raise_unless(isinstance(value, int | float) and not isinstance(value, bool), value)
        inside = low < value <= high if above else low <= value <= high
        return float(_raise_unless(math.isfinite(value) and inside, value)) + 0.0  # -0.0 is 0.0

    if math.isfinite(high):
        return Rule(f"a number in {'(' if above else '['}{low:g}, {high:g}]", convert)
    return Rule(f"a number {'above' if above else 'of at least'} {low:g}", convert)


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number of at least `low`, at most `high`."""

    def convert(value: Any) -> int:
        _raise_unless(isinstance(value, int) and not isinstance(value, bool), value)
        return _raise_unless(low <= value and (high is None or value <= high), value)

    return Rule(
        f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}",
        convert,
    )


def choice(*words: str) -> Rule:
    """One of a closed list of words."""
    return Rule("one of " + ", ".join(words), lambda value: _raise_unless(value in words, value))


def maybe(rule: Rule) -> Rule:
    """What `rule` takes, or null."""
    return Rule(f"{rule.text}, or null", lambda value: None if value is None else rule.convert(value))


def one_or_more(rule: Rule) -> Rule:
    """What `rule` takes, or a list of it without repetitions."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return rule.convert(value)
        values = [rule.convert(v) for v in value]
        return _raise_unless(bool(values) and len(set(values)) == len(values), values)

    return Rule(f"{rule.text}, or a list of different ones", convert)


def text(what: str) -> Rule:
    """A text that is not empty; `what` says of what kind."""
    return Rule(what, lambda value: _raise_unless(isinstance(value, str) and bool(value), value))


YES_NO = Rule("true or false", lambda value: _raise_unless(isinstance(value, bool), value))
NOTHING = Rule("null", lambda value: _raise_unless(value is None, value))
DEVICE = Rule(
    "one of auto, cpu, cuda, cuda:N, mps",
    lambda value: _raise_unless(re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", value) is not None, value),
)
SEED = whole(0, 2**31 - 1)

_SIZES = {"train": maybe(whole(20)), "test": maybe(whole(1)), "validation": number(0, 0.5, above=True)}
_DECODER = {"decoder": choice("published", "dense128", "conv64"), "reconstruction": choice("sse", "mse")}
_TRAINING = {
    "epochs": whole(1),
    "batch_size": whole(1),
    "optimizer": choice("sgd", "adam", "adamw"),
    "lr": number(0, above=True),
    "weight_decay": number(0),
    "eps": number(0, above=True),
    "momentum": number(0, 1),
    "schedule": choice("constant", "one_cycle", "step", "plateau"),
    "warmup": number(0, 1, above=True),
    "step_epochs": whole(1),
    "factor": number(0, 1, above=True),
    "patience": whole(0),
    "keep": choice("best", "last"),
    "stop_patience": maybe(whole(0)),
    "stop_delta": number(0),
}

GROUPS: dict[str, dict[str, dict[str, Rule]]] = {
    "dataset": {
        **{name: _SIZES for name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")},
        "emnist": {**_SIZES, "split": choice(*files.EMNIST_SPLITS)},
        "glyphs": {
            "train": whole(200, 1_000_000),
            "test": whole(1, 1_000_000),
            "validation": _SIZES["validation"],
            "seed": SEED,
            "rotation": number(0, 180),
            "shear": number(0, 45),
            "zoom": number(0, 0.9),
            "shift": number(0, 28),
            "blur": number(0, 1),
            "noise": number(0, 1),
        },
    },
    "classifier": {"vgg_small": {"dropout": number(0, 0.99)}},
    "model": {"classifier": {}, "cladec": _DECODER, "refae": _DECODER},
}
"""Group -> option's `name` -> the keys that it takes."""

ALPHA = {"classifier": NOTHING, "cladec": one_or_more(number(0, 1)), "refae": NOTHING}
"""What `alpha` may be for each model."""

COMMON = {
    "layer": text("a layer of the classifier, by its name or dotted path"),
    "seed": SEED,
    "device": DEVICE,
    "data_dir": text("a folder"),
    "out_dir": text("a folder"),
    "train_missing": YES_NO,
    "force": YES_NO,
}


def _check_keys(where: str, given: Any, rules: Mapping[str, Rule], partial: bool = False) -> Settings:
    if not isinstance(given, dict):
        raise InputError(f"{where.rstrip('.')} must be a group of keys, got {given!r}")
    for key in given:
        if key not in rules:
            raise unknown("key", f"{where}{key}", [f"{where}{k}" for k in rules], "keys")
    out = {}
    for key, rule in rules.items():
        if key not in given:
            if not partial:
                raise InputError(f"{where}{key} is missing: it must be {rule.text}")
            continue
        try:
            out[key] = rule.convert(given[key])
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"{where}{key} must be {rule.text}, got {given[key]!r}") from None
    return out


def resolve(cfg: DictConfig) -> Settings:
    """The composed config as plain values, every key checked for its name, type and range.

    Raises:
        InputError: names the first key that is wrong and what it may hold.
    """
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    top = {str(k): v for k, v in plain.items()}
    keys = [*COMMON, "alpha", "trainer", *GROUPS]
    for key in top:
        if key not in keys:
            raise unknown("key", key, keys, "keys")
    for key in keys:
        if key not in top:
            raise InputError(f"{key} is missing")
    out: Settings = {}
    for group, options in GROUPS.items():
        given = dict(top[group]) if isinstance(top[group], dict) else {"name": top[group]}
        name = given.pop("name", None)
        if name not in options:
            raise unknown(group, str(name), options)
        out[group] = {"name": name, **_check_keys(f"{group}.", given, options[name])}
    try:
        out["alpha"] = ALPHA[out["model"]["name"]].convert(top["alpha"])
    except (ValueError, TypeError, OverflowError):
        what = ALPHA[out["model"]["name"]].text
        raise InputError(f"alpha must be {what} with model={out['model']['name']}, got {top['alpha']!r}") from None
    given = dict(top["trainer"]) if isinstance(top["trainer"], dict) else {"name": top["trainer"]}
    decoder = _check_keys("trainer.decoder.", given.pop("decoder", None) or {}, _TRAINING, partial=True)
    out["trainer"] = {**_check_keys("trainer.", given, _TRAINING), "decoder": decoder}
    return out | _check_keys("", {k: v for k, v in top.items() if k in COMMON}, COMMON)


def describe(chosen: Mapping[str, str]) -> str:
    """Every key and what it takes, a line each, for the help text; `chosen` is the option taken in each group."""
    lines = {key: rule.text for key, rule in COMMON.items()}
    lines["alpha"] = ALPHA[chosen["model"]].text
    for group, name in chosen.items():
        lines |= {f"{group}.{key}": rule.text for key, rule in GROUPS[group][name].items()}
    lines |= {f"trainer.{key}": rule.text for key, rule in _TRAINING.items()}
    lines["trainer.decoder.*"] = "any key of trainer, for ClaDec and RefAE only"
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {what}" for key, what in lines.items())


def training(settings: Settings) -> Settings:
    """How this run's own network is trained: `trainer`, with what `trainer.decoder` changes for decoders."""
    own = {k: v for k, v in settings["trainer"].items() if k != "decoder"}
    return own if settings["model"]["name"] == "classifier" else own | settings["trainer"]["decoder"]


def explained_classifier(settings: Settings) -> Settings:
    """The settings of the classifier run that a decoder's run stands on."""
    return {**settings, "model": {"name": "classifier"}, "alpha": None, "force": False}


def identity(settings: Settings) -> Settings:
    """Every setting that can change the result of a run, and nothing else (no device, no paths)."""
    keys = ("dataset", "classifier", "model", "seed")
    out = {k: settings[k] for k in keys} | {"trainer": training(settings)}
    if settings["model"]["name"] != "classifier":
        own = {"layer": settings["layer"], "alpha": settings["alpha"]}
        out |= own | {"explains": identity(explained_classifier(settings))}
    return out


def plain(alpha: float) -> str:
    """An alpha as people write it: 0, 0.25, 0.999."""
    return f"{alpha:.12g}"


def label(settings: Settings) -> str:
    """The readable part of a run's name, such as `layer=dense,alpha=0.25,seed=0`."""
    if settings["model"]["name"] == "classifier":
        parts = [f"classifier={settings['classifier']['name']}"]
    else:
        parts = [f"layer={settings['layer']}"]
    alpha = settings["alpha"]
    if isinstance(alpha, list):
        short = [plain(a) for a in alpha]
        parts.append("alpha=" + ("+".join(short) if len(short) < 5 else f"{short[0]}..{short[-1]}({len(short)})"))
    elif alpha is not None:
        parts.append(f"alpha={plain(alpha)}")
    return ",".join([*parts, f"seed={settings['seed']}"])


def default_dataset(data_dir: str) -> str:
    """`mnist` where its files are or can be fetched, else the built-in `glyphs`.

    The answer is kept in the environment, so that it is found once and the workers of a sweep give the same one.
    """
    if "XMNIST_DEFAULT_DATASET" not in os.environ:
        there = files.present("mnist", data_dir) or files.reachable("mnist")
        os.environ["XMNIST_DEFAULT_DATASET"] = "mnist" if there else "glyphs"
    return os.environ["XMNIST_DEFAULT_DATASET"]


def conf_dir() -> str:
    """Where the configs are: beside the package in a checkout, inside it when installed."""
    here = Path(__file__).resolve().parent
    return str(next(d for d in (here / "conf", here.parent / "conf") if (d / "train.yaml").is_file()))


def check_writable(out_dir: str) -> None:
    """Make sure that runs can be written.

    Raises:
        InputError: `out_dir` cannot be made, or no file can be written in it.
    """
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out_dir):
            pass
    except OSError as error:
        raise InputError(f"out_dir={out_dir}: nothing can be written there ({error.strerror})") from None
