"""A classifier of a user's own: a function or a class in one file, declared by a decorator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from helpers import TINY, composed
from xmnist.config import resolution
from xmnist.config.declarations import CLASSIFIERS
from xmnist.config.rules import whole
from xmnist.models import base
from xmnist.models.base import Shape, classifier
from xmnist.runs import store
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import train
from xmnist.training import checks


@pytest.fixture(autouse=True)
def _declared_for_one_test() -> Iterator[None]:
    before = dict(CLASSIFIERS._declared) if len(CLASSIFIERS) else {}
    yield
    CLASSIFIERS._declared.clear()
    CLASSIFIERS._declared.update(before)


class Own(nn.Module):
    """A network whose own attribute `layers` holds modules, which is nobody's business."""

    def __init__(self, shape: Shape, classes: int, *, width: Annotated[int, whole(1, 64), "channels"] = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(shape[0], width, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(images).mean((2, 3)))


def resolved(folder: Path, *words: str, **options: Any) -> resolution.Settings:
    """The settings of `xmnist train` with the classifier `own`."""
    cfg = OmegaConf.create(OmegaConf.to_container(composed(*TINY, *words)))
    cfg.classifier = {"name": "own", **options}
    return replace(resolution.resolve(cfg), out_dir=str(folder))


def test_a_class_is_trained_and_its_layers_are_looked_at_by_their_dotted_paths(tmp_path: Path) -> None:
    assert classifier("own")(Own) is Own
    own = resolved(tmp_path, "model=classifier", width=3)
    train.main(own)
    run = Run("train", own)
    assert run.path.name.startswith("classifier=own,seed=0") and "layers.0" in (run.path / "model.txt").read_text()
    del CLASSIFIERS._declared["own"]
    assert store.described(run.path, "train") == own  # also where it is not known
    classifier("own")(Own)
    decoder = resolved(tmp_path, "model=cladec", "model.decoder=auto", "layer=layers.0", width=3)
    checks.check(decoder)
    with pytest.raises(InputError, match=r"no layer 'conv'.*layers, layers.0, layers.1, head"):
        checks.check(replace(decoder, layer="conv"))


def test_all_layers_are_refused_where_none_has_a_name(tmp_path: Path) -> None:
    classifier("own")(Own)
    with pytest.raises(InputError, match="layer=all needs named layers, and classifier=own declares none.*layer="):
        resolved(tmp_path, "layer=all")
    assert resolved(tmp_path, "layer=[layers.1,layers.0]").layer == ["layers.1", "layers.0"]


def test_declared_layers_are_ordered_also_where_the_network_calls_something_else_so(tmp_path: Path) -> None:
    classifier("own", layers=("layers.0", "head"), gates=("layers.1",))(Own)
    assert resolved(tmp_path, "layer=all").layer == ["layers.0", "head"]
    network = base.made({"name": "own"}).build((1, 8, 8), 3)
    assert isinstance(network.layers, nn.Sequential) and network.gates == ("layers.1",)
    checks.check(resolved(tmp_path, "model=joint", "alpha=[1,0.5,0.9]"))


def test_options_have_the_defaults_of_the_declaration_and_are_checked(tmp_path: Path) -> None:
    classifier("own")(Own)
    assert resolved(tmp_path).classifier.plain() == {"name": "own", "width": 4}
    with pytest.raises(InputError, match="classifier.width must be a whole number from 1 to 64, got 0"):
        resolved(tmp_path, width=0)
    with pytest.raises(InputError, match="no key 'classifier.widht'; did you mean 'classifier.width'"):
        resolved(tmp_path, widht=3)
    assert CLASSIFIERS["own"].keys["width"].help == "channels"


def test_a_function_is_one_too_and_is_returned_as_it_is() -> None:
    @classifier("own", layers=("1",), least=4)
    def own(shape: Shape, classes: int, *, bias: bool) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes, bias=bias))

    assert isinstance(own((1, 4, 4), 3, bias=True), nn.Sequential)
    network = base.made({"name": "own", "bias": False}).build((1, 4, 4), 3)
    assert network.layers == ("1",) and network(torch.rand(2, 1, 4, 4)).shape == (2, 3)
    with pytest.raises(InputError, match="classifier=own needs images of at least 4x4 pixels, got 3x4"):
        base.made({"name": "own", "bias": False}).build((1, 3, 4), 3)


def test_what_cannot_be_declared_is_told_at_once() -> None:
    def positional(shape: Shape, classes: int, width: int) -> nn.Module: ...

    def untyped(shape: Shape, classes: int, *, width) -> nn.Module: ...  # type: ignore[no-untyped-def]

    with pytest.raises(InputError, match=r"cannot be called as positional\(shape, classes, \*, OPTIONS\): missing a"):
        classifier("own")(positional)
    with pytest.raises(InputError, match="untyped: key 'width' needs a type"):
        classifier("own")(untyped)
    with pytest.raises(InputError, match="classifier 'vgg_small' is there already, declared in xmnist.models.classif"):
        classifier("vgg_small")(Own)
