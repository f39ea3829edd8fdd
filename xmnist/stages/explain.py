"""Stage `explain`: explanations of chosen test images, side by side."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xmnist.config.settings import ExplainSettings
from xmnist.explainers.learned import Learned
from xmnist.models.layers import batched
from xmnist.plots import grids, pictures
from xmnist.runs import claims, store, titles
from xmnist.runs.store import Run
from xmnist.runtime import interrupts, progress
from xmnist.runtime.errors import MeasurementError, one_line
from xmnist.stages import explaining
from xmnist.stages.explaining import ConfiguredExplainer, ExplanationContext, check
from xmnist.training import results

__all__ = ["check", "main"]

log = logging.getLogger(__name__)

SHOWN = 24
"""Maximum number of images in the picture; the arrays hold all images."""


@dataclass(frozen=True)
class Explanation:
    """One explainer's answers for all chosen images; `gap` (K,) is its completeness gap, None if it has none."""

    subject: ConfiguredExplainer
    answers: Tensor
    gap: Tensor | None


def main(settings: ExplainSettings, typed: str) -> dict[str, Any]:
    """Draw what the settings describe, unless that is done already.

    Args:
        typed: the command that asked for it.

    Raises:
        MeasurementError: some explainers failed; the explanations of the others have been written.
    """
    run = Run("explain", settings)
    scene = explaining.scene(settings, typed)
    with claims.claim(run, typed) as to_do:
        if to_do:
            noun = "test image" if scene.own is None else "own image"
            log.info("explaining %d %s%s: %s", len(scene.rows), noun, "s" * (len(scene.rows) > 1), run.path)
            results.write_environment(run, scene.rows.device)
            failures: dict[str, Exception] = {}
            explanations = list(_logged(_explanations(scene, failures)))
            if not explanations:
                raise next(iter(failures.values()))
            with progress.activity("drawing"):
                _write(run, scene, explanations)
            if failures:
                name, error = next(iter(failures.items()))
                more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
                message = f"{name} failed: {one_line(error)}{more}; the other explanations are in {run.path}"
                raise MeasurementError(message) from ExceptionGroup("what failed", list(failures.values()))
        run.log_summary("done" if to_do else "already done")
    return run.metrics()


def _explanations(scene: ExplanationContext, failures: dict[str, Exception]) -> Iterator[Explanation]:
    """Yield the explanations one after the other; an explainer's error goes into `failures`, and the others go on."""
    images = scene.chosen.images
    ordered = explaining.ordered(scene)
    for number, subject in enumerate(ordered, 1):
        asked = scene.classifier, images, scene.classes(subject.target)
        try:
            with progress.activity(f"explainer {number} of {len(ordered)}: {subject.name}"):
                answers = subject(*asked)
                explanation = Explanation(subject, answers, subject.gap(*asked, answers))
        except Exception as error:
            # A library may have turned an interrupt into an error: it must not count as a failed explainer.
            interrupts.raise_if_interrupted()
            log.warning("  %s failed: %s", subject.name, one_line(error))
            failures[subject.name] = error
        else:
            yield explanation


def _logged(explanations: Iterator[Explanation]) -> Iterator[Explanation]:
    """Log each explanation when it is made, and yield it."""
    start = time.monotonic()
    for explanation in explanations:
        text = "" if explanation.gap is None else _gap_text(explanation.subject.explainer.axiom, explanation.gap)
        log.info("  %s: %.2f s%s", explanation.subject.name, time.monotonic() - start, text)
        yield explanation
        start = time.monotonic()


def _gap_text(axiom: str, gap: Tensor) -> str:
    """Return a text with the largest absolute value of the gaps (K,); selection.csv has all of them."""
    return f", {axiom} gap at most {gap.abs().max().item():.3g}"


def _write(run: Run[ExplainSettings], scene: ExplanationContext, explanations: list[Explanation]) -> None:
    chosen, rows, names = scene.chosen, scene.rows, scene.images.info.classes
    logits = scene.logits[rows]
    arrays = {"images": chosen.images, "predictions": logits.argmax(1), "indices": rows}
    arrays |= {"probabilities": logits.softmax(1)} | ({"labels": chosen.labels} if scene.own is None else {})
    if chosen.masks is not None:
        arrays["masks"] = chosen.masks
    arrays |= {explanation.subject.name: explanation.answers for explanation in explanations}
    texts = {"classes": names} | ({"files": scene.files} if scene.files else {})
    with store.atomic(run.path / "explanations.npz") as file:
        whole = {name: array.cpu().numpy() for name, array in arrays.items()}
        np.savez_compressed(file, **whole, **{name: np.array(values) for name, values in texts.items()})  # type: ignore[arg-type]
    predicted_classes = {
        explanation.subject.name: [names[i] for i in batched(scene.classifier, explanation.answers).argmax(1).tolist()]
        for explanation in explanations
        if explanation.subject.explainer.answer == "image"
    }
    run.write_csv("selection.csv", _table(scene, explanations, predicted_classes))
    if len(rows) > SHOWN:
        log.info("the picture shows the first %d of %d images; explanations.npz has all", SHOWN, len(rows))
    _draw(run, scene, explanations, predicted_classes)


def _draw(
    run: Run[ExplainSettings],
    scene: ExplanationContext,
    explanations: list[Explanation],
    predicted_classes: dict[str, list[str]],
) -> None:
    """Draw the first chosen images, at most `SHOWN`, and the explainers' answers for them."""
    chosen, names, first, settings = scene.chosen, scene.images.info.classes, slice(SHOWN), run.settings
    predicted = [names[i] for i in scene.logits[scene.rows].argmax(1)[first].tolist()]
    truth = [names[i] if scene.own is None else None for i in chosen.labels[first].tolist()]
    rows = [grids.Row("original", chosen.images[first].cpu().numpy(), predicted)]
    if chosen.masks is not None:
        rows.append(grids.Row("ground truth", chosen.masks[first].float().cpu().numpy(), None, "mask"))
    for explanation in explanations:
        answers, kind = explanation.answers[first], explanation.subject.explainer.answer
        classes = predicted_classes[explanation.subject.name][first] if kind == "image" else None
        rows.append(grids.Row(explanation.subject.title, answers.cpu().numpy(), classes, kind))
    fitted = [
        explanation.subject.explainer.fitted
        for explanation in explanations
        if isinstance(explanation.subject.explainer, Learned)
    ]
    layout, overlay, notes = settings.layout, settings.overlay, pictures.padding(fitted)
    run.draw("grid", lambda file: grids.grid(rows, truth, _title(settings), file, layout, overlay, notes))


def _table(
    scene: ExplanationContext, explanations: list[Explanation], predicted_classes: dict[str, list[str]]
) -> list[dict[str, Any]]:
    """Return one row for each image: its index and true class, its predicted class, the completeness gaps of its
    heatmaps, and the predicted classes of the images that explainers answer with."""
    names, labels = scene.images.info.classes, scene.chosen.labels
    sure, guesses = scene.logits[scene.rows].softmax(1).max(1)
    gaps = {
        f"{explanation.subject.name} gap": explanation.gap.tolist()
        for explanation in explanations
        if explanation.gap is not None
    }
    known = scene.own is None
    return [
        {
            **{"index": index, **({"file": scene.files[position]} if scene.files else {})},
            **{"label": label if known else "", "class": names[label] if known else "", "prediction": guess},
            **{"predicted_class": names[guess], "probability": round(probability, 6)},
            **{name: gap[position] for name, gap in gaps.items()},
            **{f"{name} predicted_class": classes[position] for name, classes in predicted_classes.items()},
        }
        for position, (index, label, guess, probability) in enumerate(
            zip(scene.rows.tolist(), labels.tolist(), guesses.tolist(), sure.tolist(), strict=True)
        )
    ]


def _title(settings: ExplainSettings) -> str:
    targets = explaining.targets(settings)
    explained = f"; target class: {' and '.join(explaining.CLASS[target] for target in targets)}"
    if all(explainer.models for explainer in settings.explainers.values()):
        explained = ""
    return f"{titles.explained_title(settings)}{explained}"
