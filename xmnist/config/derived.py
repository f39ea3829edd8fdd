"""Values derived from settings: the training of their networks, and the other runs that they depend on."""

from dataclasses import replace
from typing import Any

from xmnist.config.components import Options, listed
from xmnist.config.kinds import MODELS, reference_of
from xmnist.config.schema import OWN, PHASES
from xmnist.config.settings import (
    EvaluateSettings,
    ExplainingSettings,
    ExplainSettings,
    OwnImages,
    Settings,
    StageSettings,
    training_settings,
)
from xmnist.config.trainer import Training
from xmnist.runtime.errors import InputError


def foreign(stage: str) -> list[str]:
    """Return the keys that belong to other stages; an experiment may hold them for these."""
    return sorted({key for keys in OWN.values() for key in keys} - set(OWN.get(stage, ())))


def dotted(values: Options, prefix: str = "") -> Options:
    """Return every value by its dotted key."""
    out: Options = {}
    for key, value in values.items():
        out |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def training(settings: Settings) -> Options:
    """Return the training of this run's own network: `trainer`, with the changes of its part for this model."""
    return settings.trainer.changed(settings.model.part)


def phases(settings: Settings) -> list[Training]:
    """Return the training of a model in each of its phases, of which most models have one.

    A joint model has three. Keys that `trainer.joint` lacks are as for the classifier, and only one part learns in
    each of the first two phases; `lr` is that of each part.

    Raises:
        InputError: in one of them nothing learns.
    """
    options = training(settings)
    if settings.model.phases == 1:
        return [Training.of(options)]
    rate = options.pop("lr")
    lists = {"lr_classifier": [rate, 0.0, rate], "lr_explainer": [0.0, rate, rate]}
    lists |= {key: options.pop(key) for key in PHASES if isinstance(options.get(key), list)}
    out = []
    for phase in range(settings.model.phases):
        changes = {key: values[phase] for key, values in lists.items()}
        lr = {"classifier": changes.pop("lr_classifier"), "explainer": changes.pop("lr_explainer")}
        if not any(lr.values()):
            raise InputError(f"trainer.joint.lr_classifier and lr_explainer are both 0 in phase {phase + 1}")
        out.append(Training.of(options | changes | {"lr": lr}))
    return out


def trained(
    settings: Settings, model: str, alpha: float | list[float] | None = None, layer: str | None = None
) -> Settings:
    """Return the settings of the `train` run of a model that a run of any stage depends on."""
    kind = settings.model.turned(model)
    weights = {key: value for key, value in settings.weights.items() if key in kind.weights}
    changes = {"layer": layer or listed(settings.layer)[0], "alpha": alpha, "weights": weights}
    return training_settings(settings, model=kind, force=False, **changes)


def explained(settings: Settings) -> Settings:
    """Return the `train` run of the network that a run explains."""
    return trained(settings, settings.model.basis, settings.alpha if settings.model.explained else None)


def alphas(settings: Settings) -> list[float]:
    """Return the alphas of ClaDecs, variational or not, one or more; none for other models."""
    return listed(settings.alpha) if settings.model.reference else []


def learned(settings: Settings, model: str) -> list[Settings]:
    """Return the `train` runs of a kind of model that a learned explainer uses: one for each layer and alpha."""
    alpha_values = alphas(settings) if MODELS[model].reference else [None]
    return [trained(settings, model, alpha, layer) for layer in listed(settings.layer) for alpha in alpha_values]


def variant(settings: Settings, run: Settings) -> list[str]:
    """Return the layer and alpha of a `train` run, each where the settings have several, to distinguish it."""
    parts = [f"layer={run.layer}"] if len(listed(settings.layer)) > 1 else []
    if run.alpha is not None and len(alphas(settings)) > 1:
        parts.append(f"alpha={plain(run.alpha)}")
    return parts


def needed(settings: ExplainingSettings) -> list[Settings]:
    """Return the `train` runs that a run of another stage depends on, the explained network first."""
    explainers = settings.explainers.values()
    models, methods = (
        {model for explainer in explainers for model in explainer.models},
        {explainer.name for explainer in explainers},
    )
    decoders = [run for model, reference in reference_of().items() for name in (model, reference) if name in models
              for run in learned(settings, name)]  # fmt: skip
    metrics = settings.metrics.values() if isinstance(settings, EvaluateSettings) else ()
    judges = any(metric.judges for metric in metrics)
    judged = [run for run in decoders if judges and run.model.name in methods]
    return [explained(settings), *decoders, *map(evaluation, judged)]


def stands_on(settings: StageSettings) -> list[Settings]:
    """Return the `train` runs whose networks a run of any stage uses, the explained network first."""
    if isinstance(settings, ExplainingSettings):
        return needed(settings)
    if not isinstance(settings, Settings):
        return []
    if decoder := judged(settings):
        return [explained(settings), decoder]
    if not settings.model.decodes:
        return []
    several = isinstance(settings.layer, list) or isinstance(settings.alpha, list)
    return [explained(settings), *(learned(settings, settings.model.name) if several else [])]


def selects(settings: ExplainingSettings) -> bool:
    """Return whether a run of another stage uses selected test images; metrics of anything but maps use all."""
    if isinstance(settings, EvaluateSettings):
        return any(metric.measures == "maps" for metric in settings.metrics.values())
    return own_images(settings).path is None


def own_images(settings: ExplainingSettings) -> OwnImages:
    """Return the user's own images that are explained, if there are any."""
    return settings.image if isinstance(settings, ExplainSettings) else OwnImages()


def evaluation(decoder: Settings) -> Settings:
    """Return the `train` run of a fresh classifier of this decoder's reconstructions."""
    options = {"of": decoder.model.name, **decoder.model.options()}
    return replace(decoder, model=MODELS["evaluation"].made("model", options))


def judged(settings: Settings) -> Settings | None:
    """Return the run whose decoder an evaluation classifier judges; None for other models."""
    decoder = settings.model.judged
    return None if decoder is None else replace(settings, model=decoder)


def plain(alpha: Any) -> str:
    """Return an alpha in short notation: 0, 0.25, 0.999."""
    return f"{alpha:.12g}"
