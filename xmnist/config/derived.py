"""What follows from a resolved config: how its networks are trained, and which other runs it stands on."""

from typing import Any

from xmnist.config.components import listed
from xmnist.config.declarations import EXPLAINERS, METRICS, decoder_names, reference_of
from xmnist.config.schema import FEWER, OWN, PHASES, TRAINING
from xmnist.runtime.errors import InputError

Settings = dict[str, Any]
"""A resolved config: plain values, nested as in YAML."""


def foreign(stage: str) -> list[str]:
    """The keys that belong to other stages; an experiment may hold them for these."""
    return sorted({key for keys in OWN.values() for key in keys} - set(OWN.get(stage, ())))


def dotted(settings: Settings, prefix: str = "") -> Settings:
    """Every setting by its dotted key."""
    out: Settings = {}
    for key, value in settings.items():
        out |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def trainer_part(model: str) -> str | None:
    """The part of `trainer` that changes it for a model; None for those that are trained as `trainer` itself says."""
    return {"classifier": None, "evaluation": None, "joint": "joint"}.get(model, "decoder")


def training(settings: Settings) -> Settings:
    """How this run's own network is trained: `trainer`, with what its part for this model changes."""
    own, part = {k: v for k, v in settings["trainer"].items() if k in TRAINING}, trainer_part(settings["model"]["name"])
    return own | settings["trainer"][part] if part else own


def phases(settings: Settings) -> list[Settings]:
    """How a joint model is trained in each of its three phases, `lr` being that of each part.

    What `trainer.joint` does not say is as for the classifier, with only one part learning in the first two phases.

    Raises:
        InputError: in one of them nothing learns.
    """
    own = training(settings)
    rate = own.pop("lr")
    lists = {"lr_classifier": [rate, 0.0, rate], "lr_explainer": [0.0, rate, rate]}
    lists |= {key: own.pop(key) for key in PHASES if isinstance(own.get(key), list)}
    out = []
    for place in range(3):
        each = {key: values[place] for key, values in lists.items()}
        lr = {"classifier": each.pop("lr_classifier"), "explainer": each.pop("lr_explainer")}
        if not any(lr.values()):
            raise InputError(f"trainer.joint.lr_classifier and lr_explainer are both 0 in phase {place + 1}")
        out.append(own | each | {"lr": lr})
    return out


def trained(settings: Settings, model: str, alpha: float | None = None, layer: str | None = None) -> Settings:
    """The settings of the `train` run of a model that a run of any stage stands on."""
    layer = layer or listed(settings["layer"])[0]
    kept = {k: v for k, v in settings.items() if k not in (*foreign("train"), "unmeasured")}
    options = {"name": model} if model == "classifier" else {**settings["model"], "name": model}
    return {**kept, "model": options, "alpha": alpha, "layer": layer, "force": False}


def alphas(settings: Settings) -> list[float]:
    """The alphas of ClaDecs, variational or not: none for other models, one or more."""
    return listed(settings["alpha"]) if settings["model"]["name"] in reference_of() else []


def learned(settings: Settings, method: str) -> list[Settings]:
    """The `train` runs that a learned explainer answers from: one for each layer and alpha."""
    model = EXPLAINERS[method].models[0]
    each = alphas(settings) if model in reference_of() else [None]
    return [trained(settings, model, alpha, layer) for layer in listed(settings["layer"]) for alpha in each]


def variant(settings: Settings, run: Settings) -> list[str]:
    """What tells a `train` run from the others that these settings stand on: its layer and alpha, of several."""
    parts = [f"layer={run['layer']}"] if len(listed(settings["layer"])) > 1 else []
    if run["alpha"] is not None and len(alphas(settings)) > 1:
        parts.append(f"alpha={plain(run['alpha'])}")
    return parts


def needed(settings: Settings) -> list[Settings]:
    """The `train` runs that a run of another stage stands on, what is explained first."""
    if settings["model"]["name"] == "joint":
        return [trained(settings, "joint", settings["alpha"])]
    methods = [options["name"] for options in settings["explainers"].values()]
    made = {model for method in methods for model in EXPLAINERS[method].models}
    others = [run for model, reference in reference_of().items() for each in (model, reference) if each in made
              for run in learned(settings, each)]  # fmt: skip
    judges = settings.get("metrics", {}).get("reconstruction", {}).get("evaluation_accuracy", False)
    judged = [run for run in others if judges and run["model"]["name"] in methods]
    return [trained(settings, "classifier"), *others, *map(evaluation, judged)]


def stands_on(settings: Settings, stage: str) -> list[Settings]:
    """The `train` runs whose networks a run of any stage is made with, what is explained first."""
    if stage in FEWER:
        return []
    if stage != "train":
        return needed(settings)
    model = settings["model"]["name"]
    if model == "evaluation":
        return [trained(settings, "classifier"), judged(settings)]
    if model not in decoder_names():
        return []
    several = isinstance(settings["layer"], list) or isinstance(settings["alpha"], list)
    return [trained(settings, "classifier"), *(learned(settings, model) if several else [])]


def selects(settings: Settings) -> bool:
    """Whether a run of another stage works on chosen test images; metrics of other than maps take them all."""
    if settings.get("image", {}).get("path"):
        return False
    return "metrics" not in settings or any(METRICS[name].measures == "maps" for name in settings["metrics"])


def evaluation(decoder: Settings) -> Settings:
    """The `train` run of a fresh classifier of what this run's decoder makes of the images."""
    model = decoder["model"]
    return {**decoder, "model": {**model, "name": "evaluation", "of": model["name"]}}


def judged(settings: Settings) -> Settings:
    """The run whose decoder an evaluation classifier judges."""
    model = {k: v for k, v in settings["model"].items() if k != "of"}
    return {**settings, "model": {**model, "name": settings["model"]["of"]}}


def plain(alpha: float) -> str:
    """An alpha as people write it: 0, 0.25, 0.999."""
    return f"{alpha:.12g}"
