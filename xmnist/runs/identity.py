"""What a run is: every setting that can change its result, and the readable part of its name."""

import hashlib
import json
import re
from pathlib import Path

from xmnist.config.components import listed
from xmnist.config.declarations import COMPONENTS, loss_weights, reference_of
from xmnist.config.derived import Settings, alphas, judged, needed, plain, selects, trained, training
from xmnist.runtime.errors import InputError


def place(stage: str, settings: Settings) -> str:
    """Where a run lies below OUT/STAGE: DATASET/MODEL/ID, or DATASET/ID where no model has a part in it.

    A report lies in OUT/report itself, or below it in a folder that says of which runs it is.
    """
    if stage == "report":
        chosen = [f"{key}={'+'.join(listed(value))}" for key, value in settings["only"].items() if value]
        return ",".join([f"run={Path(settings['run']).resolve().name}"] if settings["run"] else chosen)
    model = [settings["model"]["name"]] if "model" in settings else []
    return "/".join((settings["dataset"]["name"], *model, run_id(stage, settings)))


def run_id(stage: str, settings: Settings) -> str:
    """A run's name: readable settings and 8 hex digits over everything that can change its result."""
    text = json.dumps({"stage": stage, **identity(settings, stage)}, sort_keys=True)
    return f"{label(settings, stage)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def identity(settings: Settings, stage: str = "train") -> Settings:
    """Every setting that can change the result of a run, and nothing else (no device, no paths)."""
    if stage == "train":
        keys = ("model", "seed")
        trainer = {k: v for k, v in training(settings).items() if k != "precision"}  # as for the device: it is told
        out = {k: settings[k] for k in keys} | {"trainer": trainer}
        out |= {group: _component(group, settings[group], settings) for group in ("classifier", "dataset")}
        if settings["model"]["name"] == "evaluation":
            return out | {"judges": identity(judged(settings))}
        if settings["model"]["name"] == "joint":
            return out | {key: settings[key] for key in ("alpha", *loss_weights())}
        if settings["model"]["name"] != "classifier":
            own = {"layer": settings["layer"], "alpha": settings["alpha"]}
            own |= {"neurons": settings["neurons"]} if settings.get("neurons") else {}
            out |= own | {"explains": identity(trained(settings, "classifier"))}
        return out
    if stage == "export":
        return {"dataset": settings["dataset"] | _source("dataset", settings["dataset"], settings)}
    chosen = ["map"] if settings["model"]["name"] == "joint" else []
    chosen += ["target"] if selects(settings) else []
    metrics = settings.get("metrics", {}).items()
    return {
        **{key: settings[key] for key in chosen if key in settings},
        **({"select": _component("select", settings["select"], settings)} if selects(settings) else {}),
        **_drawn(settings, stage),
        **({"metrics": {name: _lasting("metric", options, settings) for name, options in metrics}} if metrics else {}),
        "explainers": {  # in the order of the picture's rows
            f"{place} {name}": _lasting("explainer", options, settings)
            for place, (name, options) in enumerate(settings["explainers"].items())
        },
        "explains": [identity(run) for run in needed(settings)],
    }


def _component(group: str, options: Settings, settings: Settings) -> Settings:
    """What names hold of a component; all of one that is not known here, or had other options."""
    try:
        own = COMPONENTS[group].made(group, options).identity()
    except InputError:
        own = options
    return own | _source(group, options, settings)


def _source(group: str, options: Settings, settings: Settings) -> Settings:
    """The digest of the plug-in that a component comes from, so that another source is another run."""
    about = settings.get("plugins", {}).get(f"{group}.{options['name']}")
    return {"plugin": about["digest"]} if about else {}


def _drawn(settings: Settings, stage: str) -> Settings:
    """How and of what a picture is drawn, without the keys that came later and say what was always done."""
    usual = {"layout": "auto", "overlay": False} | ({"format": "png"} if stage == "evaluate" else {})
    keys = ("format", "layout", "overlay")
    own = {key: settings[key] for key in keys if key in settings and settings[key] != usual.get(key)}
    image = settings.get("image", {})
    return own | ({"image": [image["sha256"], image["invert"]]} if image.get("path") else {})


def _lasting(group: str, options: Settings, settings: Settings) -> Settings:
    """Options without the size of the batches, which changes nothing."""
    return {k: v for k, v in options.items() if k != "batch_size"} | _source(group, options, settings)


def label(settings: Settings, stage: str = "train") -> str:
    """The readable part of a run's name, such as `layer=dense,alpha=0.25,seed=0`."""
    parts = []
    if stage == "export":
        told = {k: settings["dataset"].get(k) for k in ("train", "test", "size", "seed")}
        return "-".join(f"{key}{value}" for key, value in told.items() if value is not None) or "all"  # a path to type
    model = settings["model"]
    if "metrics" in settings:
        parts.append(f"metric={short(list(settings['metrics']))}")
    if stage != "train" and settings["explainers"]:
        parts.append(f"explainer={short(list(settings['explainers']))}")
        parts += [f"select={settings['select']['name']}"] if selects(settings) else []
        if images := settings.get("image", {}).get("path"):
            parts.append(f"image={_file(images[0])}" if len(images) == 1 else f"image={len(images)}files")
    if model["name"] == "evaluation":
        parts.append(f"of={model['of']}")
    if model["name"] in ("classifier", "joint"):
        parts.append(f"classifier={settings['classifier']['name']}")
    else:
        parts.append(f"layer={short(listed(settings['layer']))}")
        if neurons := settings.get("neurons"):
            parts.append(f"neurons={short([plain(n) for n in listed(neurons)])}")
        parts += [f"latent={model['latent']}"] if "latent" in model else []
    found = [settings["alpha"]] if model["name"] == "evaluation" and model["of"] in reference_of() else alphas(settings)
    if model["name"] == "joint":
        parts.append(f"loss={model['loss']}")
        found = settings["alpha"]
    if found:
        parts.append(f"alpha={short([plain(a) for a in found])}")
    return ",".join([*parts, f"seed={settings['seed']}"])


def _file(path: str) -> str:
    """A file's name as a part of another one."""
    return re.sub(r"[^\w.-]", "_", Path(path).stem)[:40]


def short(words: list[str]) -> str:
    """Words joined by +; of more than four, the first and the last."""
    return "+".join(words) if len(words) < 5 else f"{words[0]}..{words[-1]}({len(words)})"
