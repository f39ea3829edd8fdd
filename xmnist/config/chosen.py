"""Resolution of the explainers, metrics and images that a command chose. No torch."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from xmnist.config.components import Options, checked, listed
from xmnist.config.declarations import EXPLAINERS, METRICS, ExplainerDeclaration, MetricDeclaration, controls
from xmnist.config.defaults import option
from xmnist.config.kinds import ModelDeclaration, decoder_names, kinds_with, reference_of
from xmnist.config.schema import IMAGE_SUFFIXES, OWN_IMAGE
from xmnist.config.settings import OwnImages
from xmnist.runtime.errors import InputError
from xmnist.runtime.storage import digest

RESERVED = (
    *("images", "labels", "predictions", "indices", "masks", "files", "classes", "probabilities"),
    *("file", "allow_pickle"),
)
"""Names that explainers cannot have: `explanations.npz` uses them for other arrays, or cannot hold them."""


def images(values: Any) -> OwnImages:
    """Return the user's own images as a list of files, with the digest of each, which identifies the run.

    Raises:
        InputError: there is no such file, or no image in a folder.
    """
    image = checked("image.", values, OWN_IMAGE)
    paths = [] if image["path"] is None else own_files(listed(image["path"]))
    try:
        return OwnImages(path=paths or None, invert=image["invert"], sha256=[digest(Path(path)) for path in paths])
    except OSError as error:
        raise InputError(f"image={error.filename} cannot be read: {error.strerror}") from None


def own_files(words: Sequence[str]) -> list[str]:
    """Return the files that names of files and folders stand for.

    Raises:
        InputError: there is no such file, or no image in a folder.
    """
    out = []
    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
            if not inside:
                raise InputError(f"image={word}: no image in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
            out += [str(file) for file in inside if not file.name.startswith(".")]
        elif path.is_file():
            out.append(str(path))
        else:
            raise InputError(f"image={word}: there is no such file or folder")
    return out


def explainers(components: Any, model: ModelDeclaration) -> dict[str, ExplainerDeclaration]:
    """Return the chosen explainers, by name.

    Raises:
        InputError: there is no such explainer, an option is wrong, or it does not fit the model.
    """
    out = {}
    for name, options in _chosen("explainer", components, EXPLAINERS).items():
        if not re.fullmatch(r"[A-Za-z]\w*", str(name)) or name in RESERVED:
            reserved = ", ".join(RESERVED)
            raise InputError(f"an explainer cannot be called '{name}': letters, digits and _ only, and not {reserved}")
        if isinstance(options, dict) and "name" not in options:
            raise InputError(f"explainers.{name}.name is missing: it must be one of {', '.join(EXPLAINERS)}")
        out[name] = EXPLAINERS.made(f"explainers.{name}", options)
        if out[name].fits and model.name not in out[name].fits:
            raise InputError(
                f"explainer={name} needs model={' or '.join(out[name].fits)}, but this is model={model.name}"
            )
    return out


def metrics(components: Any) -> dict[str, MetricDeclaration]:
    """Return the chosen metrics, by name.

    Raises:
        InputError: there is no such metric, or an option is wrong.
    """
    out = {}
    for name, options in _chosen("metric", components, METRICS).items():
        out[name] = METRICS.made(f"metrics.{name}", options)
        if out[name].name != name:
            raise InputError(f"metrics.{name}.name must be {name}, got '{out[name].name}'")
    return out


def _chosen(group: str, components: Any, known: Collection[str]) -> Options:
    """Return the components with a name: an experiment may hold options for others, which were not chosen."""
    components = components if isinstance(components, dict) else {}
    chosen = {k: v for k, v in components.items() if k not in known or not isinstance(v, dict) or "name" in v}
    if not chosen:
        raise InputError(f"{group} must name one or more of {', '.join(known)}")
    return chosen


def measured(
    candidates: Mapping[str, ExplainerDeclaration], metrics: Collection[MetricDeclaration], several: bool, control: bool
) -> dict[str, ExplainerDeclaration]:
    """Return the explainers that metrics measure, by name.

    Args:
        several: whether several layers are decoded, so that what they drop is drawn.
        control: whether model-independent controls are measured beside maps.

    Raises:
        InputError: a metric has nothing to measure.
    """
    maps = {name: explainer for name, explainer in candidates.items() if explainer.answer != "image"}
    decoded = {name: explainer for name, explainer in candidates.items() if explainer.name in decoder_names()}
    drawn = {name: explainer for name, explainer in candidates.items() if several and explainer.models}
    of_maps, of_decoders = (
        [metric.name for metric in metrics if metric.measures == kind] for kind in ("maps", "decoders")
    )
    if of_maps and not maps:
        raise InputError(f"metric={of_maps[0]} measures maps, but no explainer here gives one: {', '.join(candidates)}")
    if of_decoders and not decoded:
        needs = f"it needs explainer={' or '.join(decoder_names())}"
        raise InputError(f"metric={of_decoders[0]} measures decoders: {needs}")
    if of_maps and control:
        maps = {name: EXPLAINERS.made(f"explainers.{name}", option("explainer", name)) for name in controls()} | maps
    return (maps if of_maps else {}) | (decoded | drawn if of_decoders else {})


def needed_model(explainers: Collection[ExplainerDeclaration], model: ModelDeclaration, map: str) -> ModelDeclaration:
    """Return the kind of model that these explainers use: the given one, its reference, or the classifier alone.

    Raises:
        InputError: the map is to be fixed, and the model has none.
    """
    if map != "recomputed" and not model.own_map:
        raise InputError(f"map={map} needs {kinds_with(lambda kind: kind.own_map)}, but this is model={model.name}")
    if model.own_map or {used for explainer in explainers for used in explainer.models} & {*reference_of()}:
        return model
    methods = {explainer.name for explainer in explainers}
    return model.turned(next((name for name in reference_of().values() if name in methods), model.basis))
