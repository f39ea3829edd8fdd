"""Trained weights that a ResNet's training begins with: what is taken, what is refused, and which run that is."""

import argparse
import hashlib
import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from helpers import TINY, build
from xmnist.config import resolution
from xmnist.data.base import Data, Info, Split
from xmnist.models import base, pretrained
from xmnist.models.layers import freeze
from xmnist.runs import commands, identity
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.training import checks, loop, networks, resuming

Settings = Callable[..., resolution.Settings]
SMALL = (*TINY, "dataset.train=200", "dataset.test=20", "trainer.epochs=1", "classifier=resnet18", "alpha=null")


def network(channels: int = 3, classes: int = 1000, stem: str = "large", depth: int = 18) -> nn.Module:
    return build(f"resnet{depth}", (channels, 32, 32), classes, stem=stem)


def filled(depth: int = 18) -> dict[str, Tensor]:
    """A state dict as torchvision's; most tensors hold one number many times, which makes a small file."""
    with torch.device("meta"):
        shapes = getattr(models, f"resnet{depth}")().state_dict()
    out = {
        key: torch.full((1,) * value.ndim, place, dtype=value.dtype).expand(value.shape)
        for place, (key, value) in enumerate(shapes.items())
    }
    return out | {key: torch.rand(shapes[key].shape) for key in ("conv1.weight", "fc.weight")}


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return filled()


@pytest.fixture(scope="module")
def fresh() -> tuple[nn.Module, dict[str, Tensor]]:
    """A network that no test may change, and a copy of its tensors."""
    model = network(classes=10)
    return model, {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save(state, tmp_path / "resnet18.pth")
    return tmp_path / "resnet18.pth"


def begun(source: Path, **shape: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], str]:
    """A fresh network's tensors before and after it was given weights, and which of it stay fresh."""
    model = network(**shape)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fresh = pretrained.begin(model, "resnet18", str(source))
    return before, model.state_dict(), fresh


def test_every_tensor_is_taken_by_its_name(file: Path, state: dict[str, Tensor]) -> None:
    _, after, fresh = begun(file)
    assert fresh == "" and all(torch.equal(after[f"network.{key}"], value) for key, value in state.items())


def test_another_number_of_classes_and_the_small_stem_stay_fresh(file: Path, state: dict[str, Tensor]) -> None:
    before, after, fresh = begun(file, classes=10, stem="small")
    assert fresh == "the first convolution (3x7x7 there, 3x3x3 here) and the last layer (1000 classes there, 10 here)"
    for key, value in state.items():
        name = f"network.{key}"
        expected = before[name] if key in ("conv1.weight", "fc.weight", "fc.bias") else value
        assert torch.equal(after[name], expected), key


def test_gray_images_are_seen_as_three_equal_channels(file: Path, state: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        models = [network(channels=1), network(channels=1, stem="small")]
    (found, fresh), (_, small) = (pretrained.find(model, "resnet18", str(file)) for model in models)
    assert fresh == "" and "(3x7x7 there, 1x3x3 here)" in small
    image = torch.rand(2, 1, 16, 16, dtype=torch.float64)
    gray, colours = found["conv1.weight"].double(), state["conv1.weight"].double()
    answers = [nn.functional.conv2d(image.expand(-1, len(w[0]), -1, -1), w, stride=2) for w in (gray, colours)]
    torch.testing.assert_close(*answers, rtol=1e-5, atol=1e-5)


def packed(kind: str, state: dict[str, Tensor], path: Path) -> None:
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    content: Any = {
        "nested": {"epoch": 3, "state_dict": state},
        "parallel": {f"module.{key}": value for key, value in state.items()},
        "both": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
        "own": {f"network.{key}": value for key, value in state.items()}
        | {"normalize.mean": torch.ones(3, 1, 1), "normalize.std": torch.ones(3, 1, 1)},
        "parameters": {
            key: nn.Parameter(value) if value.is_floating_point() else value for key, value in state.items()
        },
        "compiled": {f"_orig_mod.module.{key}": value for key, value in state.items()},
        "trainer": {"model_state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 3},
        "averaged": {"ema": {key: value + 1 for key, value in state.items()}, "model": state, "optimizer": {}},
        "only averaged": {"state_dict_ema": state},
        "backbone": {f"backbone.{key}": value for key, value in state.items()} | {"criterion.weight": torch.ones(2)},
        "half": {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
    }.get(kind, older)
    torch.save(content, path, _use_new_zipfile_serialization=kind != "older")


PEOPLE = {
    "compiled": "'_orig_mod.module.' is taken off their names",
    "trainer": "the weights are those of 'model_state_dict'; 'model.' is taken off their names",
    "averaged": "the weights are those of 'model', not of 'ema'",
    "only averaged": "the weights are those of 'state_dict_ema'",
    "backbone": "'backbone.' is taken off their names; left out: criterion.weight",
}
"""Checkpoints as people have them, and what is told of reading them."""


@pytest.mark.parametrize("kind", [*("nested", "parallel", "both", "own", "parameters", "half", "older"), *PEOPLE])
def test_weights_are_found_however_they_were_packed(
    kind: str, state: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    packed(kind, state, tmp_path / "file.pth")
    with torch.device("meta"):
        found, fresh = pretrained.find(network(), "resnet18", str(tmp_path / "file.pth"))
    assert fresh == "" and found.keys() <= state.keys() and PEOPLE.get(kind, "") in caplog.text
    tolerance = {"rtol": 1e-3, "atol": 1e-3} if kind == "half" else {"rtol": 0, "atol": 0}
    for key, value in state.items():
        if kind != "older" or not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(found[key].to(value.dtype), value, **tolerance)


class Hostile:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


def damaged(kind: str, state: dict[str, Tensor], path: Path) -> None:
    """Write what is no file of a resnet18's weights."""
    changes: dict[str, dict[str, Any]] = {
        "more": {"layer5.weight": torch.ones(2)},
        "shape": {"layer1.0.conv1.weight": torch.ones(2, 2)},
        "stem": {"conv1.weight": torch.ones(32, 3, 7, 7)},
        "flat stem": {"conv1.weight": torch.ones(64)},
        "head": {"fc.weight": torch.ones(20, 512)},
        "wide head": {"fc.weight": torch.ones(20, 9), "fc.bias": torch.ones(20)},
        "nan": {"bn1.bias": torch.full((64,), torch.nan)},
        "huge": {"bn1.bias": torch.full((64,), 1e300, dtype=torch.float64)},
        "kind": {"bn1.bias": torch.ones(64, dtype=torch.int64)},
        "complex": {"bn1.bias": torch.ones(64, dtype=torch.complex64)},
        "sparse": {"bn1.bias": torch.ones(64).to_sparse()},
        "meta": {"bn1.bias": torch.ones(64, device="meta")},
        "text": {"bn1.bias": "ones"},
        "numbered": {7: torch.ones(2)},
    }
    if kind in changes:
        torch.save(state | changes[kind], path)
    elif kind == "missing":
        torch.save({key: value for key, value in state.items() if not key.startswith("fc")}, path)
    elif kind in ("deeper", "wider"):
        torch.save(filled(34 if kind == "deeper" else 50), path)
    elif kind == "flipped":
        torch.save({"fc.weight": state["fc.weight"]}, path)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif kind == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:100_000])
    elif kind == "cut older":
        torch.save(state, path, _use_new_zipfile_serialization=False)
        path.write_bytes(path.read_bytes()[:100_000])
    elif kind == "hostile":
        path.write_bytes(pickle.dumps(Hostile()))
    elif kind == "hostile zip":
        torch.save({"state_dict": Hostile()}, path)
    elif kind == "arguments":
        torch.save({"state_dict": state, "args": argparse.Namespace(lr=1)}, path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        content = {"tensor": torch.ones(3), "none": {}, "list": [1]}.get(kind, b"not a checkpoint\n")
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)


REASONS = {
    **{"missing": "it lacks fc.weight and 1 others", "more": "it also holds layer5.weight"},
    **{"shape": "its layer1.0.conv1.weight is 2x2, not 64x64x3x3", "stem": "its conv1.weight is 32x3x7x7"},
    **{
        "flat stem": "its conv1.weight is 64, not",
        "head": "its fc.weight is 20x512, not 10x512",
        "wide head": "its fc.weight is",
    },
    **{"nan": "its bn1.bias holds what is no finite", "huge": "its bn1.bias holds what is no finite"},
    **{kind: "its bn1.bias does not hold plain numbers" for kind in ("kind", "complex", "sparse", "meta")},
    **{kind: "it holds other things than named tensors" for kind in ("text", "numbered", "none")},
    **{"deeper": "it also holds layer1.2.conv1.weight and 95 others", "wider": "it also holds layer1.0.conv3.weight"},
    **{"flipped": "it was damaged at", "gone": "there is no such file", "folder": "there is no such file"},
    **{"cut": "PytorchStreamReader failed", "cut older": "unexpected EOF", "tensor": "it holds a Tensor"},
    **{kind: "it was damaged, or holds other things than" for kind in ("hostile", "hostile zip", "words")},
    **{"list": "it holds a list"},
    "arguments": "it was damaged, or holds other things than tensors and plain values: argparse.Namespace; save its",
}


@pytest.mark.parametrize("kind", sorted(REASONS))
def test_a_file_of_anything_else_is_refused_and_nothing_of_it_is_used(
    kind: str,
    state: dict[str, Tensor],
    fresh: tuple[nn.Module, dict[str, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file.pth"
    damaged(kind, state, path)
    model, before = fresh
    with pytest.raises(InputError) as error:
        pretrained.begin(model, "resnet18", str(path))
    text = str(error.value)
    assert text.startswith(f"classifier.weights={path} is not used: {REASONS[kind]}") and "\n" not in text
    assert "the state dict of torchvision's resnet18" in text and "trust" not in text
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not (tmp_path / "executed").exists()


def hub(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: Callable[..., Any]) -> list[str]:
    """Put a function in the place of what fetches; returns the addresses that it is asked for."""
    asked: list[str] = []

    def fetch(url: str, **options: Any) -> Any:
        assert options["check_hash"] and options["weights_only"] and torch.hub.get_dir() == str(folder)
        asked.append(url)
        return answer()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fetch)
    monkeypatch.setenv("TORCH_HOME", str(folder.parent))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder))
    return asked


def test_imagenet_is_torchvisions_default_of_the_depth(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = hub(monkeypatch, tmp_path, lambda: state)
    with torch.device("meta"):
        found, fresh = pretrained.find(network(classes=10), "resnet18", "imagenet")
    assert asked == [models.ResNet18_Weights.DEFAULT.url]
    assert torch.equal(found["conv1.weight"], state["conv1.weight"]) and fresh.startswith("the last layer")


def unreachable() -> None:
    raise URLError(OSError(-2, "Name or service not known"))


def other() -> None:
    raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')


@pytest.mark.parametrize("answer", [unreachable, other])
def test_imagenet_that_cannot_be_fetched_says_where_a_file_can_be_named(
    answer: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(monkeypatch, tmp_path, answer)
    with torch.device("meta"), pytest.raises(InputError, match="cannot be fetched .*classifier.weights=FILE") as error:
        pretrained.find(network(), "resnet18", "imagenet")
    assert "\n" not in str(error.value) and str(tmp_path / "checkpoints") in str(error.value)


def test_a_damaged_file_in_torchvisions_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub(monkeypatch, tmp_path, unreachable)
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir()
    file.write_bytes(b"half of it")
    with torch.device("meta"), pytest.raises(InputError, match=f"{file} is damaged; remove it"):
        pretrained.find(network(), "resnet18", "imagenet")
    assert asked == []


def test_a_server_that_says_nothing_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    seen: list[float | None] = []
    hub(monkeypatch, tmp_path, lambda: seen.append(socket.getdefaulttimeout()) or unreachable())
    with torch.device("meta"), pytest.raises(InputError):
        pretrained.find(network(), "resnet18", "imagenet")
    assert seen == [pretrained.SECONDS] and socket.getdefaulttimeout() is None


def words(file: Path | str, *more: str) -> tuple[str, ...]:
    return (*SMALL, "classifier.stem=large", f"classifier.weights={file}", *more)


def test_what_the_file_holds_is_which_run_it_is_not_where_it_lies(settings: Settings, file: Path) -> None:
    own = settings(*words(file, "model=classifier"))
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert own.classifier.weights_sha256 == checksum
    moved = file.rename(file.with_name("other.pth"))
    names = {identity.run_id("train", own), identity.run_id("train", settings(*words(moved, "model=classifier")))}
    assert len(names) == 1
    without = settings(*words("null", "model=classifier"))
    names |= {identity.run_id("train", settings(*words(w, "model=classifier"))) for w in ("null", "imagenet")}
    assert len(names) == 3 and identity.identity(without)["classifier"] == {"name": "resnet18", "stem": "large"}
    moved.write_bytes(b"another")
    os.utime(moved, ns=(1, 1))
    assert identity.run_id("train", settings(*words(moved, "model=classifier"))) not in names


def test_what_stands_on_the_classifier_is_another_run_too(settings: Settings, file: Path) -> None:
    for model in ("cladec", "refae"):
        more = (f"model={model}", "layer=network.avgpool")
        runs = [settings(*words(w, *more, *(["alpha=0.5"] if model == "cladec" else []))) for w in (file, "null")]
        assert len({identity.run_id("train", each) for each in runs}) == 2


def test_a_file_that_is_not_read_again_has_its_checksum_once(
    settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(pretrained, "digest", lambda path: read.append(path) or "0" * 64)
    pretrained._checksum.cache_clear()
    for _ in range(3):
        settings(*words(file, "model=classifier"))
    pretrained._checksum.cache_clear()
    assert read == [file]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            ("classifier.weights=nowhere.pth",),
            "classifier.weights=nowhere.pth: No such file or directory; it must be imagenet",
        ),
        (("classifier.weights=.",), "classifier.weights=.: Is a directory; it must be imagenet, or a file"),
        (("classifier.weights=[1]",), "classifier.weights must be imagenet, or a file with a state dict, or null"),
        (
            ("classifier.weights_sha256=" + "0" * 64,),
            "classifier.weights_sha256 is that of a file in classifier.weights",
        ),
        (("classifier.weights=imagenet", "classifier.weights_sha256=" + "0" * 64), "which is imagenet"),
        (("classifier.weights_sha256=abc",), "the SHA-256 of the file in weights, 64 hexadecimal digits, or null"),
        (("classifier.weights_sha256=5",), "the SHA-256 of the file in weights"),
    ],
)
def test_mistakes_are_told(settings: Settings, more: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as error:
        settings(*SMALL, "model=classifier", *more)
    assert told in str(error.value)


def test_a_file_with_another_checksum_is_refused(settings: Settings, file: Path) -> None:
    own = settings(*words(file, "model=classifier"))
    with pytest.raises(InputError, match="not classifier.weights_sha256=000"):
        settings(*words(file, "model=classifier", f"classifier.weights_sha256={'0' * 64}"))
    file.write_bytes(file.read_bytes() + b" ")  # while the command is at work
    with pytest.raises(InputError, match="it was changed after the command began"):
        checks.check(own)


def test_a_command_says_the_same_again(settings: Settings, file: Path) -> None:
    own = settings(*words(file, "model=classifier"))
    again = settings(*commands.words(own))
    assert again.classifier == own.classifier
    assert identity.run_id("train", again) == identity.run_id("train", own)


@pytest.mark.parametrize("model", ["classifier", "joint", "cladec", "refae", "evaluation"])
def test_what_cannot_be_begun_with_is_told_before_anything_is_written(
    settings: Settings, state: dict[str, Tensor], file: Path, tmp_path: Path, model: str
) -> None:
    torch.save(state | {"fc.weight": torch.ones(2)}, file)
    more = {"joint": ["alpha=[1,0.5,0.9]"], "cladec": ["alpha=0.5"], "evaluation": ["model.of=refae"]}.get(model, [])
    layer = ["layer=network.layer1"] if model not in ("classifier", "joint") else []
    own = settings(*words(file, f"model={model}", *layer, *more))
    with pytest.raises(InputError, match="is not used: its fc.weight is 2, not 10x512"):
        checks.check(own)
    assert not (tmp_path / "out").exists()


class Begun(Exception):
    """A training is about to begin."""


@pytest.mark.parametrize("model", ["classifier", "joint", "refae", "evaluation"])
def test_only_what_is_explained_begins_with_weights(
    settings: Settings, file: Path, state: dict[str, Tensor], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"joint": ["alpha=[1,0.5,0.9]"], "evaluation": ["model.of=refae"]}.get(model, [])
    more += ["layer=network.layer1"] if model in ("refae", "evaluation") else []
    own = settings(*words(file, f"model={model}", *more))
    split = Split(torch.rand(4, 1, 28, 28), torch.arange(4))
    images = Data(split, split, split, Info((1, 28, 28), tuple("abcd")))
    found: dict[str, Tensor] = {}

    def fit(model: nn.Module, *_: Any, **__: Any) -> None:
        found.update(model.state_dict())
        raise Begun

    monkeypatch.setattr(loop, "fit", fit)
    monkeypatch.setattr(networks, "load_explained", lambda *_: freeze(base.new_explained(own, images.info)))
    with pytest.raises(Begun):
        resuming.fit(Run("train", own), networks.tasks(own, images, torch.device("cpu")), images)
    prefix = {"joint": "classifier.network.", "refae": "0.classifier.network."}.get(model, "network.")
    taken = [torch.equal(found[prefix + key], state[key]) for key in state if key.endswith("bn1.bias")]
    assert len(taken) == 9 and set(taken) == {model in ("classifier", "joint")}
    stem = torch.equal(found[f"{prefix}conv1.weight"], state["conv1.weight"].sum(1, keepdim=True))
    assert stem == (model in ("classifier", "joint"))


def test_a_finished_run_needs_no_file(
    settings: Settings, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    row = {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 1.0, "val_accuracy": 0.1, "seconds": 1.0}
    monkeypatch.setattr(resuming, "_fit_phase", lambda *_: [row])  # learning would take seconds
    own = settings(*words(file, "model=classifier"))
    run = networks.train(own)
    told = "freshly initialised: the last layer (1000 classes there, 10 here)"
    assert f"the training begins with the weights of {file}; {told}" in caplog.text
    file.unlink()
    monkeypatch.delattr(pretrained, "find")
    checksum = own.classifier.weights_sha256
    again = settings(*words(file, "model=classifier", f"classifier.weights_sha256={checksum}"))
    assert again == own and Run("train", again).reusable() and networks.train(again).path == run.path
    images = networks.load_data(again)
    assert torch.isfinite(networks.load_explained(again, images, torch.device("cpu"))(images.test.images[:2])).all()


def test_a_run_that_goes_on_needs_no_file_and_another_one_does(
    settings: Settings, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings(*words(file, "model=classifier"))
    file.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        checks.check(own)
    run = Run("train", own)
    run.path.mkdir(parents=True)
    run.save("last.pt", {"run": run.path.name, "phase": 1, "before": [], "weights": {}})
    checks.check(own)
    with pytest.raises(InputError, match="there is no such file"):
        checks.check(replace(own, force=True))
    split = Split(torch.rand(4, 1, 28, 28), torch.arange(4))
    images = Data(split, split, split, Info((1, 28, 28), tuple("abcd")))
    monkeypatch.setattr(resuming, "_fit_phase", lambda *_: [{"epoch": 1}])
    assert resuming.fit(run, networks.tasks(own, images, torch.device("cpu")), images) == [{"epoch": 1}]
