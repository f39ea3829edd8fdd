"""Stage `evaluate`: measure the quality of explanations, in tables and figures, with uncertainty."""

import logging
from functools import partial
from typing import Any

import pandas as pd

from xmnist import data
from xmnist.config.declarations import DATASETS
from xmnist.config.derived import alphas, plain, selects
from xmnist.config.settings import EvaluateSettings
from xmnist.metrics import tables
from xmnist.metrics.base import MapMetric
from xmnist.metrics.classification import Classification
from xmnist.metrics.panels import Subject
from xmnist.models.layers import batched
from xmnist.plots import figures, grids, pictures
from xmnist.reporting import across_seeds
from xmnist.runs import claims, store, titles
from xmnist.runs.store import Run
from xmnist.runtime import progress
from xmnist.runtime.errors import InputError, MeasurementError
from xmnist.stages import explaining, measures
from xmnist.stages.explaining import ExplanationContext
from xmnist.stages.measures import EvaluationResult
from xmnist.training import results

log = logging.getLogger(__name__)


def check(settings: EvaluateSettings) -> None:
    """Check, before anything is written, whether this run can be done.

    Raises:
        InputError: as for `explaining.check`; a metric needs masks and the data set has none; a patch is larger than
            the image; the device does not support the precision; there is more than one target.
    """
    info = data.info(settings.dataset)
    if selects(settings) and len(explaining.targets(settings)) > 1:
        both = ",".join(explaining.targets(settings))
        raise InputError(f"xmnist evaluate measures the evidence for one target at a time; for both: -m target={both}")
    for metric in measures.metrics_of(settings):
        if metric.needs_masks and not info.masks:
            raise InputError(
                f"metric={metric.name} needs a data set with ground truth, which {settings.dataset.name} has "
                f"not; these can have it: {', '.join(dataset.name for dataset in DATASETS.values() if dataset.masked)}"
            )
        metric.check(info, settings.device)
    explaining.check(settings)


def main(settings: EvaluateSettings, typed: str) -> dict[str, Any]:
    """Measure what the settings describe, unless that is done already.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: localisation is to be measured, and no chosen image has an object.
        MeasurementError: a metric failed for one of the explainers or models; everything else has been written.
    """
    run = Run("evaluate", settings)
    scene = explaining.scene(settings, typed)
    for metric in measures.metrics_of(settings):
        if isinstance(metric, MapMetric):
            metric.check_chosen(scene.chosen.masks)
    with claims.claim(run, typed) as to_do:
        if to_do:
            for old_file in (
                path for kind in ("csv", "md", "png", "pdf", "svg") for path in run.path.glob(f"*.{kind}")
            ):
                old_file.unlink()  # of an earlier try, which may have measured more
            _say_what(scene, run)
            results.write_environment(run, scene.rows.device)
            result = measures.measure(scene)
            with progress.activity("summing up and drawing"):
                _write(run, scene, result)
            # The error below skips the usual summary of the run, so the table is logged here.
            if result.failures:
                log.info("%s", (run.path / "summary.md").read_text(encoding="utf-8"))
                across_seeds.summarise(run)
                (failed, name), reason = next(iter(result.failures.items()))
                more = f", and {len(result.failures) - 1} more" if len(result.failures) > 1 else ""
                message = f"{failed} of {name} failed: {reason}{more}; the rest is in {run.path}"
                raise MeasurementError(message) from ExceptionGroup("what failed", result.errors)
        run.log_summary("done" if to_do else "already done")
    with progress.activity("summing up over seeds"):
        across_seeds.summarise(run)
    return run.metrics()


def _say_what(scene: ExplanationContext, run: Run[EvaluateSettings]) -> None:
    settings = run.settings
    log.info("measuring %s: %s", ", ".join(settings.metrics), run.path)
    if selects(settings):
        log.info("  maps are made of %d test images", len(scene.rows))
    if settings.unmeasured:
        log.info("  %s: nothing that these metrics measure", ", ".join(settings.unmeasured))


def _write(run: Run[EvaluateSettings], scene: ExplanationContext, result: EvaluationResult) -> None:
    metrics, seed, names = measures.metrics_of(run.settings), run.settings.seed, list(result.names)
    for table, rows in result.tables.items():
        if table != Classification.table:  # it has one row for each test image, which other tables sum up
            _write_table(run, table, rows)
    summary = tables.summary(metrics, result.tables, result.failures, result.names, seed)
    _write_table(run, "summary", summary, tables.markdown(summary))
    for metric in metrics:
        if metric.table in result.tables:
            for name, (table, text) in metric.details(result.tables[metric.table], names, seed).items():
                _write_table(run, name, table, text)
            for name, chart in metric.charts(result.tables, summary, _subject(scene)).items():
                run.draw(name, partial(figures.draw, chart))
    decoded = any(metric.measures == "decoders" and metric.table in result.tables for metric in metrics)
    if decoded and isinstance(run.settings.layer, list):
        _draw_ladder(scene, run)


def _subject(scene: ExplanationContext) -> Subject:
    """Return the subject that the titles of figures name."""
    settings = scene.settings
    title, decoded = titles.explained_title(settings, decoded=False), titles.explained_title(settings)
    if not isinstance(layers := settings.layer, list):
        return Subject(title, decoded, len(scene.rows))
    alpha_text = f", alpha {plain(alphas(settings)[0])}" if len(alphas(settings)) == 1 else ""
    ordered = set(layers) <= set(settings.classifier.layers)
    across = f"layer, {'from the image on' if ordered else 'in the order given'}"
    return Subject(title, decoded + alpha_text, len(scene.rows), layers, across)


def _draw_ladder(scene: ExplanationContext, run: Run) -> None:
    """Draw a few test images, and their reconstructions layer by layer."""
    test, names = scene.images.test, scene.images.info.classes
    indices = pictures.choose(test.labels, scene.logits.argmax(1), pictures.EXAMPLES // 2)  # all its rows on a page
    images, predicted = test.images[indices], scene.logits[indices].argmax(1)
    rows = [grids.Row("original", images.cpu().numpy(), [names[i] for i in predicted.tolist()])]
    for subject in explaining.ordered(scene):
        if subject.layer:
            answers, kind = subject(scene.classifier, images, predicted), subject.explainer.answer
            classes = (
                [names[i] for i in batched(scene.classifier, answers).argmax(1).tolist()] if kind == "image" else None
            )
            rows.append(grids.Row(subject.title, answers.cpu().numpy(), classes, kind))
    truth = [names[i] for i in test.labels[indices].tolist()]
    title = titles.explained_title(scene.settings)
    run.draw("ladder", lambda file: grids.grid(rows, truth, title, file, layout="columns"))


def _write_table(run: Run, name: str, table: pd.DataFrame, text: str = "") -> None:
    """Write a table as CSV and, if there is a text, as Markdown."""
    with store.atomic(run.path / f"{name}.csv") as file:
        table.to_csv(file, index=False, float_format="%.9g", encoding="utf-8")
    if text:
        with store.atomic(run.path / f"{name}.md") as file:
            file.write_text(text, encoding="utf-8")
