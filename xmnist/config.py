"""What a command's config says, checked; which of it can change a result; and the commands that say the same.

Everything here works without torch, so that a mistyped word is answered at once. `resolve` turns a composed Hydra
config into plain checked values, which is all that the rest of the package ever sees.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from xmnist.data import files
from xmnist.errors import InputError, unknown
from xmnist.schema import ALPHA, COMMON, GROUPS, LEARNED, METHODS, STAGES, TRAINING, Rule

Settings = dict[str, Any]
"""A resolved config: plain values, nested as in YAML."""

ELSEWHERE = ("explainer", "explainers", "select", "target", "format")
"""What only stages other than `train` use; an experiment may hold it for them."""


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


def _check_named(where: str, given: Any, options: Mapping[str, Mapping[str, Rule]], what: str) -> Settings:
    """A group of keys whose `name` says which keys these are."""
    given = dict(given) if isinstance(given, dict) else {"name": given}
    name = given.pop("name", None)
    if name not in options:
        raise unknown(what, str(name), options)
    return {"name": name, **_check_keys(f"{where}.", given, options[name])}


def resolve(cfg: DictConfig, stage: str = "train") -> Settings:
    """The composed config as plain values, every key checked for its name, type and range.

    Raises:
        InputError: names the first key that is wrong and what it may hold.
    """
    top = _plain(cfg)
    groups, own = STAGES[stage]
    if stage == "train":
        top = {k: v for k, v in top.items() if k not in ELSEWHERE}
    keys = [*COMMON, "alpha", "trainer", *groups, *own]
    for key in top:
        if key == "explainer" and stage != "train":
            raise InputError("a file for an explainer must begin with the line # @package explainers.NAME")
        if key not in keys and (key != "explainers" or stage == "train"):
            raise unknown("key", key, keys, "keys")
    for key in keys:
        if key not in top:
            raise InputError(f"{key} is missing")
    out: Settings = {group: _check_named(group, top[group], GROUPS[group], group) for group in groups}
    try:
        out["alpha"] = ALPHA[out["model"]["name"]].convert(top["alpha"])
    except (ValueError, TypeError, OverflowError):
        what = ALPHA[out["model"]["name"]].text
        raise InputError(f"alpha must be {what} with model={out['model']['name']}, got {top['alpha']!r}") from None
    given = dict(top["trainer"]) if isinstance(top["trainer"], dict) else {"name": top["trainer"]}
    decoder = _check_keys("trainer.decoder.", given.pop("decoder", None) or {}, TRAINING, partial=True)
    out["trainer"] = {**_check_keys("trainer.", given, TRAINING), "decoder": decoder}
    rules = COMMON | own
    out |= _check_keys("", {k: v for k, v in top.items() if k in rules}, rules)
    return out if stage == "train" else _with_explainers(out, top.get("explainers"))


def _plain(cfg: DictConfig) -> Settings:
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


RESERVED = ("images", "labels", "predictions", "indices", "file", "allow_pickle")
"""What an explainer cannot be called: `explanations.npz` has other arrays of these names, or cannot have any."""


def _with_explainers(settings: Settings, given: Any) -> Settings:
    """Settings with checked explainers, and no more of a model than they need."""
    if not isinstance(given, dict) or not given:
        raise InputError(f"explainer must name one or more of {', '.join(METHODS)}")
    explainers = {}
    for name, options in given.items():
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or name in RESERVED:
            reserved = ", ".join(RESERVED)
            raise InputError(f"an explainer cannot be called '{name}': letters, digits and _ only, and not {reserved}")
        if isinstance(options, dict) and "name" not in options:
            raise InputError(f"explainers.{name}.name is missing: it must be one of {', '.join(METHODS)}")
        explainers[name] = _check_named(f"explainers.{name}", options, METHODS, "explainer")
        method, model = explainers[name]["name"], settings["model"]["name"]
        if model not in LEARNED.get(method, (model,)):
            raise InputError(f"explainer={name} needs model={' or '.join(LEARNED[method])}, but this is model={model}")
    methods = {options["name"] for options in explainers.values()}
    if "cladec" not in methods:
        model = {**settings["model"], "name": "refae"} if "refae" in methods else {"name": "classifier"}
        settings = {**settings, "model": model, "alpha": None}
    if isinstance(settings["target"], list) and len(settings["target"]) == 1:
        settings = {**settings, "target": settings["target"][0]}
    return {**settings, "explainers": explainers}


def describe(stage: str, chosen: Mapping[str, str], explainers: Mapping[str, str]) -> str:
    """Every key and what it takes, a line each, for the help text.

    Args:
        chosen: the option taken in each group.
        explainers: the method of each explainer.
    """
    lines = {key: rule.text for key, rule in (COMMON | STAGES[stage][1]).items()}
    lines["alpha"] = ALPHA[chosen["model"]].text
    for group, name in chosen.items():
        lines |= {f"{group}.{key}": rule.text for key, rule in GROUPS[group][name].items()}
    for name, method in explainers.items():
        lines |= {f"explainers.{name}.{key}": rule.text for key, rule in METHODS[method].items()}
    lines |= {f"trainer.{key}": rule.text for key, rule in TRAINING.items()}
    lines["trainer.decoder.*"] = "any key of trainer, for ClaDec and RefAE only"
    width = max(map(len, lines))
    return "\n".join(f"{key:<{width}}  {what}" for key, what in lines.items())


def training(settings: Settings) -> Settings:
    """How this run's own network is trained: `trainer`, with what `trainer.decoder` changes for decoders."""
    own = {k: v for k, v in settings["trainer"].items() if k != "decoder"}
    return own if settings["model"]["name"] == "classifier" else own | settings["trainer"]["decoder"]


def trained(settings: Settings, model: str, alpha: float | None = None) -> Settings:
    """The settings of the `train` run of a model that a run of any stage stands on."""
    kept = {k: v for k, v in settings.items() if k not in ELSEWHERE}
    options = {"name": model} if model == "classifier" else {**settings["model"], "name": model}
    return {**kept, "model": options, "alpha": alpha, "force": False}


def alphas(settings: Settings) -> list[float]:
    """The alphas of a run: none, one or more."""
    alpha = settings["alpha"]
    return alpha if isinstance(alpha, list) else [] if alpha is None else [alpha]


def learned(settings: Settings, method: str) -> list[Settings]:
    """The `train` runs that a learned explainer needs: one for each alpha, or one."""
    return [trained(settings, method, alpha) for alpha in (alphas(settings) if method == "cladec" else [None])]


def needed(settings: Settings) -> list[Settings]:
    """The `train` runs that an `explain` run stands on, the classifier first."""
    methods = [options["name"] for options in settings["explainers"].values()]
    others = [run for method in LEARNED if method in methods for run in learned(settings, method)]
    return [trained(settings, "classifier"), *others]


def identity(settings: Settings, stage: str = "train") -> Settings:
    """Every setting that can change the result of a run, and nothing else (no device, no paths)."""
    if stage == "train":
        keys = ("dataset", "classifier", "model", "seed")
        out = {k: settings[k] for k in keys} | {"trainer": training(settings)}
        if settings["model"]["name"] != "classifier":
            own = {"layer": settings["layer"], "alpha": settings["alpha"]}
            out |= own | {"explains": identity(trained(settings, "classifier"))}
        return out
    return {
        **{key: settings[key] for key in ("select", "target", "format")},
        "explainers": {  # in the order of the picture's rows; the size of the batches changes nothing
            f"{place} {name}": {k: v for k, v in options.items() if k != "batch_size"}
            for place, (name, options) in enumerate(settings["explainers"].items())
        },
        "explains": [identity(run) for run in needed(settings)],
    }


def plain(alpha: float) -> str:
    """An alpha as people write it: 0, 0.25, 0.999."""
    return f"{alpha:.12g}"


def label(settings: Settings, stage: str = "train") -> str:
    """The readable part of a run's name, such as `layer=dense,alpha=0.25,seed=0`."""
    parts = []
    if stage != "train":
        parts += [f"explainer={_short(list(settings['explainers']))}", f"select={settings['select']['name']}"]
    if settings["model"]["name"] == "classifier":
        parts.append(f"classifier={settings['classifier']['name']}")
    else:
        parts.append(f"layer={settings['layer']}")
    found = alphas(settings)
    if found:
        parts.append(f"alpha={_short([plain(a) for a in found])}")
    return ",".join([*parts, f"seed={settings['seed']}"])


def _short(words: list[str]) -> str:
    return "+".join(words) if len(words) < 5 else f"{words[0]}..{words[-1]}({len(words)})"


def words(settings: Settings) -> list[str]:
    """The overrides that make `xmnist train` do what these settings say, all that differs from the defaults."""
    top = OmegaConf.load(Path(conf_dir(), "train.yaml"))
    assert isinstance(top, DictConfig)
    out = []
    for group, default in (("dataset", None), ("classifier", "vgg_small"), ("model", "cladec")):
        name = settings[group]["name"]
        out += [f"{group}={name}"] if name != default else []
        file = _file(group, name)
        out += _changed(f"{group}.", settings[group], file.get("model", file))
        if group == "model" and settings["alpha"] != file["alpha"]:
            out.append(f"alpha={_value(settings['alpha'])}")
    trainer, own = _file("trainer", "default"), settings["trainer"]
    out += _changed("trainer.", own, trainer)
    out += _changed("trainer.decoder.", own | own["decoder"], own | trainer["decoder"])
    common = {key: settings[key] for key in COMMON if settings[key] != top[key]}
    return out + [f"{key}={_value(value)}" for key, value in common.items() if key not in ("force", "train_missing")]


def _file(group: str, name: str) -> Settings:
    content = OmegaConf.to_container(OmegaConf.load(Path(conf_dir(), group, f"{name}.yaml")))
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}


def _changed(where: str, settings: Settings, file: Settings) -> list[str]:
    """Overrides for the values that differ from a file's."""
    different = {k: v for k, v in settings.items() if k not in file or file[k] != v}
    return [f"{where}{k}={_value(v)}" for k, v in different.items() if not isinstance(v, dict)]


def _value(value: Any) -> str:
    """A value as Hydra's command line reads it."""
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, float):
        return plain(value) if float(plain(value)) == value else repr(value)
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = str(value)
    return text if re.fullmatch(r"[\w./:@%+-]+", text) else '"' + text.replace('"', '\\"') + '"'


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
