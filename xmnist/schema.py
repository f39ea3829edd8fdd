"""What each key of a config may hold: tables from key to `Rule`, without torch, Hydra or anything else to wait for."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xmnist.data import files


@dataclass(frozen=True)
class Rule:
    """What one key may hold: `convert` returns the value in its normal form or raises ValueError."""

    text: str
    convert: Callable[[Any], Any]


def _raise_unless(condition: bool, value: Any) -> Any:
    if not condition:
        raise ValueError
    return value


def number(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] with `above`."""

    def convert(value: Any) -> float:
        _raise_unless(isinstance(value, int | float) and not isinstance(value, bool), value)
        inside = low < value <= high if above else low <= value <= high
        return float(_raise_unless(math.isfinite(value) and inside, value)) + 0.0  # -0.0 is 0.0

    if math.isfinite(high):
        return Rule(f"a number in {'(' if above else '['}{low:g}, {high:g}]", convert)
    return Rule(f"a number {'above' if above else 'of at least'} {low:g}", convert)


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number of at least `low`, at most `high`."""

    def convert(value: Any) -> int:
        _raise_unless(isinstance(value, int) and not isinstance(value, bool), value)
        return _raise_unless(low <= value and (high is None or value <= high), value)

    return Rule(
        f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}",
        convert,
    )


def choice(*words: str) -> Rule:
    """One of a closed list of words."""
    return Rule("one of " + ", ".join(words), lambda value: _raise_unless(value in words, value))


def maybe(rule: Rule) -> Rule:
    """What `rule` takes, or null."""
    return Rule(f"{rule.text}, or null", lambda value: None if value is None else rule.convert(value))


def one_or_more(rule: Rule) -> Rule:
    """What `rule` takes, or a list of it without repetitions."""

    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            return rule.convert(value)
        values = [rule.convert(v) for v in value]
        return _raise_unless(bool(values) and len(set(values)) == len(values), values)

    return Rule(f"{rule.text}, or a list of different ones", convert)


def list_of(rule: Rule) -> Rule:
    """A list of what `rule` takes, without repetitions."""

    def convert(value: Any) -> list[Any]:
        return one_or_more(rule).convert(_raise_unless(isinstance(value, list), value))

    return Rule(f"a list of different ones, each {rule.text}", convert)


def text(what: str) -> Rule:
    """A text that is not empty; `what` says of what kind."""
    return Rule(what, lambda value: _raise_unless(isinstance(value, str) and bool(value), value))


YES_NO = Rule("true or false", lambda value: _raise_unless(isinstance(value, bool), value))
NOTHING = Rule("null", lambda value: _raise_unless(value is None, value))
DEVICE = Rule(
    "one of auto, cpu, cuda, cuda:N, mps",
    lambda value: _raise_unless(re.fullmatch(r"auto|cpu|mps|cuda(:(0|[1-9][0-9]?))?", value) is not None, value),
)
SEED = whole(0, 2**31 - 1)

LAYER = text("a layer of the classifier, by its name or dotted path")
_CLASS = Rule(
    "a class, by its name or number",
    lambda value: _raise_unless(isinstance(value, str | int) and not isinstance(value, bool) and value != "", value),
)
_DROPOUT = number(0, 0.99)
_SIZES = {"train": maybe(whole(20)), "test": maybe(whole(1)), "validation": number(0, 0.5, above=True)}
DECODER = {"decoder": choice("published", "dense128", "conv64"), "reconstruction": choice("sse", "mse")}
TRAINING = {
    "epochs": whole(1),
    "batch_size": whole(1),
    "optimizer": choice("sgd", "adam", "adamw"),
    "lr": number(0, above=True),
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
}

GROUPS: dict[str, dict[str, dict[str, Rule]]] = {
    "dataset": {
        **{name: _SIZES for name in ("mnist", "fashion_mnist", "kmnist", "cifar10", "cifar100")},
        "emnist": {**_SIZES, "split": choice(*files.EMNIST_SPLITS)},
        "glyphs": {
            "train": whole(200, 1_000_000),
            "test": whole(1, 1_000_000),
            "validation": _SIZES["validation"],
            "seed": SEED,
            "rotation": number(0, 180),
            "shear": number(0, 45),
            "zoom": number(0, 0.9),
            "shift": number(0, 28),
            "blur": number(0, 1),
            "noise": number(0, 1),
        },
    },
    "classifier": {
        "vgg_small": {"dropout": _DROPOUT},
        "lenet_avgpool": {"dropout": _DROPOUT, "nonpositive_bias": YES_NO},
        "dropout_cnn": {"dropout": _DROPOUT},
        "cam_net": {"width": whole(1)},
        "resnet18": {},
    },
    "model": {"classifier": {}, "cladec": DECODER, "refae": DECODER},
    "select": {
        "per_class": {"count": whole(1)},
        "mixed": {"correct": whole(0), "wrong": whole(0), "label": maybe(_CLASS), "seed": SEED},
        "misclassified": {"count": whole(1), "label": maybe(_CLASS), "seed": SEED},
        "confusion": {"true": _CLASS, "predicted": _CLASS, "count": whole(1)},
        "indices": {"indices": list_of(whole(0))},
    },
}
"""Group -> option's `name` -> the keys that it takes."""

ALPHA = {"classifier": NOTHING, "cladec": one_or_more(number(0, 1)), "refae": NOTHING}
"""What `alpha` may be for each model."""

COMMON = {
    "layer": LAYER,
    "seed": SEED,
    "device": DEVICE,
    "data_dir": text("a folder"),
    "out_dir": text("a folder"),
    "train_missing": YES_NO,
    "force": YES_NO,
}

STAGES: dict[str, tuple[tuple[str, ...], dict[str, Rule]]] = {
    "train": (("dataset", "classifier", "model"), {}),
    "explain": (
        ("dataset", "classifier", "model", "select"),
        {"target": one_or_more(choice("predicted", "label")), "format": choice("png", "pdf", "svg")},
    ),
}
"""Stage -> the groups that it uses, and its own keys beside `COMMON`."""

_BATCH = {"batch_size": whole(1)}
_MAP = {"translations": whole(0, 14)}
_BASELINE = choice("black", "white", "gray", "mean", "random", "blur")
_BACKGROUND = {
    "background": choice("train", "black", "white", "gray", "mean", "random", "blur"),
    "background_size": whole(1),
}

METHODS: dict[str, dict[str, Rule]] = {
    **{
        name: _BATCH | _MAP
        for name in (
            *("random", "sobel", "otsu", "sensitivity", "saliency", "input_x_gradient", "guided_backprop"),
            *("deconvolution", "cam", "deep_taylor"),
        )
    },
    "smoothgrad": {**_MAP, "samples": whole(1), "noise": number(0)},
    "gradcam": {**_BATCH, **_MAP, "layer": maybe(LAYER)},
    "guided_gradcam": {**_BATCH, **_MAP, "layer": maybe(LAYER)},
    "integrated_gradients": {**_BATCH, **_MAP, "baseline": _BASELINE, "steps": whole(1)},
    "deeplift": {**_BATCH, **_MAP, "baseline": _BASELINE},
    "deep_shap": {**_MAP, **_BACKGROUND},
    "gradient_shap": {**_MAP, **_BACKGROUND, "samples": whole(1)},
    "lrp": {**_BATCH, **_MAP, "gamma": number(0), "epsilon": number(0)},
    "occlusion": {**_BATCH, **_MAP, "window": whole(1), "stride": whole(1), "baseline": _BASELINE},
    "activation_maximisation": {
        **{"baseline": choice("black", "white", "gray", "mean", "random"), "steps": whole(1)},
        **{"lr": number(0, above=True), "decay": number(0)},
    },
    "cladec": _BATCH,
    "refae": _BATCH,
}
"""Explanation method -> the keys that it takes, under `explainers.NAME`."""

LEARNED = {"cladec": ("cladec",), "refae": ("cladec", "refae")}
"""The methods that answer with what a trained model of the same name makes of the image -> the `model` they need."""
