"""Measurement of all metrics of stage `evaluate`, as tables with one row for each observation."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd
from torch import Tensor

from xmnist.config.components import listed
from xmnist.config.derived import evaluation, learned, variant
from xmnist.config.kinds import decoder_names
from xmnist.config.settings import EvaluateSettings, Settings
from xmnist.explainers.configured import ConfiguredExplainer
from xmnist.metrics.base import MapContext, MapMetric, Metric, Tables
from xmnist.metrics.classification import Classification
from xmnist.metrics.reconstruction import Reconstruction, unchanged
from xmnist.runs.store import Run
from xmnist.runtime import progress
from xmnist.runtime.errors import one_line
from xmnist.stages import explaining
from xmnist.stages.explaining import ExplanationContext
from xmnist.training import networks
from xmnist.training.objectives import Task

log = logging.getLogger(__name__)


@dataclass
class EvaluationResult:
    """The measured tables, and the failed measurements: `failures[metric, name]` is the reason.

    `names` are the models and explainers in the order of their tables, each with its kind; `errors` are the exceptions
    as they were raised.
    """

    tables: Tables = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def attempt(self, metric: str, name: str, kind: str, measure: Callable[[], Tables]) -> None:
        """Measure and add the tables; a failure is recorded, and the other measurements go on."""
        self.names.setdefault(name, kind)
        start = time.monotonic()
        try:
            with progress.activity(f"{metric} of {name}"):
                tables = measure()
        except Exception as error:
            reason = " ".join(one_line(error).split())
            self.failures[metric, name] = reason
            self.errors.append(error)
            log.warning("  %s of %s failed: %s", metric, name, reason)
            return
        for table, rows in tables.items():
            self.tables[table] = pd.concat([self.tables[table], rows]) if table in self.tables else rows
        log.info("  %s of %s: %.1f s", metric, name, time.monotonic() - start)


ORDER = ("classifier", "decoders", "maps")
"""Subjects of metrics in the order of their measurement."""


def metrics_of(settings: EvaluateSettings) -> list[Metric]:
    """Return the metrics of these settings, in the order in which they are measured."""
    metrics = [metric for metric in settings.metrics.values() if isinstance(metric, Metric)]
    return sorted(metrics, key=lambda metric: ORDER.index(metric.measures))


def measure(scene: ExplanationContext) -> EvaluationResult:
    """Measure everything that the settings ask for."""
    assert isinstance(scene.settings, EvaluateSettings)
    result, metrics = EvaluationResult(), metrics_of(scene.settings)
    for metric in metrics:
        if isinstance(metric, Classification):
            labels, classes = scene.images.test.labels, scene.images.info.classes
            measured = partial(metric.measure, scene.logits, labels, classes)
            result.attempt(metric.name, "classifier", "model", measured)
        elif isinstance(metric, Reconstruction):
            _reconstructions(scene, result, metric)
    of_maps = [metric for metric in metrics if isinstance(metric, MapMetric)]
    for name, explainer in scene.settings.explainers.items():
        if of_maps and explainer.answer != "image":
            _maps(scene, result, name, of_maps)
    return result


def _maps(scene: ExplanationContext, result: EvaluationResult, name: str, metrics: list[MapMetric]) -> None:
    """Measure the maps of one explainer, for each layer and alpha; the maps are not kept any longer."""
    subject_maps: list[tuple[ConfiguredExplainer, Tensor]] = []

    def make() -> Tables:
        for subject in explaining.subjects(scene, name):
            subject_maps.append(
                (subject, subject(scene.classifier, scene.chosen.images, scene.classes(subject.target)))
            )
        return {}

    result.attempt("maps", name, "explainer", make)
    if ("maps", name) in result.failures:
        subject_maps.clear()
        reason = result.failures.pop(("maps", name))
        # Without maps, no metric can be measured: the reason is recorded for each of them.
        result.failures |= {(metric.name, name): reason for metric in metrics}
    if subject_maps and name not in {subject.name for subject, _ in subject_maps}:
        del result.names[name]  # several have names of their own
    for subject, maps in subject_maps:
        for metric in metrics:
            result.attempt(metric.name, subject.name, "explainer", partial(_of, metric, scene, subject, maps))


def _of(metric: MapMetric, scene: ExplanationContext, subject: ConfiguredExplainer, maps: Tensor) -> Tables:
    """Return the tables of a metric for the maps of one explainer, with its name in every row."""
    tables = metric.measure(context(scene, subject), maps)
    for rows in tables.values():
        rows.insert(0, "explainer", subject.name)
    return tables


def context(scene: ExplanationContext, subject: ConfiguredExplainer) -> MapContext:
    """Return the data that metrics may use in addition to the maps of an explainer."""
    chosen, numbers = scene.chosen, scene.rows.cpu().numpy()
    targets, seed = scene.classes(subject.target), scene.settings.seed
    return MapContext(scene.classifier, subject, chosen.images, chosen.labels, targets, chosen.masks, numbers, seed)


def _reconstructions(scene: ExplanationContext, result: EvaluationResult, metric: Reconstruction) -> None:
    settings = scene.settings
    names = {
        name: explainer.name for name, explainer in settings.explainers.items() if explainer.name in decoder_names()
    }

    def add(name: str, needs: Settings | None) -> None:
        result.attempt(metric.name, name, "model", lambda: _reconstruction(scene, metric, name, needs))

    add("classifier", None)
    for layer in listed(settings.layer):
        for name, model in names.items():
            for needs in learned(replace(settings, layer=layer), model):
                add(",".join([name, *variant(settings, needs)]), needs)


def _reconstruction(scene: ExplanationContext, metric: Reconstruction, name: str, needs: Settings | None) -> Tables:
    """Measure a decoder's reconstructions of the test images; without a decoder, the unchanged images."""
    judge, look = scene.classifier, unchanged if needs is None else _fitted(scene, needs).judge
    assert look is not None
    if needs is not None and metric.judges:
        judge = _fitted(scene, evaluation(needs)).model
    tables = metric.measure(scene.images.test.parts(), scene.logits, look, judge)
    for rows in tables.values():
        rows.insert(0, "model", name)
        rows.insert(1, "alpha", None if needs is None else needs.alpha)
    return tables


def _fitted(scene: ExplanationContext, settings: Settings) -> Task:
    return networks.fitted(Run("train", settings), scene.images, scene.rows.device)
