"""Stage `explain`: explanations of chosen test images, side by side."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xmnist import data, explainers, figures, runs, selection, training
from xmnist.config import Settings, alphas, learned, needed, plain
from xmnist.data.base import Data
from xmnist.explainers.base import Explainer
from xmnist.joint import Joint, SeenThrough
from xmnist.layers import batched
from xmnist.runs import Run
from xmnist.schema import LEARNED

log = logging.getLogger(__name__)

SHOWN = 24
"""How many columns the picture has at most; the arrays hold all images."""

TITLES = {
    "joint": "joint model's map",
    "cladec": "ClaDec",
    "refae": "RefAE",
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "guided_gradcam": "guided Grad-CAM",
    "lrp": "LRP",
    "lrp_shifted": "LRP\naveraged over shifts",
    "deep_taylor": "deep Taylor",
    "simple_taylor": "simple Taylor",
    "input_x_gradient": "input x gradient",
    "smoothgrad": "SmoothGrad",
    "deeplift": "DeepLIFT",
    "deep_shap": "Deep SHAP",
    "gradient_shap": "Gradient SHAP",
    "sobel": "Sobel",
    "otsu": "Otsu",
}
"""Explainers whose name is not spelled as people spell it."""


CLASS = {"predicted": "predicted", "label": "true"}
"""How pictures call the class of a target."""


@dataclass(frozen=True)
class Explanation:
    """What one explainer answers for all chosen images; `gap` (K,) is its completeness gap, where it has one."""

    name: str
    title: str
    explainer: Explainer
    answers: Tensor
    gap: Tensor | None


def check(settings: Settings) -> None:
    """Find out, before anything is written, whether this run can be done.

    Raises:
        InputError: no such device, layer, class or data; a network that is not there and may not be trained; an
            explainer that cannot explain this classifier.
    """
    for run in needed(settings):
        if not training.check_needed(run).finished():
            training.check(run)
    info = data.info(settings["dataset"])
    selection.numbered(settings["select"], info.classes)
    network, example = training.new_explained(settings, info).eval(), torch.zeros(1, *info.shape)
    if settings["map"] == "fixed":
        network = _seen_through(network, example)
    for name, options in settings["explainers"].items():
        if options["name"] not in LEARNED:
            _built(name, options, settings, example).check(network, example)


def main(settings: Settings, typed: str) -> dict[str, Any]:
    """Draw what the settings describe, unless that is done already.

    Args:
        typed: the command that asked for it.
    """
    run = Run("explain", settings)
    device = training.find_device(settings["device"])
    images = training.load_data(settings).to(device)
    selection.check_indices(settings["select"], len(images.test))
    for missing in needed(settings):
        training.found_or_trained(missing)
    classifier = training.load_explained(settings, images, device)
    logits = batched(classifier, images.test.images)
    seen = logits.argmax(1)
    rows = selection.choose(settings["select"], images.test.labels, seen, images.info.classes).to(device)
    with runs.claim(run, typed) as to_do:
        if to_do:
            log.info("explaining %d test images: %s", len(rows), run.path)
            training.write_environment(run, device)
            made = list(_logged(_explanations(settings, classifier, images, rows, seen[rows])))
            _write(run, images, rows, logits[rows], classifier, made)
        run.tell("done" if to_do else "already done")
    return run.metrics()


def _explanations(
    settings: Settings, classifier: nn.Module, images: Data, rows: Tensor, predicted: Tensor
) -> Iterator[Explanation]:
    shown = images.test.images[rows]
    classes = {"predicted": predicted, "label": images.test.labels[rows]}
    targets = _targets(settings)
    for name, options in settings["explainers"].items():
        title = TITLES.get(name, name.replace("_", " "))
        if options["name"] in LEARNED:  # these do not depend on the target
            for alpha, explainer in _fitted(name, options, settings, images):
                key = f"{name},alpha={alpha}" if alpha and len(alphas(settings)) > 1 else name
                full = f"{title}\nalpha {alpha}" if alpha else title
                yield _explained(key, full, explainer, classifier, shown, predicted)
            continue
        explainer = _built(name, options, settings, images.train.images)
        for target in targets:
            key, full = name, title
            if len(targets) > 1:
                key, full = f"{name},target={target}", f"{title}\nof {CLASS[target]} class"
            if settings["map"] == "fixed":
                parts = [
                    _explained(key, full, explainer, _seen_through(classifier, image), image, own)
                    for image, own in zip(shown.split(1), classes[target].split(1), strict=True)
                ]
                yield _together(parts)
            else:
                yield _explained(key, full, explainer, classifier, shown, classes[target])


def _seen_through(network: nn.Module, image: Tensor) -> nn.Module:
    """A joint network with the map that it makes of one image (1, C, H, W)."""
    assert isinstance(network, Joint)
    with torch.no_grad():
        return SeenThrough(network, network.explainer(image))


def _targets(settings: Settings) -> list[str]:
    return settings["target"] if isinstance(settings["target"], list) else [settings["target"]]


def _built(name: str, options: Settings, settings: Settings, train: Tensor) -> Explainer:
    """The explainer of these options; `train` are the training images."""
    own = {key: value for key, value in options.items() if key != "name"}
    if settings["model"]["name"] == "joint" and own.get("layer"):  # layers are the classifier's
        own["layer"] = f"{'joint.' if settings['map'] == 'fixed' else ''}classifier.{own['layer']}"
    return explainers.build(options["name"], name=name, seed=settings["seed"], train=train, **own)


def _fitted(name: str, options: Settings, settings: Settings, images: Data) -> Iterator[tuple[str, Explainer]]:
    """A learned explainer for each alpha, with the alpha as people write it, or one and nothing."""
    if options["name"] == "joint":  # what is explained makes it itself
        yield "", _built(name, options, settings, images.train.images)
        return
    for needs in learned(settings, options["name"]):
        model = training.fitted(Run("train", needs), images, images.test.images.device).model
        own = {"layer": settings["layer"]} if options["name"] == "cladec" else {}
        alpha = "" if needs["alpha"] is None else plain(needs["alpha"])
        yield alpha, _built(name, {**options, **own, "fitted": model}, settings, images.train.images)


def _explained(
    name: str, title: str, explainer: Explainer, classifier: nn.Module, images: Tensor, targets: Tensor
) -> Explanation:
    answers = explainer(classifier, images, targets)
    gap = explainer.completeness_gap(classifier, images, targets, answers)
    return Explanation(name, title, explainer, answers, gap)


def _together(parts: list[Explanation]) -> Explanation:
    """The answers for single images as one."""
    gaps = [part.gap for part in parts if part.gap is not None]
    answers = torch.cat([part.answers for part in parts])
    return replace(parts[0], answers=answers, gap=torch.cat(gaps) if gaps else None)


def _logged(made: Iterator[Explanation]) -> Iterator[Explanation]:
    """Tell of each explanation when it is there."""
    start = time.monotonic()
    for each in made:
        log.info("  %s: %.2f s%s", each.name, time.monotonic() - start, "" if each.gap is None else _told(each.gap))
        yield each
        start = time.monotonic()


def _told(gap: Tensor) -> str:
    """What a log says of the completeness gaps (K,)."""
    each = ", ".join(f"{value:.3g}" for value in gap[:SHOWN].tolist())
    return f", completeness gap at most {gap.abs().max().item():.3g} ({each}{', ...' if len(gap) > SHOWN else ''})"


def _write(
    run: Run, images: Data, rows: Tensor, logits: Tensor, classifier: nn.Module, made: list[Explanation]
) -> None:
    chosen, names = images.test[rows], images.info.classes
    labels, predicted = chosen.labels, logits.argmax(1)
    arrays = {"images": chosen.images, "labels": labels, "predictions": predicted, "indices": rows}
    if chosen.masks is not None:
        arrays["masks"] = chosen.masks
    arrays |= {each.name: each.answers for each in made}
    with runs.atomic(run.path / "explanations.npz") as file:
        np.savez_compressed(file, **{name: array.cpu().numpy() for name, array in arrays.items()})  # type: ignore[arg-type]
    run.write_csv("selection.csv", _table(rows, labels, logits, names, made))

    def seen_in(pictures: Tensor) -> list[str]:
        return [names[i] for i in batched(classifier, pictures).argmax(1).tolist()]

    shown, truth = slice(SHOWN), [names[i] for i in labels[:SHOWN].tolist()]
    grid = [figures.Row("original", chosen.images[shown].cpu().numpy(), [names[i] for i in predicted[shown].tolist()])]
    if chosen.masks is not None:
        grid.append(figures.Row("ground truth", chosen.masks[shown].float().cpu().numpy(), None, "mask"))
    for each in made:
        pictures, kind = each.answers[shown], each.explainer.kind
        seen = seen_in(pictures) if kind == "image" else None
        grid.append(figures.Row(each.title, pictures.cpu().numpy(), seen, kind))
    if len(rows) > SHOWN:
        log.info("the picture shows the first %d of %d images; explanations.npz has all", SHOWN, len(rows))
    with runs.atomic(run.path / f"grid.{run.settings['format']}") as file:
        figures.grid(grid, truth, _title(run.settings), file)


def _table(
    rows: Tensor, labels: Tensor, logits: Tensor, names: tuple[str, ...], made: list[Explanation]
) -> list[dict[str, Any]]:
    """One line an image: what it is, what the classifier sees in it, and the completeness gaps of its maps."""
    sure, seen = logits.softmax(1).max(1)
    gaps = {f"{each.name} gap": each.gap.tolist() for each in made if each.gap is not None}
    return [
        {
            **{"index": index, "label": label, "class": names[label], "prediction": guess},
            **{"predicted_class": names[guess], "probability": round(probability, 6)},
            **{name: gap[place] for name, gap in gaps.items()},
        }
        for place, (index, label, guess, probability) in enumerate(
            zip(rows.tolist(), labels.tolist(), seen.tolist(), sure.tolist(), strict=True)
        )
    ]


def _title(settings: Settings) -> str:
    model, layer = settings["model"], ""
    if model["name"] == "joint":
        layer = f"{model['loss']} joint model, "
    elif model["name"] != "classifier":
        layer = f"layer {settings['layer']} of "
    explained = f", explained class: {' and '.join(CLASS[target] for target in _targets(settings))}"
    if all(options["name"] in LEARNED for options in settings["explainers"].values()):
        explained = ""
    return (
        f"{layer}{settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}{explained}"
    )
