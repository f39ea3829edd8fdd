"""What each key of a config may hold: tables from key to `Rule`, without torch, Hydra or anything else to wait for."""

import re
from typing import Any

from xmnist.config.declarations import COMPONENTS
from xmnist.config.rules import (
    Rule,
    choice,
    list_of,
    maybe,
    number,
    one_or_more,
    or_auto,
    raise_unless,
    sha256,
    text,
    three,
    whole,
)

YES_NO = Rule("true or false", lambda value: raise_unless(isinstance(value, bool), value))
NOTHING = Rule("null", lambda value: raise_unless(value is None, value))
DEVICE = Rule(
    "one of auto, cpu, cuda, cuda:N, mps",
    lambda value: raise_unless(re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", value) is not None, value),
)
SEED = whole(0, 2**31 - 1)

EXPERIMENT = Rule(
    "an experiment's name: letters, digits, _ and -",
    lambda value: raise_unless(re.fullmatch(r"[\w-]+", value) is not None, value),
)
LAYER = text("a layer of the classifier, by its name or dotted path")
LAYERS = one_or_more(LAYER)
LAYERS = Rule(f"{LAYERS.text}, or all", LAYERS.convert)


def _convert_neurons(value: Any) -> float | list[int] | None:
    if isinstance(value, list):
        return sorted(list_of(whole(0)).convert(value))
    share = number(0, 1, above=True).convert(value)
    return share if share < 1 else None


NEURONS = Rule("a share of the layer's units in (0, 1], or a list of their numbers", _convert_neurons)
_DROPOUT = number(0, 0.99)
DECODER = {"decoder": choice("published", "dense128", "conv64", "auto"), "reconstruction": choice("sse", "mse")}
_VAE = {"latent": whole(2, 10_000), "beta": number(0)}
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

PRETRAINED = {
    "weights": maybe(text("imagenet, or a file with a state dict")),
    "weights_sha256": maybe(sha256("the file in weights")),
}
"""What the training of a classifier begins with; it belongs to no network's constructor."""

GROUPS: dict[str, dict[str, dict[str, Rule]]] = {
    "classifier": {
        "vgg_small": {"dropout": _DROPOUT},
        "lenet_avgpool": {"dropout": _DROPOUT, "nonpositive_bias": YES_NO},
        "dropout_cnn": {"dropout": _DROPOUT},
        "cam_net": {"width": whole(1, 4096)},
        "vgg_xml": {"dropout": _DROPOUT, "width": whole(1, 4096), "batch_norm": YES_NO},
        "vgg11": {"dropout": _DROPOUT},
        "resnet10": {"width": whole(1, 4096)},
        **{f"resnet{depth}": {"stem": choice("small", "large"), **PRETRAINED} for depth in (18, 34, 50, 101, 152)},
    },
    "model": {
        **{"classifier": {}, "cladec": DECODER, "refae": DECODER},
        **{"cladec_vae": _VAE, "refvae": _VAE},
        "evaluation": {"of": choice("cladec", "refae", "cladec_vae", "refvae"), **DECODER, **_VAE},
        "joint": {
            "loss": choice("unsupervised", "hybrid"),
            **{"width": whole(1, 1024), "depth": whole(1, 8), "init_bias": number()},
            "gates": maybe(list_of(text("a layer of the classifier, by its dotted path"))),
        },
    },
}
"""Group -> option's `name` -> the keys that it takes; for groups that are no components yet."""


def group_options() -> dict[str, dict[str, dict[str, Rule]]]:
    """Group -> option's `name` -> the keys that it takes."""
    declared = {
        word: {each.name: {name: key.rule for name, key in each.keys.items()} for each in group.values()}
        for word, group in COMPONENTS.items()
    }
    return {word: (GROUPS | declared)[word] for word in ("dataset", *GROUPS, "select")}


ALPHA = {
    **{"classifier": NOTHING, "cladec": one_or_more(number(0, 1)), "refae": NOTHING},
    **{"cladec_vae": one_or_more(number(0, 1)), "refvae": NOTHING},
    "evaluation": maybe(number(0, 1)),
    "joint": three(number(0, 1)),
}
"""What `alpha` may be for each model."""

REFERENCE = {"cladec": "refae", "cladec_vae": "refvae"}
"""Decoders of a classifier, whose alpha weighs its loss -> what their reference is called, which has no alpha."""

DECODERS = (*REFERENCE, *REFERENCE.values())
"""The models that explain a classifier, which must be there."""

WEIGHTS = {"beta": number(0, 1), "gamma": number(0)}
"""What only the joint model's loss has."""

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


def only() -> dict[str, Rule]:
    """What `only` holds in stage `report`: which runs it is of."""
    names = {group: maybe(one_or_more(choice(*group_options()[group]))) for group in ("dataset", "model")}
    return names | {"experiment": maybe(one_or_more(EXPERIMENT))}


IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Files that are read as images."""

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

METRICS: dict[str, dict[str, Rule]] = {
    "classification": {},
    "reconstruction": {"evaluation_accuracy": YES_NO},
    "aopc": {
        **{
            "patch": one_or_more(whole(1)),
            "steps": maybe(whole(0)),
            "batch_size": whole(1),
            "precision": choice("fp32", "bf16"),
        },
        "fill": one_or_more(choice("black", "white", "gray", "mean", "uniform", "gaussian_blur")),
    },
    "pompom": {},
    "localisation": {},
    "axioms": {"count": whole(1), "pixels": whole(1)},
}
"""Metric -> the keys that it takes, under `metrics.NAME`."""

MASKED = ("pompom", "localisation")
"""Metrics that need ground truth."""

OF_MAPS = ("aopc", *MASKED, "axioms")
"""Metrics that measure maps."""

_MAPS = ("saliency", "integrated_gradients", "gradcam", "lrp")
EXPLAINED_BY = {
    "refae": (*_MAPS, "refae"),
    "cladec_vae": (*_MAPS, "refvae", "cladec_vae"),
    "refvae": (*_MAPS, "refvae"),
    "joint": ("joint", *_MAPS),
}
"""Models that the usual explainers do not fit -> those that are drawn where none are named."""
