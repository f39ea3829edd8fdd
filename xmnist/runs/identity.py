"""Identity of a run: every setting that can change its result, and the readable part of its name."""

import hashlib
import json
import re
from pathlib import Path

from xmnist.config.components import PLUGIN, Component, Options, listed
from xmnist.config.derived import explained, judged, needed, own_images, plain, selects, training
from xmnist.config.settings import (
    EvaluateSettings,
    ExplainingSettings,
    ExplainSettings,
    ExportSettings,
    ReportSettings,
    Settings,
    StageSettings,
)


def place(stage: str, settings: StageSettings) -> str:
    """Return the folder of a run below OUT/STAGE: DATASET/MODEL/ID, or DATASET/ID for a run without a model.

    A report lies in OUT/report itself, or below it in a folder whose name states its runs.
    """
    if isinstance(settings, ReportSettings):
        chosen = [f"{key}={'+'.join(listed(value))}" for key, value in settings.only.chosen().items()]
        return ",".join([f"run={Path(settings.run).resolve().name}"] if settings.run else chosen)
    assert isinstance(settings, Settings | ExportSettings)
    model = [settings.model.name] if isinstance(settings, Settings) else []
    return "/".join((settings.dataset.name, *model, run_id(stage, settings)))


def run_id(stage: str, settings: StageSettings) -> str:
    """Return a run's name: readable settings and 8 hex digits of a hash over everything that can change its result."""
    # Sorted keys: the order in which settings were given must not change the hash.
    text = json.dumps({"stage": stage, **identity(settings, stage)}, sort_keys=True)
    return f"{label(settings, stage)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def identity(settings: StageSettings, stage: str = "train") -> Options:
    """Return every setting that can change the result of a run, and nothing else (no device, no paths)."""
    if isinstance(settings, ExportSettings):
        dataset = settings.dataset
        # Names of exports hold every key, unlike those of other runs; of a plug-in they hold no path of this machine.
        return {"dataset": dataset.identity() if PLUGIN in dataset.plain() else dataset.plain()}
    assert isinstance(settings, Settings)
    if not isinstance(settings, ExplainingSettings):
        return _of_training(settings)
    chosen: Options = {"map": settings.map} if settings.model.own_map else {}
    chosen |= {"target": settings.target, "select": settings.select.identity()} if selects(settings) else {}
    metrics = settings.metrics if isinstance(settings, EvaluateSettings) else {}
    return {
        **chosen,
        **_drawn(settings),
        **({"metrics": {name: _lasting(metric) for name, metric in metrics.items()}} if metrics else {}),
        # The index is part of the key, because sorted keys alone would lose the order of the rows.
        "explainers": {  # in the order of the picture's rows
            f"{index} {name}": _lasting(explainer)
            for index, (name, explainer) in enumerate(settings.explainers.items())
        },
        "explains": [identity(run) for run in needed(settings)],
    }


def _of_training(settings: Settings) -> Options:
    """Return the settings that can change a trained network."""
    trainer = {k: v for k, v in training(settings).items() if k != "precision"}  # recorded, like the device
    out = {"model": settings.model.identity(), "seed": settings.seed, "trainer": trainer}
    out |= {"classifier": settings.classifier.identity(), "dataset": settings.dataset.identity()}
    if decoder := judged(settings):
        return out | {"judges": identity(decoder)}
    if settings.model.decodes:
        options: Options = {"layer": settings.layer, "alpha": settings.alpha}
        options |= {"neurons": settings.neurons} if settings.neurons else {}
        return out | options | {"explains": identity(explained(settings))}
    return out if settings.alpha is None else out | {"alpha": settings.alpha, **settings.weights}


def _drawn(settings: ExplainingSettings) -> Options:
    """Return the settings of a picture; keys that were added later are left out at their default.

    The names of earlier runs thus stay valid.
    """
    if not isinstance(settings, ExplainSettings):
        return {} if settings.format == "png" else {"format": settings.format}
    options: Options = {"format": settings.format}
    options |= {} if settings.layout == "auto" else {"layout": settings.layout}
    options |= {"overlay": True} if settings.overlay else {}
    return options | ({"image": [settings.image.sha256, settings.image.invert]} if settings.image.path else {})


def _lasting(component: Component) -> Options:
    """Return the options of a component that can change a result, which the batch size cannot."""
    return {k: v for k, v in component.identity().items() if k != "batch_size"}


def label(settings: StageSettings, stage: str = "train") -> str:
    """Return the readable part of a run's name, such as `layer=dense,alpha=0.25,seed=0`."""
    if isinstance(settings, ExportSettings):
        dataset = settings.dataset.plain()
        named = {k: dataset.get(k) for k in ("train", "test", "size", "seed")}
        return "-".join(f"{key}{value}" for key, value in named.items() if value is not None) or "all"  # a path to type
    assert isinstance(settings, Settings)
    model, parts = settings.model, list[str]()
    if isinstance(settings, EvaluateSettings):
        parts.append(f"metric={short(list(settings.metrics))}")
    if isinstance(settings, ExplainingSettings) and settings.explainers:
        parts.append(f"explainer={short(list(settings.explainers))}")
        parts += [f"select={settings.select.name}"] if selects(settings) else []
        if images := own_images(settings).path:
            parts.append(f"image={_file(images[0])}" if len(images) == 1 else f"image={len(images)}files")
    options = model.options()
    parts += [f"{key}={options[key]}" for key in model.first]
    if model.explained:
        parts.append(f"classifier={settings.classifier.name}")
    else:
        parts.append(f"layer={short(listed(settings.layer))}")
        if settings.neurons:
            parts.append(f"neurons={short([plain(n) for n in listed(settings.neurons)])}")
    parts += [f"{key}={options[key]}" for key in model.named if key in options]
    if settings.alpha is not None:
        parts.append(f"alpha={short([plain(a) for a in listed(settings.alpha)])}")
    return ",".join([*parts, f"seed={settings.seed}"])


def _file(path: str) -> str:
    """Return a file's stem with only characters that are safe in a folder's name, at most 40 of them."""
    return re.sub(r"[^\w.-]", "_", Path(path).stem)[:40]


def short(words: list[str]) -> str:
    """Return words joined by +; of more than four, only the first and the last with their number."""
    return "+".join(words) if len(words) < 5 else f"{words[0]}..{words[-1]}({len(words)})"
