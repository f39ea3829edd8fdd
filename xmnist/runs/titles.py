"""What pictures and pages call runs, models and explainers; without torch, so that none of them waits for it."""

from xmnist.config.components import listed
from xmnist.config.derived import phases, plain
from xmnist.config.settings import Settings


def phase_title(settings: Settings, phase: int) -> str:
    """What learns in a phase, counted from 1, and its alpha."""
    rates = phases(settings)[phase - 1].lr
    assert isinstance(rates, dict) and isinstance(settings.alpha, list)
    learns = [part for part, rate in rates.items() if rate]
    alone = " alone" if len(learns) == 1 else ""
    return f"{' and '.join(learns)}{alone}, alpha {plain(settings.alpha[phase - 1])}"


def title(settings: Settings) -> str:
    """What a run's picture is of."""
    return f"{settings.model.heading(_layer(settings))}{_alpha(settings)}: {_network(settings)}"


def _network(settings: Settings) -> str:
    return f"{settings.classifier.name} on {settings.dataset.name}, seed {settings.seed}"


def _alpha(settings: Settings) -> str:
    return f", alpha {plain(settings.alpha)}" if isinstance(settings.alpha, float) else ""


def _layer(settings: Settings) -> str:
    """What decoders look at."""
    layers, neurons = listed(settings.layer), settings.neurons
    name = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    if isinstance(neurons, list):
        return f"{len(neurons)} units of {name}"
    return f"{100 * neurons:g} % of {name}" if neurons else name


def explained_title(settings: Settings, decoded: bool = True) -> str:
    """What a picture of explanations is of; a layer has a part in them where it is decoded."""
    return f"{settings.model.before(_layer(settings) if decoded else '')}{_network(settings)}"


def network_title(settings: Settings) -> str:
    """A network in a few words: classifier, ClaDec of layer dense, alpha 0.25."""
    return settings.model.phrase(_layer(settings)) + _alpha(settings)
