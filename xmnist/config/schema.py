"""What each key of a config may hold: tables from key to `Rule`, without torch, Hydra or anything else to wait for."""

import re
from typing import Any

from xmnist.config.declarations import MODELS
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
    pair,
    raise_unless,
    sha256,
    text,
    three,
    whole,
    yes_or_no,
)
from xmnist.data import files

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
    return share if share < 1 else None


NEURONS = Rule("a share of the layer's units in (0, 1], or a list of their numbers", _convert_neurons)
_CLASS = Rule(
    "a class, by its name or number",
    lambda value: raise_unless(isinstance(value, str | int) and not isinstance(value, bool) and value != "", value),
)


def _convert_polygon(value: Any) -> list[int]:
    p, q = pair(-1).convert(value)
    return raise_unless((p == -1 and q == 1) or (3 <= p <= 100 and 1 <= q < p / 2), [p, q])


def _convert_shapes(value: Any) -> int:
    return whole(1, 100).convert(value) if whole(-1, 100).convert(value) != -1 else -1


def _convert_rgb(value: Any) -> list[int]:
    return [whole(0, 255).convert(v) for v in raise_unless(isinstance(value, list) and len(value) == 3, value)]


def _convert_share(value: Any) -> float | int:
    if isinstance(value, int) and not isinstance(value, bool):
        return whole(1, 10**9).convert(value)
    return number(0, 0.9, above=True).convert(value)


def _convert_colour(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return value.lower()
    from PIL import ImageColor  # takes a tenth of a second

    return raise_unless(value.lower() in ImageColor.colormap, value.lower())


RGB = Rule("a colour [red,green,blue], each from 0 to 255", _convert_rgb)
POLYGON = Rule(
    "a polygon [p,q] of p vertices (3 to 100), each joined with the q-th next (1 <= q < p/2), or [-1,1] for a circle",
    _convert_polygon,
)

_DRAWN = {"train": whole(20, 1_000_000), "test": whole(1, 1_000_000), "validation": number(0, 0.5, above=True)}
_SIZES = {"train": maybe(whole(20)), "test": maybe(whole(1)), "validation": number(0, 0.5, above=True)}
_RESIZED = {**_SIZES, "size": maybe(whole(8, 512))}
_OF = {"label": maybe(_CLASS)}
_RANDOM = {"count": maybe(whole(1)), **_OF, "seed": SEED}
TRAINING = {
    "epochs": or_auto(whole(1)),
    "batch_size": or_auto(whole(1)),
    "precision": choice("auto", "fp32", "bf16"),
    "optimizer": choice("sgd", "adam", "adamw"),
    "lr": or_auto(number(0, above=True)),
    "weight_decay": number(0),
    "eps": number(0, above=True),
    "momentum": number(0, 1),
    "schedule": choice("constant", "one_cycle", "step", "plateau"),
    "warmup": number(0, 1, above=True),
    "step_epochs": whole(1),
    "factor": number(0, 1, above=True),
    "patience": whole(0),
    "keep": choice("best", "last"),
    "stop_patience": maybe(whole(0)),
    "stop_delta": number(0),
    "min_lr": number(0),
}
PHASES = {
    "epochs": three(whole(1), alike=True),
    "lr_classifier": three(number(0), alike=True),
    "lr_explainer": three(number(0), alike=True),
    "stop_patience": three(maybe(whole(0)), alike=True),
}
"""What `trainer.joint` holds for each phase, beside any other key of `trainer`; a rate of 0 freezes a part."""

_MASKS = {"masks": choice("boxes", "pixels")}
_GLYPHS = {
    "seed": SEED,
    "rotation": number(0, 180),
    "shear": number(0, 45),
    "zoom": number(0, 0.9),
    "shift": number(0, 28),
    "blur": number(0, 1),
    "noise": number(0, 1),
}
_CLUTTER = {**_MASKS, "size": whole(28, 1024), "fragments": whole(0, 1000), "fragment_size": whole(1, 28)}

GROUPS: dict[str, dict[str, dict[str, Rule]]] = {
    "dataset": {
        **{name: _RESIZED for name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")},
        "emnist": {**_RESIZED, "split": choice(*files.EMNIST_SPLITS)},
        "glyphs": {**_DRAWN, "train": whole(200, 1_000_000), **_GLYPHS},
        "cluttered_glyphs": {**_DRAWN, "train": whole(200, 1_000_000), **_GLYPHS, **_CLUTTER},
        "cluttered_mnist": {**_SIZES, "seed": SEED, **_CLUTTER},
        "polygons": {
            **_DRAWN,
            **_MASKS,
            "seed": SEED,
            "size": whole(16, 1024),
            "target": POLYGON,
            "against": maybe(POLYGON),
            "targets": maybe(number(0, 1)),
            "outside": maybe(POLYGON),
            "shapes": Rule("a whole number from 1 to 100, or -1 for 1 to 19 by chance", _convert_shapes),
            "tries": whole(1, 1000),
            "radius": pair(1),
            "overlap": YES_NO,
            "occlusion": YES_NO,
            "rotation": YES_NO,
            "simplified": YES_NO,
            "vertices": pair(3, 100),
            "circles": YES_NO,
            "background": whole(0, 255),
            "colour": maybe(RGB),
            "fill": YES_NO,
            "noise": YES_NO,
            "start_index": whole(0),
        },
        "folder": {
            "path": text("a folder"),
            "size": maybe(whole(8, 4096)),
            "channels": Rule("1 or 3", lambda value: raise_unless(whole(1, 3).convert(value) != 2, value)),
            "masks": choice("auto", "images", "boxes", "none"),
            "train": maybe(whole(2)),
            "test": Rule("a share from 0 (not included) to 0.9, or a number of images", _convert_share),
            "objects": maybe(list_of(text("the name of an object"))),
            "background": Rule("a colour: its name, or #rrggbb", _convert_colour),
            "fingerprint": maybe(sha256("what is read of the folder")),
            "validation": _SIZES["validation"],
            "seed": SEED,
            "aug_prob": number(0, 1),
            "class_weights": maybe(choice("balanced")),
            "stream": maybe(YES_NO),
            "workers": whole(0, 64),
        },
    },
    },
    "select": {
        "per_class": {"count": whole(1), **_OF},
        "mixed": {"correct": whole(0), "wrong": whole(0), **_OF, "seed": SEED},
        "misclassified": {"count": whole(1), **_OF, "seed": SEED},
        "confusion": {"true": _CLASS, "predicted": _CLASS, "count": whole(1)},
        "indices": {"indices": list_of(whole(0))},
        "sample": _RANDOM,
    },
}
"""Group -> option's `name` -> the keys that it takes; those of other groups declare themselves: config/declarations."""

GROUPS["model"] = {kind.name: {name: key.rule for name, key in kind.keys.items()} for kind in MODELS.values()}

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
"""The keys of `COMMON` that change no result, but how, where and in what form it comes."""

FEWER = {
    "export": ("data_dir", "out_dir", "force", "fail_fast", "hints"),
    "report": ("out_dir", "fail_fast", "hints"),
}
"""What of `COMMON` those stages use that fit and explain nothing."""

ONLY = {
    "dataset": maybe(one_or_more(choice(*GROUPS["dataset"]))),
    "model": maybe(one_or_more(choice(*MODELS))),
    "experiment": maybe(one_or_more(EXPERIMENT)),
}
"""What `only` holds in stage `report`: which runs it is of."""

OWN_IMAGE = {
    "path": maybe(one_or_more(text("an image file, or a folder of them"))),
    "invert": Rule(
        "auto, true or false", lambda value: raise_unless(value == "auto" or isinstance(value, bool), value)
    ),
}
"""What `image` holds in stage `explain`: images of one's own; image=FILE is image.path=FILE."""

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
"""The stages whose runs are named by what they are, and found again; a report is a look at them."""

_EXPLAINING = ("explainer", "explainers", "select", "target", "map")
OWN = {
    "explain": (*_EXPLAINING, "image", "layout", "overlay"),
    "evaluate": (*_EXPLAINING, "metric", "metrics", "controls"),
}
"""What only stages other than `train` use; an experiment may hold it for them."""
