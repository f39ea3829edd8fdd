"""What pictures and pages call runs, models and explainers; without torch, so that none of them waits for it."""

from xmnist.config.declarations import EXPLAINERS
from xmnist.config.derived import Settings, listed, phases, plain
from xmnist.config.schema import DECODERS

NAMES = {
    **{"classifier": "classifier", "cladec": "ClaDec", "refae": "RefAE", "joint": "joint model"},
    **{"evaluation": "evaluation classifier", "cladec_vae": "variational ClaDec", "refvae": "RefVAE"},
}
"""Models as people call them."""


def row_title(name: str) -> str:
    """What the rows of pictures call an explainer, in one or two lines."""
    titles = {preset: title for each in EXPLAINERS.values() for preset, title in each.presets.items()}
    declared = EXPLAINERS.get(name)
    return declared.title if declared else titles.get(name, name.replace("_", " "))


def explainer_title(name: str) -> str:
    """An explainer or model as people call it, by its name: Grad-CAM, or ClaDec, alpha 0.25 for `cladec,alpha=0.25`."""
    method, *parts = name.split(",")
    title = NAMES[method] if method in NAMES and method not in EXPLAINERS else row_title(method).replace("\n", " ")
    return ", ".join([title, *(part.replace("=", " ") for part in parts)])


def is_control(name: str) -> bool:
    """Whether an explainer is a model-independent control."""
    declared = EXPLAINERS.get(name.split(",")[0])
    return declared is not None and declared.control


def phase_title(settings: Settings, phase: int) -> str:
    """What learns in a phase, counted from 1, and its alpha."""
    learns = [part for part, rate in phases(settings)[phase - 1]["lr"].items() if rate]
    alone = " alone" if len(learns) == 1 else ""
    return f"{' and '.join(learns)}{alone}, alpha {plain(settings['alpha'][phase - 1])}"


def title(settings: Settings) -> str:
    """What a run's picture is of."""
    title = NAMES[settings["model"]["name"]]
    title = title[0].upper() + title[1:]
    if settings["model"]["name"] in DECODERS:
        title += f" of {_layer(settings)}"
    if settings["model"]["name"] == "evaluation":
        title += f" of {NAMES[settings['model']['of']]}, {_layer(settings)}"
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
    name, model = NAMES[settings["model"]["name"]], settings["model"]["name"]
    if model in DECODERS:
        name += f" of {_layer(settings)}"
    if model == "evaluation":
        name += f" of {NAMES[settings['model']['of']]} of {_layer(settings)}"
    return name + (f", alpha {plain(settings['alpha'])}" if isinstance(settings["alpha"], float) else "")
