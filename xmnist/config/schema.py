"""Tables from each key of a config to its `Rule`, without torch, Hydra or any other slow import."""

import re
from typing import Any

from xmnist.config.declarations import COMPONENTS
from xmnist.config.optimizers import OPTIMIZERS, SCHEDULES, options_of
from xmnist.config.rules import (
    LAYER,
    SEED,
    Rule,
    choice,
    list_of,
    maybe,
    number,
    one_or_more,
    or_auto,
    raise_unless,
    text,
    three,
    whole,
    yes_or_no,
)

YES_NO = yes_or_no()
DEVICE = Rule(
    "one of auto, cpu, cuda, cuda:N, mps",
    lambda value: raise_unless(re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", value) is not None, value),
)

EXPERIMENT = Rule(
    "an experiment's name: letters, digits, _ and -",
    lambda value: raise_unless(re.fullmatch(r"[\w-]+", value) is not None, value),
)
LAYERS = one_or_more(LAYER)
LAYERS = Rule(f"{LAYERS.text}, or all", LAYERS.convert)


def _convert_neurons(value: Any) -> float | list[int] | None:
    if isinstance(value, list):
        return sorted(list_of(whole(0)).convert(value))
    share = number(0, 1, above=True).convert(value)
    return share if share < 1 else None  # all units, as null


NEURONS = Rule("a share of the layer's units in (0, 1], or a list of their numbers", _convert_neurons)
TRAINING = {
    "epochs": or_auto(whole(1)),
    "batch_size": or_auto(whole(1)),
    "precision": choice("auto", "fp32", "bf16"),
    "optimizer": choice(*OPTIMIZERS),
    "lr": or_auto(number(0, above=True)),
    "weight_decay": number(0),
    **options_of(OPTIMIZERS),
    "schedule": choice(*SCHEDULES),
    **options_of(SCHEDULES),
    "keep": choice("best", "last"),
    "stop_patience": maybe(whole(0)),
    "stop_delta": number(0),
}
"""The keys of `trainer`. Options of optimisers and schedules stand beside the others, whichever is chosen."""

PHASES = {
    "epochs": three(whole(1), alike=True),
    "lr_classifier": three(number(0), alike=True),
    "lr_explainer": three(number(0), alike=True),
    "stop_patience": three(maybe(whole(0)), alike=True),
}
"""The keys of `trainer.joint` for each phase, beside any other key of `trainer`; a rate of 0 freezes a part."""

JOINT_TRAINING = {key: rule for key, rule in TRAINING.items() if key != "lr"} | PHASES
"""The keys that `trainer.joint` may have."""

COMMON = {
    "layer": LAYERS,
    "neurons": maybe(NEURONS),
    "seed": SEED,
    "device": DEVICE,
    "data_dir": text("a folder"),
    "out_dir": text("a folder"),
    "train_missing": YES_NO,
    "force": YES_NO,
    "fail_fast": YES_NO,
    "format": one_or_more(choice("png", "pdf", "svg")),
    "hints": or_auto(YES_NO),
}

INCIDENTAL = tuple(key for key in COMMON if key not in ("layer", "neurons", "seed"))
"""The keys of `COMMON` that change no result, only the way, place and form in which it is produced."""

PLUGINS = maybe(one_or_more(text("a Python file, or a module by its dotted name")))
"""The rule of `plugins`, the files or modules that declare a user's own components."""

FEWER = {
    "export": ("data_dir", "out_dir", "force", "fail_fast", "hints"),
    "report": ("out_dir", "fail_fast", "hints"),
}
"""The keys of `COMMON` for the stages that neither train nor explain."""


def only() -> dict[str, Rule]:
    """Return the rules of `only` in stage `report`, which restricts the runs."""
    # A report may be of components whose plug-ins are not here: names are checked once the runs have told of them.
    names = {
        group: maybe(one_or_more(text(f"one of {', '.join(COMPONENTS[group])}"))) for group in ("dataset", "model")
    }
    return names | {"experiment": maybe(one_or_more(EXPERIMENT))}


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Suffixes of files that are read as images."""

OWN_IMAGE = {
    "path": maybe(one_or_more(text("an image file, or a folder of them"))),
    "invert": Rule(
        "auto, true or false", lambda value: raise_unless(value == "auto" or isinstance(value, bool), value)
    ),
}
"""The rules of `image` in stage `explain`, the user's own images; image=FILE is image.path=FILE."""

STAGES: dict[str, tuple[tuple[str, ...], dict[str, Rule]]] = {
    "train": (("dataset", "classifier", "model"), {}),
    "export": (("dataset",), {}),
    "explain": (
        ("dataset", "classifier", "model", "select"),
        {
            "target": one_or_more(choice("predicted", "label")),
            "map": choice("recomputed", "fixed"),
            "layout": choice("auto", "rows", "columns"),
            "overlay": YES_NO,
        },
    ),
    "evaluate": (
        ("dataset", "classifier", "model", "select"),
        {
            "target": one_or_more(choice("predicted", "label")),
            "map": choice("recomputed", "fixed"),
            "controls": YES_NO,
        },
    ),
    "report": (
        (),
        {
            **{"run": maybe(text("a run's folder")), "images": whole(1), "megabytes": number(0, above=True)},
            "open": YES_NO,
        },
    ),
}
"""Stage -> the groups that it uses, and its own keys beside `COMMON`."""

RUNS = tuple(stage for stage in STAGES if stage != "report")
"""The stages whose runs are named by their settings and found again; a report only shows runs."""

_EXPLAINING = ("explainer", "explainers", "select", "target", "map")
OWN = {
    "explain": (*_EXPLAINING, "image", "layout", "overlay"),
    "evaluate": (*_EXPLAINING, "metric", "metrics", "controls"),
}
"""Keys that only stages other than `train` use; an experiment may hold them for these stages."""
