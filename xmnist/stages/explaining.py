"""What stages explain, and by what: the trained network, the chosen images, and each explainer set up for them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from xmnist import data
from xmnist.config.components import listed
from xmnist.config.declarations import EXPLAINERS, decoder_names, reference_of, row_title
from xmnist.config.derived import Settings, learned, needed, plain, selects, trained, variant
from xmnist.data import own as own_images
from xmnist.data import pixels
from xmnist.data.base import Data, Split
from xmnist.data.own import Own
from xmnist.explainers.base import Explainer
from xmnist.explainers.configured import ConfiguredExplainer, with_its_map
from xmnist.models.layers import batched
from xmnist.runs.store import Run
from xmnist.runtime import devices, progress
from xmnist.runtime.errors import InputError
from xmnist.stages import missing
from xmnist.training import networks, side_by_side

log = logging.getLogger(__name__)

CLASS = {"predicted": "predicted", "label": "true"}
"""How pictures call the class of a target."""


@dataclass(frozen=True)
class ExplanationContext:
    """What is explained: the data, the trained network with its logits (N, K) for all test images, the chosen rows.

    Where `own` are images from elsewhere, these are explained: the logits and rows are theirs.
    """

    settings: Settings
    images: Data
    classifier: nn.Module
    logits: Tensor
    rows: Tensor
    own: Own | None = None

    @cached_property
    def chosen(self) -> Split:
        """The chosen images; those from elsewhere have the predicted class for a label."""
        if self.own is not None:
            return Split(self.own.images.to(self.rows.device), self.logits.argmax(1))
        return self.images.test[self.rows]

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the chosen images' files; none where they have none."""
        if self.own is not None:
            return self.own.files
        names = self.images.info.files
        return tuple(names[row] for row in self.rows.tolist()) if names else ()

    def classes(self, target: str) -> Tensor:
        """The class (K,) of each chosen image that is explained: the predicted one, or its label."""
        return self.logits[self.rows].argmax(1) if target == "predicted" else self.chosen.labels


def check(settings: Settings) -> None:
    """Find out, before anything is written, whether these explainers can explain what they are to.

    Raises:
        InputError: no such device, layer, class or data; a network that is not there and may not be trained; an
            explainer that cannot explain this classifier.
    """
    for run in needed(settings):
        if not networks.check_needed(run).finished():
            networks.check(run)
    info = data.info(settings["dataset"])
    if own := settings.get("image", {}).get("path"):
        if "label" in targets(settings):
            raise InputError("target=label explains the true class, which images of your own have not: leave it out")
        for path in own:
            pixels.read_image(Path(path), info.shape[0])
    data.selection_of(settings["select"]).numbered(info.classes)
    network, example = networks.new_explained(settings, info).eval(), torch.zeros(1, *info.shape)
    if settings["map"] == "fixed":
        network = with_its_map(network, example)
    for name, options in settings["explainers"].items():
        if not EXPLAINERS[options["name"]].models:
            _built(name, options, settings, example).check(network, example)


def scene(settings: Settings, typed: str = "") -> ExplanationContext:
    """What these settings explain; networks that are missing are trained now.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: there is no such test image.
    """
    device = devices.find_device(settings["device"])
    images = networks.load_data(settings).to(device)
    if selects(settings):
        data.selection_of(settings["select"]).check(len(images.test))
    for each in needed(settings):
        networks.check_needed(each)
    missing.announce(needed(settings), typed)
    for kinds in (("classifier", "joint"), decoder_names(), ("evaluation",)):  # each stands on those before
        runs = [run for run in needed(settings) if run["model"]["name"] in kinds]
        side_by_side.side_by_side(runs)
        for run in runs:
            networks.found_or_trained(run)
    classifier = networks.load_explained(settings, images, device)
    if own := settings.get("image", {}).get("path"):
        from_elsewhere = own_images.read(own, images.train.images, settings["image"]["invert"])
        for line in from_elsewhere.lines:
            log.info("%s", line)
        logits = batched(classifier, from_elsewhere.images.to(device))
        rows = torch.arange(len(own), device=device)
        return ExplanationContext(settings, images, classifier, logits, rows, from_elsewhere)
    with progress.activity("classifying the test images"):
        logits = batched(classifier, images.test.images)
    rows = torch.empty(0, dtype=torch.long)
    if selects(settings):
        select = data.selection_of(settings["select"])
        rows = select.choose(images.test.labels, logits.argmax(1), images.info.classes)
    return ExplanationContext(settings, images, classifier, logits, rows.to(device))


def ordered(scene: ExplanationContext) -> list[ConfiguredExplainer]:
    """All explainers, set up, in the order of a picture's rows: of several layers, what comes of one is together."""
    found = [subject for name in scene.settings["explainers"] for subject in subjects(scene, name)]
    layers = ["", *listed(scene.settings["layer"])]
    return sorted(found, key=lambda subject: layers.index(subject.layer)) if len(layers) > 2 else found


def subjects(scene: ExplanationContext, name: str) -> Iterator[ConfiguredExplainer]:
    """The explainer of that name, set up: once for each target, or for each alpha."""
    settings = scene.settings
    options, title = settings["explainers"][name], row_title(name)
    if EXPLAINERS[options["name"]].models:  # their answer is the same for any target
        target = targets(settings)[0]
        if options["name"] == "joint":  # what is explained makes it itself
            yield ConfiguredExplainer(name, title, _built(name, options, settings, scene.images.train.images), target)
            return
        for needs in learned(settings, options["name"]):
            lines = [title, *([f"layer {needs['layer']}"] if isinstance(settings["layer"], list) else [])]
            lines += [] if needs["alpha"] is None else [f"alpha {plain(needs['alpha'])}"]
            key, explainer = ",".join([name, *variant(settings, needs)]), _fitted(name, options, scene, needs)
            yield ConfiguredExplainer(key, "\n".join(lines), explainer, target, layer=needs["layer"])
        return
    explainer = _built(name, options, settings, scene.images.train.images)
    for target in targets(settings):
        key, full = name, title
        if len(targets(settings)) > 1:
            key, full = f"{name},target={target}", f"{title}\nof {CLASS[target]} class"
        yield ConfiguredExplainer(key, full, explainer, target, settings["map"] == "fixed")


def targets(settings: Settings) -> list[str]:
    """What is explained: one kind of target, or several."""
    return listed(settings["target"])


def _built(name: str, options: Settings, settings: Settings, train: Tensor) -> Explainer:
    """The explainer of these options; `train` are the training images."""
    own = {key: value for key, value in options.items() if key != "name"}
    if settings["model"]["name"] == "joint" and own.get("layer"):  # layers are the classifier's
        own["layer"] = f"{'joint.' if settings['map'] == 'fixed' else ''}classifier.{own['layer']}"
    made = EXPLAINERS[options["name"]](**own, label=name, seed=settings["seed"], train=train)  # type: ignore[call-arg]
    assert isinstance(made, Explainer)
    return made


def _fitted(name: str, options: Settings, scene: ExplanationContext, needs: Settings) -> Explainer:
    """A learned explainer of these options, with the networks of finished `train` runs."""
    own = {} if options["name"] in reference_of().values() else {"layer": needs["layer"]}
    if options["name"] == "difference":
        own["reference"] = _network(scene, trained(needs, "refae"))
    own["fitted"] = _network(scene, needs)
    return _built(name, {**options, **own}, scene.settings, scene.images.train.images)


def _network(scene: ExplanationContext, settings: Settings) -> nn.Module:
    return networks.fitted(Run("train", settings), scene.images, scene.images.test.images.device).model
