"""What pictures and pages call runs, models and explainers; without torch, so that none of them waits for it."""

from xmnist.config.components import listed
from xmnist.config.declarations import MODELS
from xmnist.config.derived import Settings, phases, plain


def phase_title(settings: Settings, phase: int) -> str:
    """What learns in a phase, counted from 1, and its alpha."""
    learns = [part for part, rate in phases(settings)[phase - 1]["lr"].items() if rate]
    alone = " alone" if len(learns) == 1 else ""
    return f"{' and '.join(learns)}{alone}, alpha {plain(settings['alpha'][phase - 1])}"


def title(settings: Settings) -> str:
    """What a run's picture is of."""
    title = MODELS[settings["model"]["name"]].title
    title = title[0].upper() + title[1:]
    if MODELS[settings["model"]["name"]].decodes:
        title += f" of {_layer(settings)}"
    if settings["model"]["name"] == "evaluation":
        title += f" of {MODELS[settings['model']['of']].title}, {_layer(settings)}"
    if settings["model"]["name"] == "joint":
        title = f"Joint model, {settings['model']['loss']}"
    if isinstance(settings["alpha"], float):
        title += f", alpha {plain(settings['alpha'])}"
    return f"{title}: {settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"


def _layer(settings: Settings) -> str:
    """What decoders look at."""
    layers, neurons = listed(settings["layer"]), settings.get("neurons")
    name = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    if isinstance(neurons, list):
        return f"{len(neurons)} units of {name}"
    return f"{100 * neurons:g} % of {name}" if neurons else name


def explained_title(settings: Settings, decoded: bool = True) -> str:
    """What a picture of explanations is of; a layer has a part in them where it is decoded."""
    model, layer = settings["model"], ""
    if model["name"] == "joint":
        layer = f"{model['loss']} joint model, "
    elif decoded and model["name"] != "classifier":
        layer = f"{_layer(settings)} of "
    return f"{layer}{settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"


def network_title(settings: Settings) -> str:
    """A network in a few words: classifier, ClaDec of layer dense, alpha 0.25."""
    name, model = MODELS[settings["model"]["name"]].title, settings["model"]["name"]
    if MODELS[model].decodes:
        name += f" of {_layer(settings)}"
    if model == "evaluation":
        name += f" of {MODELS[settings['model']['of']].title} of {_layer(settings)}"
    return name + (f", alpha {plain(settings['alpha'])}" if isinstance(settings["alpha"], float) else "")
