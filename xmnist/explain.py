"""Stage `explain`: explanations of chosen test images, side by side."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from xmnist import explaining, figures, interrupts, runs, titles, training
from xmnist.derived import Settings
from xmnist.errors import MeasurementError, one_line
from xmnist.explaining import Scene, Subject, check
from xmnist.layers import batched
from xmnist.runs import Run
from xmnist.schema import LEARNED

__all__ = ["check", "main"]

log = logging.getLogger(__name__)

SHOWN = 24
"""How many columns the picture has at most; the arrays hold all images."""


@dataclass(frozen=True)
class Explanation:
    """What one explainer answers for all chosen images; `gap` (K,) is its completeness gap, where it has one."""

    subject: Subject
    answers: Tensor
    gap: Tensor | None


def main(settings: Settings, typed: str) -> dict[str, Any]:
    """Draw what the settings describe, unless that is done already.

    Args:
        typed: the command that asked for it.

    Raises:
        MeasurementError: some explainers failed; the explanations of the others have been written.
    """
    run = Run("explain", settings)
    scene = explaining.scene(settings)
    with runs.claim(run, typed) as to_do:
        if to_do:
            log.info("explaining %d test images: %s", len(scene.rows), run.path)
            training.write_environment(run, scene.rows.device)
            failures: dict[str, Exception] = {}
            made = list(_logged(_explanations(scene, failures)))
            if not made:
                raise next(iter(failures.values()))
            _write(run, scene, made)
            if failures:
                name, error = next(iter(failures.items()))
                more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
                told = f"{name} failed: {one_line(error)}{more}; the other explanations are in {run.path}"
                raise MeasurementError(told) from ExceptionGroup("what failed", list(failures.values()))
        run.tell("done" if to_do else "already done")
    return run.metrics()


def _explanations(scene: Scene, failures: dict[str, Exception]) -> Iterator[Explanation]:
    """The explanations, one after the other; what fails goes into `failures`, and the others go on."""
    shown = scene.chosen.images
    for subject in explaining.ordered(scene):
        asked = scene.classifier, shown, scene.classes(subject.target)
        try:
            answers = subject(*asked)
            made = Explanation(subject, answers, subject.gap(*asked, answers))
        except Exception as error:
            interrupts.obey()
            log.warning("  %s failed: %s", subject.name, one_line(error))
            failures[subject.name] = error
        else:
            yield made


def _logged(made: Iterator[Explanation]) -> Iterator[Explanation]:
    """Tell of each explanation when it is there."""
    start = time.monotonic()
    for each in made:
        told = "" if each.gap is None else _told(each.subject.explainer.axiom, each.gap)
        log.info("  %s: %.2f s%s", each.subject.name, time.monotonic() - start, told)
        yield each
        start = time.monotonic()


def _told(axiom: str, gap: Tensor) -> str:
    """What a log says of the gaps (K,)."""
    each = ", ".join(f"{value:.3g}" for value in gap[:SHOWN].tolist())
    return f", {axiom} gap at most {gap.abs().max().item():.3g} ({each}{', ...' if len(gap) > SHOWN else ''})"


def _write(run: Run, scene: Scene, made: list[Explanation]) -> None:
    chosen, rows, names = scene.chosen, scene.rows, scene.images.info.classes
    logits = scene.logits[rows]
    labels, predicted = chosen.labels, logits.argmax(1)
    arrays = {"images": chosen.images, "labels": labels, "predictions": predicted, "indices": rows}
    if chosen.masks is not None:
        arrays["masks"] = chosen.masks
    arrays |= {each.subject.name: each.answers for each in made}
    with runs.atomic(run.path / "explanations.npz") as file:
        np.savez_compressed(file, **{name: array.cpu().numpy() for name, array in arrays.items()})  # type: ignore[arg-type]
    seen = {
        each.subject.name: [names[i] for i in batched(scene.classifier, each.answers).argmax(1).tolist()]
        for each in made
        if each.subject.explainer.kind == "image"
    }
    run.write_csv("selection.csv", _table(rows, labels, logits, names, made, seen))

    shown, truth = slice(SHOWN), [names[i] for i in labels[:SHOWN].tolist()]
    grid = [figures.Row("original", chosen.images[shown].cpu().numpy(), [names[i] for i in predicted[shown].tolist()])]
    if chosen.masks is not None:
        grid.append(figures.Row("ground truth", chosen.masks[shown].float().cpu().numpy(), None, "mask"))
    for each in made:
        answers, kind = each.answers[shown], each.subject.explainer.kind
        told = seen[each.subject.name][shown] if kind == "image" else None
        grid.append(figures.Row(each.subject.title, answers.cpu().numpy(), told, kind))
    if len(rows) > SHOWN:
        log.info("the picture shows the first %d of %d images; explanations.npz has all", SHOWN, len(rows))
    with runs.atomic(run.path / f"grid.{run.settings['format']}") as file:
        figures.grid(grid, truth, _title(run.settings), file)


def _table(
    rows: Tensor,
    labels: Tensor,
    logits: Tensor,
    names: tuple[str, ...],
    made: list[Explanation],
    seen: dict[str, list[str]],
) -> list[dict[str, Any]]:
    """One line an image: what it is, what the classifier sees in it, the completeness gaps of its maps, and what the
    classifier sees in the images that explainers answer with."""
    sure, guesses = logits.softmax(1).max(1)
    gaps = {f"{each.subject.name} gap": each.gap.tolist() for each in made if each.gap is not None}
    return [
        {
            **{"index": index, "label": label, "class": names[label], "prediction": guess},
            **{"predicted_class": names[guess], "probability": round(probability, 6)},
            **{name: gap[place] for name, gap in gaps.items()},
            **{f"{name} predicted_class": own[place] for name, own in seen.items()},
        }
        for place, (index, label, guess, probability) in enumerate(
            zip(rows.tolist(), labels.tolist(), guesses.tolist(), sure.tolist(), strict=True)
        )
    ]


def _title(settings: Settings) -> str:
    targets = explaining.targets(settings)
    explained = f", explained class: {' and '.join(explaining.CLASS[target] for target in targets)}"
    if all(options["name"] in LEARNED for options in settings["explainers"].values()):
        explained = ""
    return f"{titles.explained_title(settings)}{explained}"
