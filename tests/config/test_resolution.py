import math
from collections.abc import Callable
from typing import Any

import pytest

from helpers import composed
from xmnist.config import derived, resolution, rules, schema
from xmnist.config.derived import trained
from xmnist.runs.commands import words
from xmnist.runs.identity import identity
from xmnist.runs.identity import label as label_of
from xmnist.runtime import errors
from xmnist.runtime.errors import InputError

Settings = Callable[..., resolution.Settings]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (rules.number(0, 1), [0, 0.5, 1], [-0.1, 1.1, "0.5", True, None, math.nan]),
        (rules.number(0, above=True), [1e-9, 7], [0, -1, math.inf]),
        (rules.whole(1, 5), [1, 5], [0, 6, 2.0, True, "3"]),
        (rules.choice("a", "b"), ["a"], ["c", None, 1]),
        (rules.maybe(rules.whole(1)), [None, 3], [0, "null"]),
        (rules.one_or_more(rules.number(0, 1)), [0.5, [0, 1]], [[], [0, 0.0], [0, 2], "x", [[0]]]),
        (schema.DEVICE, ["auto", "cpu", "cuda", "cuda:3", "mps"], ["gpu", "cuda:", "cuda:x", 0, None]),
        (rules.text("a folder"), ["x"], ["", None, 3]),
        (rules.list_of(rules.whole(0)), [[3, 1], [0]], [[], [1, 1], 3, ["a"]]),
        (schema.YES_NO, [True, False], [0, "true", None]),
    ],
)
def test_rules(rule: rules.Rule, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert rule.convert(value) == value
    for value in bad:
        with pytest.raises((ValueError, TypeError)):
            rule.convert(value)


def test_numbers_are_normalised_so_that_0_and_0_point_0_are_one_run(settings: Settings) -> None:
    assert identity(settings("alpha=0")) == identity(settings("alpha=0.0"))
    assert isinstance(settings("alpha=1").alpha, float)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("alpha=7", r"alpha must be a number in \[0, 1\].*model=cladec, got 7"),
        ("alpha=abc", r"alpha must be a number in \[0, 1\].*got 'abc'"),
        ("alpha=[0.1,7]", r"alpha must be .*got \[0\.1, 7\]"),
        ("alpha=null", "alpha must be .*got None"),
        ("seed=-1", "seed must be a whole number from 0 to 2147483647, got -1"),
        ("device=gpu", "device must be one of auto, cpu, cuda, cuda:N, mps, got 'gpu'"),
        ("trainer.epochs=0", "trainer.epochs must be a whole number of at least 1, at most a billion, or auto, got 0"),
        ("trainer.lr=0", "trainer.lr must be a number above 0, or auto, got 0"),
        ("trainer.optimizer=adagrad", "trainer.optimizer must be one of adam, adamw, sgd, got 'adagrad'"),
        ("+trainer.epoch=3", "no key 'trainer.epoch'; did you mean 'trainer.epochs'"),
        ("+trainer.decoder.rl=3", "no key 'trainer.decoder.rl'; did you mean 'trainer.decoder.lr'"),
        ("+foo=3", r"no key 'foo' \(keys: "),
        ("classifier.dropout=x", r"classifier.dropout must be a number in \[0, 0.99\], got 'x'"),
        ("model.reconstruction=l1", "model.reconstruction must be one of sse, mse, got 'l1'"),
        ("dataset.validation=0", r"dataset.validation must be a number in \(0, 0.5\], got 0"),
        ("~trainer.lr", "trainer.lr is missing: it must be a number above 0"),
        ("~seed", "seed is missing"),
        ("model.name=cldec", "no model 'cldec'; did you mean 'cladec'"),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        resolution.resolve(composed("dataset=mnist", override))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["classifier", "refae"])
def test_models_without_alpha_take_none(model: str) -> None:
    with pytest.raises(InputError, match=f"alpha must be null with model={model}"):
        resolution.resolve(composed("dataset=mnist", f"model={model}", "alpha=0.5"))


def test_an_interpolation_that_leads_nowhere_is_one_line() -> None:
    with pytest.raises(InputError, match="nowhere"):
        resolution.resolve(composed("dataset=mnist", "layer=${nowhere}"))


def test_decoders_are_trained_by_their_own_settings(settings: Settings) -> None:
    rates = {
        m: derived.training(settings("trainer=paper", f"model={m}"))["lr"] for m in ("classifier", "refae", "cladec")
    }
    assert rates == {"classifier": 0.001, "refae": 0.005, "cladec": 0.005}


def test_one_override_shortens_every_training(settings: Settings) -> None:
    own = settings("trainer.epochs=2")
    assert derived.training(own)["epochs"] == derived.training(derived.trained(own, "classifier"))["epochs"] == 2


@pytest.mark.parametrize("layers", ["conv", "dense"])
def test_the_classifier_is_the_same_run_for_every_decoder(settings: Settings, layers: str) -> None:
    plain = identity(settings("model=classifier"))
    other = settings(f"layer={layers}", "alpha=0.9", "model.reconstruction=mse", "++trainer.decoder.epochs=1")
    assert identity(derived.trained(other, "classifier")) == plain


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (("alpha=0.25",), "layer=dense,alpha=0.25,seed=0"),
        (("alpha=0", "layer=conv", "seed=3"), "layer=conv,alpha=0,seed=3"),
        (("alpha=[0,0.5]",), "layer=dense,alpha=0+0.5,seed=0"),
        (("alpha=[0,0.1,0.2,0.3,1]",), "layer=dense,alpha=0..1(5),seed=0"),
        (("model=refae",), "layer=dense,seed=0"),
        (("model=classifier",), "classifier=vgg_small,seed=0"),
    ],
)
def test_labels(settings: Settings, overrides: tuple[str, ...], label: str) -> None:
    assert label_of(settings(*overrides)) == label


def test_unknown_names_the_nearest_and_all() -> None:
    text = str(errors.unknown("stage", "trian", ["train", "explain"], "stages"))
    assert text == "no stage 'trian'; did you mean 'train'? (stages: train, explain)"
    assert str(errors.unknown("stage", "xyz", ["train"])) == "no stage 'xyz' (allowed: train)"


def test_all_layers_are_asked_for_alone(settings: Settings) -> None:
    with pytest.raises(InputError, match="layer=all stands for conv, dense, logits, and is given alone"):
        settings("dataset=mnist", "layer=[all,conv]")


def test_the_command_of_a_classifier_names_no_layer(settings: Settings) -> None:
    own = settings("dataset=mnist", "layer=conv", "neurons=[3,1]", "alpha=0")
    assert words(own) == ["dataset=mnist", "alpha=0", "layer=conv", "neurons=[1,3]", f"out_dir={own.out_dir}"]
    assert words(trained(own, "classifier")) == ["dataset=mnist", "model=classifier", f"out_dir={own.out_dir}"]
