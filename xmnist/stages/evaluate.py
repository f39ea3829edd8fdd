"""Stage `evaluate`: which explanation is worth trusting, in tables and figures, with uncertainty."""

import logging
from typing import Any

import pandas as pd

from xmnist import data
from xmnist.config.declarations import DATASETS
from xmnist.config.derived import Settings, alphas, listed, plain, selects
from xmnist.config.schema import MASKED
from xmnist.metrics import tables
from xmnist.models.layers import batched
from xmnist.models.named import LAYERS
from xmnist.plots import charts, grids, pictures
from xmnist.reporting import across_seeds
from xmnist.runs import store, titles
from xmnist.runs.store import Run
from xmnist.runtime import devices, progress
from xmnist.runtime.errors import InputError, MeasurementError
from xmnist.stages import explaining, measures
from xmnist.stages.explaining import ExplanationContext
from xmnist.stages.measures import EvaluationResult
from xmnist.training import networks

log = logging.getLogger(__name__)


def check(settings: Settings) -> None:
    """Find out, before anything is written, whether this run can be done.

    Raises:
        InputError: as `explaining.check`; a metric that needs masks where there are none; a patch larger than the
            image; a precision that the device has not; more than one target.
    """
    info, metrics = data.info(settings["dataset"]), settings["metrics"]
    if selects(settings) and len(explaining.targets(settings)) > 1:
        both = ",".join(explaining.targets(settings))
        raise InputError(f"xmnist evaluate measures the evidence for one target at a time; for both: -m target={both}")
    for name in MASKED:
        if name in metrics and not info.masks:
            raise InputError(
                f"metric={name} needs a data set with ground truth, which {settings['dataset']['name']} has not; these "
                f"can have it: {', '.join(each.name for each in DATASETS.values() if each.masked)}"
            )
    largest, limit = max(listed(metrics.get("aopc", {}).get("patch", 0))), min(info.shape[1:])
    if largest > limit:
        raise InputError(f"metrics.aopc.patch={largest} is larger than the image: at most {limit}")
    devices.find_precision(metrics.get("aopc", {}).get("precision", "fp32"), devices.find_device(settings["device"]))
    explaining.check(settings)


def main(settings: Settings, typed: str) -> dict[str, Any]:
    """Measure what the settings describe, unless that is done already.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: no chosen image has an object, and localisation is to be measured.
        MeasurementError: a metric failed for one of the explainers or models; everything else has been written.
    """
    run = Run("evaluate", settings)
    scene = explaining.scene(settings, typed)
    _check_objects(scene)
    with store.claim(run, typed) as to_do:
        if to_do:
            for left in (path for kind in ("csv", "md", "png", "pdf", "svg") for path in run.path.glob(f"*.{kind}")):
                left.unlink()  # of another time, when more could be measured
            _say_what(scene, run)
            networks.write_environment(run, scene.rows.device)
            found = measures.measure(scene)
            with progress.activity("summing up and drawing"):
                _write(run, scene, found)
            if found.failures:
                log.info("%s", (run.path / "summary.md").read_text(encoding="utf-8"))
                across_seeds.summarise(run)
                (metric, name), reason = next(iter(found.failures.items()))
                more = f", and {len(found.failures) - 1} more" if len(found.failures) > 1 else ""
                told = f"{metric} of {name} failed: {reason}{more}; the rest is in {run.path}"
                raise MeasurementError(told) from ExceptionGroup("what failed", found.errors)
        run.log_summary("done" if to_do else "already done")
    with progress.activity("summing up over seeds"):
        across_seeds.summarise(run)
    return run.metrics()


def _check_objects(scene: ExplanationContext) -> None:
    """Tell which of the chosen images have no object, where one is looked for.

    Raises:
        InputError: none of them has one.
    """
    masks = scene.chosen.masks
    if "localisation" not in scene.settings["metrics"] or masks is None:
        return
    count, size = int((~masks.flatten(1).any(1)).sum()), "x".join(map(str, masks.shape[2:]))
    if count == len(masks):
        raise InputError(f"none of the {count} chosen images has a pixel of an object at {size} pixels: select others")
    if count:
        log.warning(
            "%d of %d chosen images have no pixel of an object: localisation leaves them out", count, len(masks)
        )


def _say_what(scene: ExplanationContext, run: Run) -> None:
    settings = scene.settings
    log.info("measuring %s: %s", ", ".join(settings["metrics"]), run.path)
    if selects(settings):
        log.info("  maps are made of %d test images", len(scene.rows))
    if settings["unmeasured"]:
        log.info("  %s: nothing that these metrics measure", ", ".join(settings["unmeasured"]))


def _write(run: Run, scene: ExplanationContext, found: EvaluationResult) -> None:
    for table, rows in found.tables.items():
        if table != "classifier":  # its rows are one for each test image, and summed up
            _write_table(run, table, rows)
    summary = tables.summary(found.tables, found.failures, found.names, run.settings["seed"])
    _write_table(run, "summary", summary)
    with store.atomic(run.path / "summary.md") as file:
        file.write_text(tables.markdown(summary), encoding="utf-8")
    if "aopc" in found.tables:
        detailed = tables.by_patch_and_fill(found.tables["aopc"], found.names, run.settings["seed"])
        _write_table(run, "aopc_table", detailed)
        with store.atomic(run.path / "aopc_table.md") as file:
            file.write_text(tables.grid(detailed, "aopc"), encoding="utf-8")
    if found.report is not None:
        for name, rows in charts.points(found.report, scene.images.info.classes).items():
            _write_table(run, name, rows)
    for name, draw in _charts(scene, found, summary).items():
        run.draw(name, draw)
    if "reconstruction" in found.tables and isinstance(run.settings["layer"], list):
        _draw_ladder(scene, run)


def _draw_ladder(scene: ExplanationContext, run: Run) -> None:
    """Draw a few test images, and layer by layer what decoders make of them."""
    test, names = scene.images.test, scene.images.info.classes
    shown = pictures.choose(test.labels, scene.logits.argmax(1), pictures.EXAMPLES // 2)  # all its rows on a page
    few, seen = test.images[shown], scene.logits[shown].argmax(1)
    rows = [grids.Row("original", few.cpu().numpy(), [names[i] for i in seen.tolist()])]
    for subject in explaining.ordered(scene):
        if subject.layer:
            answers, kind = subject(scene.classifier, few, seen), subject.explainer.answer
            told = (
                [names[i] for i in batched(scene.classifier, answers).argmax(1).tolist()] if kind == "image" else None
            )
            rows.append(grids.Row(subject.title, answers.cpu().numpy(), told, kind))
    truth = [names[i] for i in test.labels[shown].tolist()]
    title = titles.explained_title(scene.settings)
    run.draw("ladder", lambda file: grids.grid(rows, truth, title, file, layout="columns"))


def _write_table(run: Run, name: str, table: pd.DataFrame) -> None:
    with store.atomic(run.path / f"{name}.csv") as file:
        table.to_csv(file, index=False, float_format="%.9g", encoding="utf-8")


def _charts(scene: ExplanationContext, found: EvaluationResult, summary: pd.DataFrame) -> dict[str, charts.Chart]:
    """All figures of what was measured, by file name."""
    title, out = titles.explained_title(scene.settings, decoded=False), dict[str, charts.Chart]()

    def of(images: int) -> str:
        return f"{title}, {images} test images"

    if found.report is not None:
        out |= charts.classification(found.report, scene.images.info.classes, title)
    if "reconstruction" in found.tables:
        columns = ["reconstruction_sse", "classification_loss", "accuracy", "evaluation_accuracy"]
        full = titles.explained_title(scene.settings)
        if isinstance(layers := scene.settings["layer"], list):
            told = f", alpha {plain(alphas(scene.settings)[0])}" if len(alphas(scene.settings)) == 1 else ""
            ordered = set(layers) <= set(LAYERS[scene.settings["classifier"]["name"]])
            across = f"layer, {'from the image on' if ordered else 'in the order given'}"
            out["depth"] = charts.ladder(summary, layers, columns, full + told, across)
        else:
            out["reconstruction"] = charts.scores(summary, "model", columns, full)
    if "aopc_curves" in found.tables:
        out |= charts.aopc(found.tables["aopc_curves"], of(len(scene.rows)))
    for table, columns in (("pompom", ["pompom"]), ("localisation", ["mass", "rank", "pointing"])):
        if table in found.tables:
            out[table] = charts.scores(summary, "explainer", columns, of(len(scene.rows)))
    if "axioms" in found.tables:
        rows = found.tables["axioms"]
        out["randomisation"] = charts.reset(rows, of(rows["image"].nunique()))
    return out
