"""Common part of stages `explain` and `evaluate`: the trained network, the chosen images, the set-up explainers."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmnist import data
from xmnist.config.components import listed
from xmnist.config.declarations import EXPLAINERS, ExplainerDeclaration, row_title
from xmnist.config.derived import learned, needed, own_images, plain, selects, trained, variant
from xmnist.config.settings import ExplainingSettings, Settings
from xmnist.data import own as elsewhere
from xmnist.data import pixels
from xmnist.data.base import Data, Split
from xmnist.data.own import Own
from xmnist.explainers.base import Explainer
from xmnist.explainers.configured import ConfiguredExplainer, with_its_map
from xmnist.explainers.learned import Learned
from xmnist.models.base import new_explained
from xmnist.models.layers import batched
from xmnist.runs.store import Run
from xmnist.runtime import devices, progress
from xmnist.runtime.errors import InputError
from xmnist.stages import missing
from xmnist.training import checks, networks

log = logging.getLogger(__name__)

CLASS = {"predicted": "predicted", "label": "true"}
"""Target -> the name of its class in pictures."""


@dataclass(frozen=True)
class ExplanationContext:
    """The data, the trained network with its logits (N, K) for all test images, and the rows of the chosen images.

    If `own` images are given, these are explained instead: the logits and rows are theirs.
    """

    settings: ExplainingSettings
    images: Data
    classifier: nn.Module
    logits: Tensor
    rows: Tensor
    own: Own | None = None

    @cached_property
    def chosen(self) -> Split:
        """The chosen images; own images have the predicted class as their label."""
        if self.own is not None:
            return Split(self.own.images.to(self.rows.device), self.logits.argmax(1))
        return self.images.test[self.rows]

    @property
    def files(self) -> tuple[str, ...]:
        """The file names of the chosen images; empty if they are not from files."""
        if self.own is not None:
            return self.own.files
        names = self.images.info.files
        return tuple(names[row] for row in self.rows.tolist()) if names else ()

    def classes(self, target: str) -> Tensor:
        """Return the target class (K,) of each chosen image: the predicted class, or its label."""
        return self.logits[self.rows].argmax(1) if target == "predicted" else self.chosen.labels


def check(settings: ExplainingSettings) -> None:
    """Check, before anything is written, whether these explainers can explain this classifier on this data.

    Raises:
        InputError: there is no such device, layer, class or data; a network is missing and may not be trained; an
            explainer cannot explain this classifier.
    """
    for run in needed(settings):
        if not checks.check_needed(run):
            checks.check(run)
    info = data.info(settings.dataset)
    if paths := own_images(settings).path:
        if "label" in targets(settings):
            raise InputError("target=label explains the true class, which images of your own have not: leave it out")
        for path in paths:
            pixels.read_image(Path(path), info.shape[0])
    settings.select.numbered(info.classes)
    # An untrained network is enough here: this check comes before the missing networks are trained.
    network, example = new_explained(settings, info).eval(), torch.zeros(1, *info.shape)
    if settings.map == "fixed":
        network = with_its_map(network, example)
    for name, explainer in settings.explainers.items():
        if not explainer.models:
            _built(name, explainer, settings, example).check(network, example)


def scene(settings: ExplainingSettings, typed: str = "") -> ExplanationContext:
    """Return the explanation context of these settings; missing networks are trained first.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: there is no such test image.
    """
    device = devices.find_device(settings.device)
    images = networks.load_data(settings).to(device)
    if selects(settings):
        data.selection_of(settings.select).check(len(images.test))
    missing.train(needed(settings), typed)
    classifier = networks.load_explained(settings, images, device)
    if paths := own_images(settings).path:
        from_elsewhere = elsewhere.read(paths, images.train.images, own_images(settings).invert)
        for line in from_elsewhere.lines:
            log.info("%s", line)
        logits = batched(classifier, from_elsewhere.images.to(device))
        rows = torch.arange(len(paths), device=device)
        return ExplanationContext(settings, images, classifier, logits, rows, from_elsewhere)
    with progress.activity("classifying the test images"):
        logits = batched(classifier, images.test.images)
    rows = torch.empty(0, dtype=torch.long)
    if selects(settings):
        select = data.selection_of(settings.select)
        rows = select.choose(images.test.labels, logits.argmax(1), images.info.classes)
    return ExplanationContext(settings, images, classifier, logits, rows.to(device))


def ordered(scene: ExplanationContext) -> list[ConfiguredExplainer]:
    """Return all explainers, set up, in the order of a picture's rows; rows of the same layer are adjacent."""
    configured = [subject for name in scene.settings.explainers for subject in subjects(scene, name)]
    layers = ["", *listed(scene.settings.layer)]
    return sorted(configured, key=lambda subject: layers.index(subject.layer)) if len(layers) > 2 else configured


def subjects(scene: ExplanationContext, name: str) -> Iterator[ConfiguredExplainer]:
    """Yield the explainer of that name, set up: once for each target, or for each layer and alpha."""
    settings = scene.settings
    title, explainer = row_title(name), _built(name, settings.explainers[name], settings, scene.images.train.images)
    if explainer.models:  # their answer is the same for any target
        target = targets(settings)[0]
        if not isinstance(explainer, Learned):  # the explained network makes the answer itself
            yield ConfiguredExplainer(name, title, explainer, target)
            return
        for needs in learned(settings, explainer.models[0]):
            layer = str(needs.layer)
            lines = [title, *([f"layer {layer}"] if isinstance(settings.layer, list) else [])]
            lines += [] if needs.alpha is None else [f"alpha {plain(needs.alpha)}"]
            key = ",".join([name, *variant(settings, needs)])
            answering = explainer.answering(_networks(explainer, scene, needs), layer)
            yield ConfiguredExplainer(key, "\n".join(lines), answering, target, layer=layer)
        return
    for target in targets(settings):
        key, full = name, title
        if len(targets(settings)) > 1:
            key, full = f"{name},target={target}", f"{title}\nof {CLASS[target]} class"
        yield ConfiguredExplainer(key, full, explainer, target, settings.map == "fixed")


def targets(settings: ExplainingSettings) -> list[str]:
    """Return the kinds of target that are explained, one or several."""
    return listed(settings.target)


def _built(name: str, chosen: ExplainerDeclaration, settings: ExplainingSettings, train: Tensor) -> Explainer:
    """Return the chosen explainer, set up for these settings; `train` are the training images.

    Raises:
        InputError: the explainer is unknown, or has other options.
    """
    explainer = chosen if isinstance(chosen, Explainer) else EXPLAINERS.made(f"explainers.{name}", chosen.plain())
    assert isinstance(explainer, Explainer)
    layer = chosen.options().get("layer")
    options: dict[str, Any] = {"layer": settings.model.layer_of(layer, settings.map == "fixed")} if layer else {}
    return replace(explainer, label=name, seed=settings.seed, train=train, **options)


def _networks(explainer: Explainer, scene: ExplanationContext, needs: Settings) -> list[nn.Module]:
    """Return the networks of finished `train` runs from which a learned explainer computes its answers."""
    runs = [needs, *(trained(needs, model) for model in explainer.models[1:])]
    device = scene.images.test.images.device
    return [networks.fitted(Run("train", run), scene.images, device).model for run in runs]
