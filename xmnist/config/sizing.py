"""Values of `auto` in `trainer`: batch size, epochs and learning rate for a number of images. No torch."""

import math

from xmnist.config.components import Options
from xmnist.config.schema import TRAINING

USUAL = {"epochs": 6, "batch_size": 128, "lr": 0.004}
"""The values of `auto` in `trainer`, except for the user's own images."""

BATCHES, STEPS = 8, 400
"""The minimum of batches an epoch, and of steps of a whole training, for the user's own images."""


def fitting(count: int, size: int | None = None) -> Options:
    """Return batch size, epochs and rate that train on `count` images for long enough; `size` is a given batch size.

    Measured: docs/results.md, "Folders of any size".
    """
    if size is None:
        size = next((candidate for candidate in (128, 64, 32, 16) if count >= BATCHES * candidate), 8)
    rate = float(f"{0.004 * min(size, 128) / 128:.2g}")
    return {"epochs": max(6, math.ceil(STEPS / math.ceil(count / size))), "batch_size": size, "lr": rate}


def fitted_trainer(trainer: Options, count: int) -> Options:
    """Replace `auto` in a trainer by numbers; `count` is the number of the user's own images, else 0."""

    def fitted(base: Options, part: Options) -> Options:
        size = part.get("batch_size", base["batch_size"])
        values = fitting(count, None if size == "auto" else size) if count else USUAL
        return {key: values[key] if value == "auto" and key in values else value for key, value in part.items()}

    whole = fitted(trainer, {key: value for key, value in trainer.items() if key in TRAINING})
    decoder = trainer["decoder"]
    if count and trainer["epochs"] == "auto":  # a decoder's own batch size needs its own number of epochs
        decoder = {"epochs": "auto"} | decoder
    return whole | {"decoder": fitted(whole, decoder), "joint": fitted(whole, trainer["joint"])}
