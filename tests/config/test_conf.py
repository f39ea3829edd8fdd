"""Every YAML file composes, passes the checks, and names what the code has."""

import gc
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from helpers import OPTIONS, TINY, build
from xmnist import data
from xmnist.cli import hooks
from xmnist.config import defaults, derived, resolution, schema
from xmnist.config.declarations import COMPONENTS, DATASETS, EXPLAINERS, rules_of
from xmnist.config.defaults import conf_dir
from xmnist.config.kinds import MODELS
from xmnist.config.trainer import Training
from xmnist.models import decoders, joint
from xmnist.models.layers import Encoder
from xmnist.training import loop, losses, objectives

Settings = Callable[..., resolution.Settings]
GROUPS = ("classifier", "dataset", "explainer", "model", "select", "trainer")
IN_EXPLAIN = ("explainer", "select")
FILES = [(group, path.stem) for group in GROUPS for path in sorted(Path(conf_dir(), group).glob("*.yaml"))]
EXPERIMENTS = [path.stem for path in sorted(Path(conf_dir(), "experiment").glob("*.yaml"))]


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_option_composes_and_passes_the_checks(settings: Settings, group: str, name: str) -> None:
    words = ["dataset.path=somewhere"] if name == "folder" else ["model=joint"] if name == "joint" else []
    words += ["model=cladec_vae"] if group == "explainer" and name in ("cladec_vae", "refvae") else []
    words = ["dataset=mnist", f"{group}={name}", *words]
    resolved = settings(*words, stage="explain" if group in IN_EXPLAIN else "train")
    if group == "explainer":
        assert resolved.explainers.keys() == {name}
    elif group != "trainer":
        assert getattr(resolved, group).name == name


@pytest.mark.parametrize("stage", ["train", "explain"])
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_in_every_stage(settings: Settings, name: str, stage: str) -> None:
    resolved = settings(f"+experiment={name}", stage=stage)
    assert resolved.dataset.name in DATASETS
    assert hasattr(resolved, "explainers") == (stage == "explain")


def test_every_method_has_a_file_of_its_name_and_every_file_a_method() -> None:
    names = {path.stem: yaml.safe_load(path.read_text())["name"] for path in Path(conf_dir(), "explainer").glob("*")}
    assert set(names.values()) == set(EXPLAINERS) <= set(names)
    assert {name for name, method in names.items() if name != method} == {"simple_taylor", "lrp_shifted"}


@pytest.mark.parametrize("group", sorted(COMPONENTS))
def test_every_option_has_a_file_and_every_file_an_option(group: str) -> None:
    assert {name for g, name in FILES if g == group} == set(rules_of(group))


@pytest.mark.parametrize(("group", "name"), [(g, name) for g in COMPONENTS for name in COMPONENTS[g]])
def test_every_file_of_a_component_has_all_of_its_keys(group: str, name: str) -> None:
    """Also those for which its declaration has a default, which is what they were before there was this key."""
    keys = COMPONENTS[group][name].keys
    own = defaults.option(group, name)
    assert own.get("model", own).keys() == {"name", *keys}
    assert all(key.help for key in keys.values())


@pytest.mark.parametrize("dataset", sorted(set(DATASETS) - {"folder"}))
@pytest.mark.parametrize("layer", ["conv", "dense", "logits"])
def test_every_dataset_meets_classifier_and_decoder(settings: Settings, dataset: str, layer: str) -> None:
    resolved = settings(f"dataset={dataset}", f"layer={layer}")
    info = data.info(resolved.dataset)
    with torch.device("meta"):
        model = build(shape=info.shape, classes=len(info.classes), **resolved.classifier.plain())
        code = Encoder(model.eval(), layer)(torch.empty(2, *info.shape))
        assert model(torch.empty(2, *info.shape)).shape == (2, len(info.classes))
        if info.shape == (1, 28, 28) or layer == "conv":
            made = decoders.build("published", tuple(code.shape[1:]), info.shape)(code)
            assert made.shape == (2, *info.shape)


def parameters(function: Callable[..., object]) -> set[str]:
    return set(inspect.signature(function).parameters)


def test_the_schemas_name_the_arguments_of_what_they_describe() -> None:
    assert set(schema.TRAINING) | {"seed"} == set(OPTIONS)
    own = {"seed", "model", "loss", "data", "validate", "figures", "state", "save"}
    assert set(Training.__dataclass_fields__) | own == parameters(loop.fit)
    keys = {name: set(DATASETS[name].keys) for name in ("glyphs", "cluttered_glyphs", "cluttered_mnist")}
    assert keys["cluttered_glyphs"] == keys["cluttered_mnist"] | keys["glyphs"]
    network = parameters(joint.Explainer) | parameters(joint.Joint) | parameters(objectives.joint.joint)
    assert set(MODELS["joint"].keys) <= network
    assert set(MODELS["cladec"].keys) < parameters(objectives.cladec.cladec)
    assert set(MODELS["refae"].keys) < parameters(objectives.cladec.refae)
    assert set(MODELS["cladec_vae"].keys) < parameters(objectives.vae.cladec_vae)
    assert set(MODELS["refvae"].keys) < parameters(objectives.vae.refvae)


@pytest.mark.parametrize(
    ("rule", "table"),
    [
        (MODELS["cladec"].keys["decoder"].rule, decoders.DECODERS),
        (MODELS["cladec"].keys["reconstruction"].rule, losses.RECONSTRUCTION),
    ],
)
def test_choices_are_those_of_the_code(rule: schema.Rule, table: dict[str, object]) -> None:
    assert rule.text == "one of " + ", ".join(sorted(table, key=lambda word: rule.text.index(word)))


def test_tables_cover_all_names() -> None:
    drawn = {each.name for each in DATASETS.values() if each.drawn}
    assert drawn == {"glyphs", "cluttered_glyphs", "polygons"}
    assert {each.name for each in DATASETS.values() if each.masked} == drawn | {"cluttered_mnist", "folder"}


def test_the_paper_trainer_has_the_published_settings(settings: Settings) -> None:
    """Keras study: Adam with epsilon 1e-4, 10 epochs of batch 32, rate 0.001 and 0.005, no schedule, last weights."""
    common = {"optimizer": "adam", "epochs": 10, "batch_size": 32, "eps": 1e-4, "schedule": "constant", "keep": "last"}
    common |= {"weight_decay": 0.0, "stop_patience": None}
    for model, rate in (("classifier", 0.001), ("cladec", 0.005), ("refae", 0.005)):
        used = derived.training(settings("dataset=mnist", "trainer=paper", f"model={model}"))
        assert {key: used[key] for key in common} == common and used["lr"] == rate


def test_the_defaults_are_the_main_job(settings: Settings) -> None:
    default = settings("dataset=mnist")
    named = settings("dataset=mnist", "model=cladec", "layer=dense", "alpha=0.25", "trainer=default", "seed=0")
    assert default == named
    assert derived.training(default)["epochs"] <= 10


def test_an_experiment_changes_only_what_it_says(settings: Settings) -> None:
    smoke, plain = settings(*TINY).plain(), settings("dataset=glyphs").plain()
    assert {k for k in plain if smoke[k] != plain[k]} == {"dataset", "trainer"}


def test_what_an_experiment_measures_or_explains_with_can_be_overridden(settings: Settings) -> None:
    own = settings("+experiment=aopc_table", "metric=axioms", "explainer=lrp", stage="evaluate")
    assert list(own.metrics) == ["axioms"] and list(own.explainers)[-1] == "lrp"
    own = settings("+experiment=nine_or_four", "explainer=saliency", stage="explain")
    assert list(own.explainers) == ["saliency"]


def test_no_config_names_a_constructor_but_for_hydras_own_callback() -> None:
    found = [p for p in Path(conf_dir()).rglob("*.yaml") if "_target_" in p.read_text()]
    assert [p.name for p in found] == ["_hydra.yaml"]
    targets = yaml.safe_load(found[0].read_text())["callbacks"]
    assert targets == {"check": {"_target_": "xmnist.cli.hooks.Check"}}


def test_a_stage_is_imported_without_the_garbage_collector_and_leaves_it_on() -> None:
    assert hooks.module("train").__name__ == "xmnist.stages.train" and gc.isenabled()
    with pytest.raises(ModuleNotFoundError):
        hooks.module("nothing")
    assert gc.isenabled()
