"""Every metric of stage `evaluate`: what it measures, of whom, as tables with a row an observation."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from xmnist.config.declarations import EXPLAINERS
from xmnist.config.derived import Settings, evaluation, learned, listed, variant
from xmnist.config.schema import DECODERS, OF_MAPS
from xmnist.data.base import Split
from xmnist.metrics import aopc, classification, localisation, pompom, similarity
from xmnist.metrics.interventions import reset_from_the_top, rewritten
from xmnist.metrics.reconstruction import reconstruction
from xmnist.models.joint import Joint
from xmnist.models.layers import batched
from xmnist.runs.store import Run
from xmnist.runtime import devices, progress
from xmnist.runtime.errors import one_line
from xmnist.runtime.seeds import derive_seed
from xmnist.stages import explaining
from xmnist.stages.explaining import ConfiguredExplainer, ExplanationContext
from xmnist.training import networks
from xmnist.training.objectives import Task

log = logging.getLogger(__name__)

Tables = dict[str, pd.DataFrame]
"""Rows by the table that they belong to."""

TOUCHED = 1e-6
"""The share of a map's largest value from which on it says something of a pixel, and of a logit that it has changed."""


@dataclass
class EvaluationResult:
    """What was measured, and why some of it could not be: `failures[metric, name]` is the reason.

    `names` are the models and explainers in the order of their tables, each with its kind; `errors` the failures as
    they were raised.
    """

    tables: Tables = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    report: classification.Report | None = None

    def attempt(self, metric: str, name: str, kind: str, measure: Callable[[], Tables]) -> None:
        """Take up what is measured; what fails is written down, and the others go on."""
        self.names.setdefault(name, kind)
        start = time.monotonic()
        try:
            with progress.activity(f"{metric} of {name}"):
                found = measure()
        except Exception as error:
            reason = " ".join(one_line(error).split())
            self.failures[metric, name] = reason
            self.errors.append(error)
            log.warning("  %s of %s failed: %s", metric, name, reason)
            return
        for table, rows in found.items():
            self.tables[table] = pd.concat([self.tables[table], rows]) if table in self.tables else rows
        log.info("  %s of %s: %.1f s", metric, name, time.monotonic() - start)


def measure(scene: ExplanationContext) -> EvaluationResult:
    """Everything that the settings ask for."""
    found, settings = EvaluationResult(), scene.settings
    if "classification" in settings["metrics"]:
        found.attempt("classification", "classifier", "model", lambda: _classification(scene, found))
    if "reconstruction" in settings["metrics"]:
        _reconstructions(scene, found, settings["metrics"]["reconstruction"]["evaluation_accuracy"])
    of_maps = {name: options for name, options in settings["metrics"].items() if name in OF_MAPS}
    for name, options in settings["explainers"].items():
        if of_maps and EXPLAINERS[options["name"]].answer != "image":
            _maps(scene, found, name, of_maps)
    return found


def _maps(scene: ExplanationContext, found: EvaluationResult, name: str, metrics: Settings) -> None:
    """Measure the maps of one explainer, for each layer and alpha; they are kept no longer than that."""
    made: list[tuple[ConfiguredExplainer, Tensor]] = []

    def make() -> Tables:
        for subject in explaining.subjects(scene, name):
            made.append((subject, subject(scene.classifier, scene.chosen.images, scene.classes(subject.target))))
        return {}

    found.attempt("maps", name, "explainer", make)
    if ("maps", name) in found.failures:
        made.clear()
        reason = found.failures.pop(("maps", name))
        found.failures |= {(metric, name): reason for metric in metrics}
    if made and name not in {subject.name for subject, _ in made}:
        del found.names[name]  # several have names of their own
    for subject, maps in made:
        for metric, options in metrics.items():
            own = {key: value for key, value in options.items() if key != "name"}
            found.attempt(metric, subject.name, "explainer", partial(_of, metric, scene, subject, maps, **own))


def _of(metric: str, scene: ExplanationContext, subject: ConfiguredExplainer, maps: Tensor, **options: Any) -> Tables:
    """What a metric measures of maps; every row says whose they are."""
    found = OF[metric](scene, subject, maps, **options)
    for rows in found.values():
        rows.insert(0, "explainer", subject.name)
    return found


def _column(values: Tensor) -> np.ndarray:
    return values.detach().cpu().double().numpy()


def _aopc(
    scene: ExplanationContext,
    subject: ConfiguredExplainer,
    maps: Tensor,
    patch: int | list[int],
    fill: str | list[str],
    steps: int | None,
    batch_size: int,
    precision: str,
) -> Tables:
    images, targets, seed = scene.chosen.images, scene.classes(subject.target), scene.settings["seed"]
    tables: dict[str, list[pd.DataFrame]] = {"aopc": [], "aopc_curves": []}
    orders = {
        side: {"morf": aopc.patch_order(maps, side, seed), "lerf": aopc.patch_order(-maps, side, seed)}
        for side in listed(patch)
    }
    for name in listed(fill):
        covering = aopc.filling(name, images, seed)
        for side, both in orders.items():
            for kind, predict in _predictions(scene, images, precision).items():
                where = {**({"map": kind} if kind else {}), "patch": side, "fill": name}
                found = {
                    order: aopc.curves(predict, images, targets, patches, side, covering, steps, batch_size)
                    for order, patches in both.items()
                }
                each = {order: aopc.aopc(values) for order, values in found.items()}
                last = {order: _column(values[:, -1]) for order, values in each.items()}
                own = {"aopc": last["morf"], "aopc_lerf": last["lerf"], "abpc": last["morf"] - last["lerf"]}
                tables["aopc"].append(pd.DataFrame({**where, "image": _numbers(scene), **own}))
                for order, values in found.items():
                    means = {"f": _column(values.mean(0)), "aopc": _column(each[order].mean(0))}
                    step = np.arange(values.shape[1])
                    tables["aopc_curves"].append(pd.DataFrame({**where, "order": order, "step": step, **means}))
    return {name: pd.concat(parts) for name, parts in tables.items()}


def _predictions(scene: ExplanationContext, images: Tensor, precision: str) -> dict[str, aopc.Predict]:
    """What answers to covered images; a joint model does so with the map of the whole image, and with one anew."""
    network = scene.classifier
    lowered = devices.autocast(devices.find_precision(precision, images.device), images.device)
    if not isinstance(network, Joint):
        return {"": lowered(lambda covered, _: network(covered).float())}
    own = batched(network.explainer, images)
    return {
        "fixed": lowered(lambda covered, rows: network.gated(covered, own[rows]).float()),
        "recomputed": lowered(lambda covered, _: network(covered).float()),
    }


def _numbers(scene: ExplanationContext) -> np.ndarray:
    return scene.rows.cpu().numpy()


def _pompom(scene: ExplanationContext, subject: ConfiguredExplainer, maps: Tensor) -> Tables:
    masks = scene.chosen.masks
    assert masks is not None
    return {"pompom": pd.DataFrame({"image": _numbers(scene), "pompom": _column(pompom.pompom(maps, masks))})}


def _localisation(scene: ExplanationContext, subject: ConfiguredExplainer, maps: Tensor) -> Tables:
    masks = scene.chosen.masks
    assert masks is not None
    found = {
        "mass": localisation.mass_inside(maps, masks),
        "rank": localisation.rank_inside(maps, masks),
        "pointing": localisation.pointing_game(maps, masks),
    }
    return {"localisation": pd.DataFrame({"image": _numbers(scene)} | {k: _column(v) for k, v in found.items()})}


def _axioms(scene: ExplanationContext, subject: ConfiguredExplainer, maps: Tensor, count: int, pixels: int) -> Tables:
    network, seed = scene.classifier, scene.settings["seed"]
    images, targets, maps = scene.chosen.images[:count], scene.classes(subject.target)[:count], maps[:count]
    tables = []

    def add(axiom: str, values: Tensor, layer: str = "") -> None:
        numbers = _numbers(scene)[:count]
        tables.append(pd.DataFrame({"axiom": axiom, "layer": layer, "image": numbers, "value": _column(values)}))

    gap = subject.gap(network, images, targets, maps)
    if gap is not None:
        add(f"{subject.explainer.axiom}_gap", gap)
    add("sensitivity_a", _sensitivity(network, subject, images, targets, pixels, seed))
    add(
        "invariance_gap",
        similarity.relative_difference(
            maps, subject(rewritten(network, scene.images.info.shape, seed), images, targets)
        ),
    )
    for layer, reset in reset_from_the_top(network, seed):
        others = subject(reset, images, targets)
        add("reset_rank_correlation", similarity.rank_correlation(maps, others), layer)
        add("reset_ssim", similarity.structural_similarity(maps, others), layer)
    return {"axioms": pd.concat(tables)}


def _sensitivity(
    network: Any, subject: ConfiguredExplainer, images: Tensor, targets: Tensor, pixels: int, seed: int
) -> Tensor:
    """Sensitivity(a): the share (N,) of pixels that change the logit of a black image and are in its map.

    Each of up to `pixels` random pixels of an image is put into a black one by itself, and explained; NaN if none
    changes the logit.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", arXiv 1703.01365, section 2.1.
    """
    count, where = len(images), (images != 0).any(1).flatten(1)
    pixels = min(pixels, where.shape[1])
    generator = torch.Generator().manual_seed(derive_seed(seed, "pixels of sensitivity(a)"))
    drawn = (torch.rand(where.shape, generator=generator).to(images) + where).argsort(1, descending=True)[:, :pixels]
    alone = F.one_hot(drawn, where.shape[1]).view(-1, 1, *images.shape[2:])  # (N * pixels, 1, H, W)
    own = targets.repeat_interleave(pixels)
    probes = images.repeat_interleave(pixels, 0) * alone
    both = []
    for explained, part, classes in subject.parts(network, probes, own):
        logits = torch.cat([batched(explained, part), explained(torch.zeros_like(part[:1]))])
        both.append(torch.stack([logits[:-1].gather(1, classes[:, None])[:, 0], logits[-1, classes]]))
    after, before = torch.cat(both, 1)
    maps = subject(network, probes, own).abs().flatten(1)
    told = (maps * alone.flatten(1)).sum(1) > TOUCHED * maps.amax(1)
    matters = (after - before).abs() > TOUCHED * before.abs().clamp_min(1)
    return (told & matters).view(count, -1).sum(1) / matters.view(count, -1).sum(1)


OF: dict[str, Callable[..., Tables]] = {
    **{"aopc": _aopc, "pompom": _pompom, "localisation": _localisation, "axioms": _axioms},
}
"""Metric of maps (K, 1, H, W) -> what measures it."""


def _classification(scene: ExplanationContext, found: EvaluationResult) -> Tables:
    labels, logits = scene.images.test.labels, scene.logits
    found.report = classification.report(logits, labels, scene.images.info.classes)
    losses = F.cross_entropy(logits, labels, reduction="none")
    each = {"accuracy": _column((logits.argmax(1) == labels).float()), "loss": _column(losses)}
    everyone = pd.DataFrame({"model": "classifier", "image": np.arange(len(labels)), **each})
    return {"classification": pd.DataFrame(found.report.rows), "classifier": everyone}


def _reconstructions(scene: ExplanationContext, found: EvaluationResult, judged: bool) -> None:
    settings = scene.settings
    names = {name: options["name"] for name, options in settings["explainers"].items() if options["name"] in DECODERS}

    def add(name: str, needs: Settings | None) -> None:
        found.attempt("reconstruction", name, "model", lambda: _reconstruction(scene, name, needs, judged))

    add("classifier", None)
    for layer in listed(settings["layer"]):
        for name, method in names.items():
            for needs in learned({**settings, "layer": layer}, method):
                add(",".join([name, *variant(settings, needs)]), needs)


def _reconstruction(scene: ExplanationContext, name: str, needs: Settings | None, judged: bool) -> Tables:
    """What a decoder keeps of the test images; without one, the images themselves, which lose nothing."""
    judge, look = scene.classifier, _unchanged if needs is None else _fitted(scene, needs).judge
    assert look is not None
    if needs is not None:
        judge = _fitted(scene, evaluation(needs)).model if judged else judge
    start, parts = 0, []
    for part in scene.images.test.parts():
        logits = scene.logits[start : start + len(part)]
        made, found = look(part, logits)
        if judged:
            found["evaluation_accuracy"] = (batched(judge, made).argmax(1) == part.labels).float()
        row = {"model": name, "alpha": None if needs is None else needs["alpha"]}
        row["image"] = np.arange(start, start + len(part))
        parts.append(pd.DataFrame(row | {key: _column(values) for key, values in found.items()}))
        start += len(part)
    return {"reconstruction": pd.concat(parts)}


def _unchanged(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    found = reconstruction(part.images, part.images, part.labels, logits, logits, 0.0, "sse")
    return part.images, {name: values for name, values in found.items() if name != "total_loss"}


def _fitted(scene: ExplanationContext, settings: Settings) -> Task:
    return networks.fitted(Run("train", settings), scene.images, scene.rows.device)
