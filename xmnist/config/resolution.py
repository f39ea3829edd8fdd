"""Resolution of a composed config into checked, typed settings.

Everything here works without torch, so that a mistyped word is answered at once. `resolve` turns a composed Hydra
config into typed settings, which is all that the rest of the package ever sees.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from xmnist.config import chosen, sizing
from xmnist.config.components import Options, checked, converted, listed
from xmnist.config.declarations import COMPONENTS, ClassifierDeclaration, DatasetDeclaration
from xmnist.config.derived import foreign, phases
from xmnist.config.kinds import MODELS, ModelDeclaration, kinds_with, loss_weights
from xmnist.config.rules import Rule
from xmnist.config.schema import COMMON, FEWER, OWN, PLUGINS, STAGES, only
from xmnist.config.settings import KINDS, Only, Settings
from xmnist.config.trainer import Trainer
from xmnist.runtime.errors import InputError, unknown


@overload
def resolve(cfg: DictConfig, stage: Literal["train"] = "train") -> Settings: ...


@overload
def resolve(cfg: DictConfig, stage: str) -> Any: ...


def resolve(cfg: DictConfig, stage: str = "train") -> Any:
    """Return the composed config as the settings of a stage, every key checked for its name, type and range.

    Raises:
        InputError: names the first key that is wrong and what it may hold.
    """
    top = _plain(cfg)
    converted("plugins", top.pop("plugins", None), PLUGINS)
    settings = KINDS[stage](**(_without_training(top, stage) if stage in FEWER else _resolved(top, stage)))
    if isinstance(settings, Settings):
        phases(settings)  # raises for phases in which nothing learns
    return settings


def _without_training(top: Options, stage: str) -> dict[str, Any]:
    """Return the settings of a stage that neither trains nor explains."""
    groups, stage_rules = STAGES[stage]
    rules, report = {key: COMMON[key] for key in FEWER[stage]} | stage_rules, stage == "report"
    settings = _check_all(top, groups, rules, ["only"] if report else [])
    # A report is of whatever there is, and so is never done.
    return settings | ({"only": Only(**checked("", top["only"], only())), "force": True} if report else {})


def _resolved(top: Options, stage: str) -> dict[str, Any]:
    """Return the settings of a stage that trains or explains networks."""
    groups, stage_rules = STAGES[stage]
    top = {key: value for key, value in top.items() if key not in foreign(stage)}
    weights = _weights(top)
    for group in ("explainer", "metric"):
        if group in top:
            raise InputError(f"a file of group {group} must begin with the line # @package {group}s.NAME")
    inner = [key for key in ("explainers", "metrics") if key in OWN.get(stage, ())]
    out = _check_all(
        top,
        groups,
        COMMON | stage_rules | weights,
        ["alpha", "trainer", *(["image"] if stage == "explain" else []), *inner],
    )
    out["weights"] = {key: out.pop(key) for key in weights}
    model: ModelDeclaration = out["model"]
    out["alpha"] = converted("alpha", top["alpha"], model.alpha, f" with model={model.name}")
    trainer = Trainer.of_plain(_filled(top["trainer"]))
    out["layer"] = _layers(out["layer"], out["classifier"])
    dataset: DatasetDeclaration = out["dataset"].resolved()
    out |= {"classifier": out["classifier"].resolved(), "dataset": dataset}
    out["trainer"] = Trainer.of_plain(sizing.fitted_trainer(trainer.plain(), dataset.training_images()))
    if model.judged:
        out["alpha"] = _alpha_of_judged(model.judged, out)
    if stage == "train":
        return out
    if stage == "evaluate":
        out["metrics"] = chosen.metrics(top.get("metrics"))
    if stage == "explain":
        out["image"] = chosen.images(top["image"])
    if out["select"].classes():  # else nobody asks for the names of a folder's, which may be gone
        out["select"] = out["select"].numbered(dataset.class_names())
    return out | _explaining(top, out)


def _explaining(top: Options, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the explainers of a stage that explains networks, with the model reduced to the kind that they use."""
    explainers = chosen.explainers(top.get("explainers"), settings["model"])
    out: dict[str, Any] = {"explainers": explainers}
    if "metrics" in settings:
        several = isinstance(settings["layer"], list)
        kept = chosen.measured(explainers, settings["metrics"].values(), several, settings["controls"])
        out = {"explainers": kept, "unmeasured": [name for name in explainers if name not in kept]}
    out["model"] = chosen.needed_model(out["explainers"].values(), settings["model"], settings["map"])
    # A list of one and its only value are the same run.
    target = settings["target"]
    out["target"] = target[0] if isinstance(target, list) and len(target) == 1 else target
    return out | ({"alpha": None} if out["model"] is not settings["model"] else {})


def _weights(top: Options) -> dict[str, Rule]:
    """Return the weights of the chosen model's loss beside `alpha`, with their rules.

    Raises:
        InputError: there is one of another model.
    """
    model = top.get("model")
    kind = MODELS.get(str(model.get("name"))) if isinstance(model, dict) else None
    weights = kind.weights if kind else {}
    for key in loss_weights():
        if key in top and key not in weights:
            hint = f"; here it is model.{key}" if isinstance(model, dict) and key in model else ""
            raise InputError(f"{weight_of(key)}{hint}")
    return weights


def weight_of(key: str) -> str:
    """Return a text that tells to which models a weight of the loss belongs; empty for any other key."""
    return f"{key} belongs to {kinds_with(lambda kind: key in kind.weights)}" if key in loss_weights() else ""


def _filled(trainer: Any) -> Any:
    """Return a trainer whose parts may be empty in a config."""
    if not isinstance(trainer, dict):
        return trainer
    return {key: value or {} if key in ("decoder", "joint") else value for key, value in trainer.items()}


def _alpha_of_judged(decoder: ModelDeclaration, settings: Mapping[str, Any]) -> float | None:
    """Return the alpha of the decoder that is judged; None for one that has none."""
    if isinstance(settings["layer"], list):
        layers = ",".join(settings["layer"])
        raise InputError(f"model={settings['model'].name} judges one layer's decoder; for each: -m layer={layers}")
    if decoder.reference and settings["alpha"] is None:
        raise InputError(f"alpha must be {decoder.alpha.text} with model.of={decoder.name}, got null")
    return settings["alpha"] if decoder.reference else None


def _layers(layer: str | list[str], classifier: ClassifierDeclaration) -> str | list[str]:
    """Return one layer, or a list of several; named layers are sorted from the image on."""
    named = classifier.layers
    if "all" in listed(layer) and not named:
        raise InputError(
            f"layer=all needs named layers, and classifier={classifier.name} declares none: name modules by their "
            f"dotted paths, such as layer=[features.0,head]"
        )
    layers = list(named) if layer in ("all", ["all"]) else listed(layer)
    if "all" in layers:
        raise InputError(f"layer=all stands for {', '.join(named)}, and is given alone")
    if set(layers) <= set(named):
        layers = [name for name in named if name in layers]
    return layers if len(layers) > 1 else layers[0]


def _check_all(top: Options, groups: Sequence[str], rules: Mapping[str, Rule], more: Sequence[str] = ()) -> Options:
    """Return the checked groups and top-level keys of a config; the only other keys allowed are `more`."""
    keys = [*rules, *groups, *more]
    for key in top:
        if key not in keys:
            raise unknown("key", key, keys, "keys")
    for key in keys:
        if key not in top and key not in ("explainers", "metrics"):
            raise InputError(f"{key} is missing")
    components = {group: COMPONENTS[group].made(group, top[group]) for group in groups}
    return components | checked("", {key: top[key] for key in rules}, rules)


def _plain(cfg: DictConfig) -> Options:
    try:
        plain = OmegaConf.to_container(
            OmegaConf.masked_copy(cfg, [str(k) for k in cfg if k != "hydra"]),
            resolve=True,
            throw_on_missing=True,
        )
    except MissingMandatoryValue as error:
        raise InputError(f"{error.full_key} must be given") from None
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    return {str(k): v for k, v in plain.items()}


def check_writable(out_dir: str) -> None:
    """Check that runs can be written.

    Raises:
        InputError: `out_dir` cannot be made, or no file can be written in it.
    """
    try:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out_dir):
            pass
    except OSError as error:
        raise InputError(f"out_dir={out_dir}: nothing can be written there ({error.strerror})") from None
