"""Batches, epochs and rates that suit a number of images: what `auto` in `trainer` stands for. No torch."""

import math

from xmnist.config.components import Options
from xmnist.config.schema import TRAINING

USUAL = {"epochs": 6, "batch_size": 128, "lr": 0.004}
"""What `auto` is in `trainer`, but for images of one's own."""

BATCHES, STEPS = 8, 400
"""Batches an epoch, and steps of a whole training, that images of one's own should at least make."""


def fitting(count: int, size: int | None = None) -> Options:
    """Batch size, epochs and rate that train on `count` images for long enough; `size` is a batch that is given.

    Measured: docs/results.md, "Folders of any size".
    """
    if size is None:
        size = next((each for each in (128, 64, 32, 16) if count >= BATCHES * each), 8)
    rate = float(f"{0.004 * min(size, 128) / 128:.2g}")
    return {"epochs": max(6, math.ceil(STEPS / math.ceil(count / size))), "batch_size": size, "lr": rate}


def fitted_trainer(trainer: Options, count: int) -> Options:
    """A trainer with numbers for what is `auto`: for images of one's own, by their `count`, which else is 0."""

    def fitted(own: Options, part: Options) -> Options:
        size = part.get("batch_size", own["batch_size"])
        found = fitting(count, None if size == "auto" else size) if count else USUAL
        return {key: found[key] if value == "auto" and key in found else value for key, value in part.items()}

    whole = fitted(trainer, {key: value for key, value in trainer.items() if key in TRAINING})
    decoder = trainer["decoder"]
    if count and trainer["epochs"] == "auto":  # of the decoders' own batches
        decoder = {"epochs": "auto"} | decoder
    return whole | {"decoder": fitted(whole, decoder), "joint": fitted(whole, trainer["joint"])}
