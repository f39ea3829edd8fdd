"""Trainings that failed without an error: told at their end, with why that is likely and what to try."""

import logging
import math
from collections.abc import Mapping, Sequence

from scipy.stats import binomtest

from xmnist.data.base import Data
from xmnist.derived import Settings, training

log = logging.getLogger(__name__)

LEVEL = 0.05
"""Above this p-value (one-sided, binomial), an accuracy is no better than that of naming the largest class."""

GROWN = 1.5
"""From how many times the loss of knowing nothing on a training's loss has exploded."""

STEPS = 400
"""Steps that a training should have at least."""


def warn(settings: Settings, scores: Mapping[str, float], history: Sequence[Mapping[str, float]], images: Data) -> None:
    """Warn, for good, of a network that has learned nothing."""
    for reason in reasons(settings["model"]["name"], scores, history, images):
        log.warning("%s: %s", reason, _advice(settings, history, images), extra={"lasting": True})


def reasons(model: str, scores: Mapping[str, float], history: Sequence[Mapping[str, float]], images: Data) -> list[str]:
    """Why a training has failed; empty if it has not.

    Args:
        scores: on the test images, `accuracy` among them where the model classifies.
        history: a row an epoch, with its `train_loss`.
    """
    out, loss = [], history[-1]["train_loss"]
    counts = images.test.labels.bincount()
    if model in ("classifier", "joint"):
        total, largest = int(counts.sum()), int(counts.max())
        right = round(scores["accuracy"] * total)
        if len(images.info.classes) > 1 and largest < total:
            p = binomtest(right, total, largest / total, "greater").pvalue
            if p > LEVEL and right < total:
                name = images.info.classes[int(counts.argmax())]
                out.append(
                    f"the {model} is not measurably better than always answering '{name}': {right} of {total} test "
                    f"images are right, and {largest} are '{name}'"
                )
    nothing = math.log(len(images.info.classes)) if model == "classifier" else history[0]["train_loss"]
    if loss > GROWN * nothing and (model == "classifier" or len(history) > 1):
        than = "of knowing nothing" if model == "classifier" else "after the first epoch"
        out.append(f"the training loss has exploded: {loss:.4g}, where that {than} is {nothing:.4g}")
    return out


def _advice(settings: Settings, history: Sequence[Mapping[str, float]], images: Data) -> str:
    own, part = training(settings), {"classifier": "", "joint": "joint."}.get(settings["model"]["name"], "decoder.")
    count, size = len(images.train), own["batch_size"]
    each = math.ceil(count / size)
    steps = each * len(history)
    rates = [row["lr"] for row in history]
    told = f"{count:,} training images in batches of {size} made {each} steps an epoch, {steps:,} in all"
    tries = []
    if steps < STEPS:
        if each < 8 and size > 8:
            tries.append(f"trainer.{part}batch_size={max(8, min(size, 2 ** int(math.log2(max(count / 8, 8)))))}")
        if part != "joint.":
            tries.append(f"trainer.{part}epochs={math.ceil(STEPS / math.ceil(count / min(size, max(8, count // 8))))}")
    if part != "joint.":
        tries.append(f"trainer.{part}lr={own['lr'] / 4:.2g}")
    else:
        tries.append("smaller trainer.joint.lr_classifier and lr_explainer")
    return f"{told}, with rates up to {max(rates):.2g}; try {' '.join(tries)}"
