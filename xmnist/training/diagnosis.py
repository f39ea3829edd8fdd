"""Diagnosis of trainings that failed without an error: a warning at the end, with the evidence and what to try."""

import logging
import math
from collections.abc import Mapping, Sequence

import torch

from xmnist.config.derived import phases
from xmnist.config.kinds import ModelDeclaration
from xmnist.config.settings import Settings
from xmnist.config.sizing import STEPS, fitting
from xmnist.data.base import Data
from xmnist.metrics.statistics import better_than

log = logging.getLogger(__name__)

LEVEL = 0.05
"""p-value (one-sided, binomial) above which an accuracy is no better than that of predicting the largest class."""

GROWN = 1.5
"""Factor over the loss of an uninformed network, or of the first epoch, above which a training loss has exploded."""


def warn(settings: Settings, scores: Mapping[str, float], history: Sequence[Mapping[str, float]], images: Data) -> None:
    """Log a lasting warning for each reason to believe that the network has learned nothing."""
    for reason in reasons(settings.model, scores, history, images):
        log.warning("%s: %s", reason, _advice(settings, history, images), extra={"lasting": True})


def reasons(
    model: ModelDeclaration, scores: Mapping[str, float], history: Sequence[Mapping[str, float]], images: Data
) -> list[str]:
    """Return the reasons to believe that a training has failed; an empty list if there is none.

    Args:
        scores: on the test images, `accuracy` among them where the model classifies.
        history: one row per epoch, with its `train_loss`.
    """
    out, kept = [], min(history, key=lambda row: row["val_loss"])
    if model.explained and len(images.info.classes) > 1:
        counts = (images.test.labels.bincount(), images.validation.labels.bincount())
        accuracies = (scores["accuracy"], kept["val_accuracy"])
        right = sum(round(share * int(bincount.sum())) for share, bincount in zip(accuracies, counts, strict=True))
        total, largest = (sum(int(how(bincount)) for bincount in counts) for how in (torch.sum, torch.max))
        if right < total and better_than(right, total, largest / total) > LEVEL:
            name = images.info.classes[int(counts[0].argmax())]
            out.append(
                f"the {model.name} is not measurably better than always answering '{name}': {right} of {total} "
                f"validation and test images are right, where that makes {largest}"
            )
    # The first epoch is the reference where the loss of an uninformed network is not known.
    loss, nothing = history[-1]["train_loss"], history[0]["train_loss"]
    entropy = model.explained and not model.own_map  # its loss is the cross-entropy alone
    if entropy:
        # The cross-entropy of a uniform prediction over the classes.
        nothing = math.log(len(images.info.classes))
    if loss > GROWN * nothing and len(history) > 1:
        than = "of knowing nothing" if entropy else "after the first epoch"
        out.append(f"the training loss has exploded: {loss:.4g}, where that {than} is {nothing:.4g}")
    return out


def _advice(settings: Settings, history: Sequence[Mapping[str, float]], images: Data) -> str:
    """Return a sentence with the number of steps that a training made and the settings to try next."""
    options, part, count = phases(settings)[0], settings.model.part, len(images.train)
    steps = math.ceil(count / options.batch_size)
    text = f"{count:,} training images in batches of {options.batch_size} made {steps} steps an epoch, "
    text += f"{steps * len(history):,} in all"
    if isinstance(options.lr, dict):
        return f"{text}; try smaller trainer.joint.lr_classifier and lr_explainer"
    # More steps are only advised where there were few; a smaller learning rate is advised in any case.
    size = min(options.batch_size, fitting(count)["batch_size"])
    better = (fitting(count, size) if steps * len(history) < STEPS else {}) | {"lr": options.lr / 4}
    where = f"trainer.{part}." if part else "trainer."
    tries = [f"{where}{key}={value:.4g}" for key, value in better.items() if value != getattr(options, key)]
    return f"{text}, at rates up to {options.lr:.2g}; try {' '.join(tries)}"
