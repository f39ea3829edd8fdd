"""Finished trainings that are similar to a planned one: their differences and their speed. No torch."""

import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xmnist.config.components import Options
from xmnist.config.declarations import DATASETS
from xmnist.config.derived import dotted, phases
from xmnist.config.kinds import MODELS, ModelDeclaration, loss_weights
from xmnist.config.schema import TRAINING
from xmnist.config.settings import Settings
from xmnist.runs.query import text_of
from xmnist.runs.store import Run
from xmnist.runtime import reading
from xmnist.runtime.progress import duration

UNSEEN = ("trainer.precision", "classifier.weights")
"""Keys that may differ, besides those of data sets: they change no result, or another key covers their content."""

LONG = 10.0
"""Duration of a training, in seconds, above which the log mentions a similar finished one."""


@dataclass(frozen=True)
class Like:
    """A finished training of the same kind; `speed` is in images per second, 0 if unknown; `here`: on this machine."""

    path: Path
    differences: dict[str, tuple[object, object]]
    speed: float
    here: bool


def decides(model: str, key: str) -> bool:
    """Return whether a setting, given by its dotted key, affects the training of a model."""
    group, _, rest = key.partition(".")
    if key in UNSEEN or (
        group == "dataset" and any(rest in (*dataset.unseen, *dataset.places) for dataset in DATASETS.values())
    ):
        return False
    kind = MODELS.get(model) or ModelDeclaration
    if group == "trainer":
        part = kind.part or kind.under
        return rest in TRAINING or (part is not None and rest.startswith(f"{part}."))
    keys = ("layer", "neurons") if kind.decodes else tuple(loss_weights())
    return group in ("dataset", "classifier", "seed", *(() if kind.decodable else ("model", "alpha", *keys)))


def differences(before: Options, after: Options) -> dict[str, tuple[object, object]]:
    """Return the settings that two trainings of one model both have, with different values, by dotted key.

    Args:
        before: settings as a run directory holds them.
        after: the others.
    """
    first, second = dotted(before), dotted(after)
    model = str(before["model"]["name"])
    keys = [key for key in first if key in second and decides(model, key) and first[key] != second[key]]
    return {key: (first[key], second[key]) for key in keys}


def alike(settings: Settings) -> list[Like]:
    """Return the finished trainings of this data set, classifier and model; those with the fewest differences first."""
    out = list(_alike(settings))
    return sorted(out, key=lambda like: (len(like.differences), not like.here))


def _alike(settings: Settings) -> Iterator[Like]:
    path, planned = Run("train", settings).path, settings.plain()
    for folder in path.parent.glob("*"):
        status, reason = reading.status(folder)
        if reason or status["state"] != "done" or folder == path:
            continue
        recorded, unread = reading.content(folder / "config.yaml")
        with suppress(Exception):  # settings of another version may lack anything
            if unread or recorded["classifier"]["name"] != settings.classifier.name:
                continue
            speed = reading.content(folder / "metrics.json")[0].get("images_per_second") or 0.0
            same_host = status.get("host") == socket.gethostname()
            yield Like(folder, differences(recorded, planned), float(speed), same_host)


def epochs(settings: Settings) -> int:
    """Return the number of epochs of a training, over all phases."""
    return sum(phase.epochs for phase in phases(settings))


def seconds(settings: Settings, images: int, near: Sequence[Like]) -> tuple[float, bool] | None:
    """Return the expected seconds of a training, and whether a training on this machine gave the speed.

    None if no similar training has a known speed.
    """
    known = [like for like in near if like.speed]
    if not known:
        return None
    # Speed depends on the machine, so a training on this one is preferred to a more similar one elsewhere.
    best = next((like for like in known if like.here), known[0])
    return images * epochs(settings) / best.speed, best.here


def told(settings: Settings, images: int, typed: str, near: Sequence[Like]) -> str:
    """Return a line about the most similar finished training, if the user may have meant that one, else "".

    Args:
        images: the number of training images.
        typed: the command; the user has chosen the settings that it contains.
        near: the return value of `alike`.
    """
    for like in near:
        took = images * epochs(settings) / like.speed if like.speed else 0.0
        meant = [key for key in like.differences if _stands_in(key, typed)]
        if like.differences and len(meant) < len(like.differences) and took > LONG:
            name = settings.model.title
            has = " ".join(f"{key}={text_of(value)}" for key, (value, _) in like.differences.items())
            far = "" if like.here else " on the machine of that one"
            return (
                f"a {settings.dataset.name} {name} exists with {has}; this trains another with {images:,} images "
                f"x {epochs(settings)} epochs (about {duration(took)}{far}). To use the existing one: "
                f"run={like.path.name[-8:]}"
            )
    return ""


def _stands_in(key: str, typed: str) -> bool:
    """Return whether a command sets a key: by itself, by its group, or by an experiment, which may set anything."""
    words = [word.lstrip("+~").partition("=")[0] for word in shlex.split(typed)]
    return any(word in (key, key.partition(".")[0]) or re.match("experiment", word) for word in words)
