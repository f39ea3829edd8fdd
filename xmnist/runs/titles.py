"""Titles of runs, models and explainers in pictures and pages; without torch, so that no caller waits for it."""

from xmnist.config.components import listed
from xmnist.config.derived import phases, plain
from xmnist.config.settings import Settings


def phase_title(settings: Settings, phase: int) -> str:
    """Return the parts that are trained in a phase, counted from 1, and the phase's alpha."""
    rates = phases(settings)[phase - 1].lr
    assert isinstance(rates, dict) and isinstance(settings.alpha, list)
    learns = [part for part, rate in rates.items() if rate]
    alone = " alone" if len(learns) == 1 else ""
    return f"{' and '.join(learns)}{alone}, alpha {plain(settings.alpha[phase - 1])}"


def title(settings: Settings) -> str:
    """Return the title of a run's picture."""
    return f"{settings.model.heading(_layer(settings))}{_alpha(settings)}: {_network(settings)}"


def _network(settings: Settings) -> str:
    return f"{settings.classifier.name} on {settings.dataset.name}, seed {settings.seed}"


def _alpha(settings: Settings) -> str:
    return f", alpha {plain(settings.alpha)}" if isinstance(settings.alpha, float) else ""


def _layer(settings: Settings) -> str:
    """Return the name of the decoders' input: a layer, several layers, or a part of their neurons."""
    layers, neurons = listed(settings.layer), settings.neurons
    name = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
    if isinstance(neurons, list):
        return f"{len(neurons)} units of {name}"
    return f"{100 * neurons:g} % of {name}" if neurons else name


def explained_title(settings: Settings, decoded: bool = True) -> str:
    """Return the title of a picture of explanations; it names the layer if the layer is decoded."""
    return f"{settings.model.before(_layer(settings) if decoded else '')}{_network(settings)}"


def network_title(settings: Settings) -> str:
    """Return a short name of a network: classifier, ClaDec of layer dense, alpha 0.25."""
    return settings.model.phrase(_layer(settings)) + _alpha(settings)
