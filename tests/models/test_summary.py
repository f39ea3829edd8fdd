"""The table of a network's layers: what it says, and that looking at a network leaves no trace."""

import copy
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers import TINY, build
from xmnist.config import resolution
from xmnist.config.declarations import CLASSIFIERS
from xmnist.data.base import Data, Info, Split
from xmnist.models import base, joint, summary
from xmnist.models.layers import Dropout, Encoder, freeze
from xmnist.runs.store import Run
from xmnist.training import networks, results

Settings = Callable[..., resolution.Settings]


class Odd(nn.Module):
    """A parameter of its own, a layer that is used twice, one that is not used, and chance even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.relu = nn.ReLU()
        self.norm = nn.Sequential(nn.BatchNorm1d(3), Dropout(0.5))
        self.spare = nn.Linear(3, 7)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.relu(self.norm(self.relu(inputs * self.scale)))
        return hidden, hidden[:, :2] + torch.randn(len(inputs), 2)


def rows(text: str) -> dict[str, list[str]]:
    """Layer -> type, output, parameters, remark."""
    split = [re.split(r"  +", line) for line in text.splitlines()]
    return {row[0]: [*row[1:], ""][:4] for row in split if len(row) > 3}


def test_a_table_has_outputs_parameters_and_remarks() -> None:
    model = Odd()
    model.norm[0].requires_grad_(False)
    seen = summary.trace(model, lambda: model(torch.zeros(2, 3)))
    text = summary.table("odd", model, seen, {"layer": ("norm", "relu"), "gate": ("norm",)})
    assert text.startswith("odd\n\nlayer")
    assert rows(text) == {
        "layer": ["type", "output", "parameters", "remark"],
        "": ["Odd", "3, 2", "3", ""],
        "relu": ["ReLU", "3", "0", "layer, 2 times"],
        "norm": ["Sequential", "3", "(6)", "layer, gate"],
        "norm.0": ["BatchNorm1d", "3", "6", ""],
        "norm.1": ["Dropout", "3", "0", ""],
    }
    assert text.endswith("\n37 parameters, 6 of them frozen, 28 of them in layers that are not used")


def test_columns_stand_below_each_other() -> None:
    model = build("cam_net", (3, 20, 20), 4, width=4)
    lines = summary.table("", model, summary.trace(model, lambda: model(torch.zeros(1, 3, 20, 20))), {}).splitlines()
    table = lines[: lines.index("")]
    for heading in ("type", "output"):
        place = table[0].index(heading)
        assert all(line[place - 2 : place] == "  " and line[place] != " " for line in table)
    end = table[0].index("parameters") + len("parameters")
    assert all(len(line) == end and line[-1].isdigit() for line in table[1:])


@pytest.mark.parametrize("fails", [False, True])
def test_looking_changes_no_mode_no_number_no_seed_and_leaves_no_hook(fails: bool) -> None:
    model = Odd()
    model.norm[1].eval()  # one part in another mode than the rest
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    seed = torch.get_rng_state()

    def forward() -> None:
        model(torch.randn(4, 3))
        if fails:
            raise ValueError("no such thing")

    if fails:
        with pytest.raises(ValueError):
            summary.trace(model, forward)
    else:
        summary.trace(model, forward)
    assert torch.equal(torch.get_rng_state(), seed)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def written(settings: resolution.Settings, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]) -> str:
    """The model.txt of a training of these settings that is about to begin."""
    split = Split(torch.rand(4, *shape), torch.arange(4))
    images = Data(split, split, split, Info(shape, tuple("abcd")))
    monkeypatch.setattr(networks, "load_explained", lambda *_: freeze(base.new_explained(settings, images.info)))
    run = Run("train", settings)
    run.path.mkdir(parents=True)
    results.write_table(run, networks.tasks(settings, images, torch.device("cpu"))[0], images.info)
    return (run.path / "model.txt").read_text()


def test_a_cladec_has_its_decoder_and_what_it_decodes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    own = settings("dataset=glyphs", "model=cladec", "layer=dense", "alpha=0.25")
    text = written(own, monkeypatch, (1, 28, 28))
    assert text.startswith("ClaDec of layer dense, alpha 0.25: vgg_small on glyphs, seed 0\n")
    assert "images 1x28x28, 4 classes; a code, which is the output of layer dense: 128\n" in text
    assert rows(text)["1"] == ["ConvTranspose2d", "64x4x4", "131,136", ""] and "conv" not in rows(text)
    assert "\n149,889 parameters\n" in text


def test_a_refae_has_its_encoder_up_to_the_layer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    text = written(settings("dataset=glyphs", "model=refae", "layer=conv", "alpha=null"), monkeypatch, (1, 28, 28))
    assert "layer conv: 64x7x7\n" in text
    encoder, decoder = text.split("\ndecoder\n")
    assert rows(encoder)["conv"] == ["Sequential", "64x7x7", "(18,624)", "layer"] and "dense.0" not in rows(encoder)
    assert "in layers that are not used" in encoder and "gate" not in encoder
    assert rows(decoder)["0"] == ["ConvTranspose2d", "64x14x14", "65,600", ""]


def test_a_joint_model_has_both_parts_its_own_gates_and_phases(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = settings("dataset=glyphs", "model=joint", "model.width=4", "model.depth=2", "model.gates=[conv.0]")
    text = written(own, monkeypatch, (1, 28, 28))
    classifier, explainer = text.split("\nexplainer: learns in phase 2 and 3\n")
    assert "\nclassifier: learns in phase 1 and 3\n" in classifier
    assert rows(classifier)["conv.0"][-1] == "gate" and rows(classifier)["conv.2"][-1] == ""
    assert rows(explainer)["head.0"] == ["Conv2d", "1x28x28", "5", ""]
    sizes = [int(size.replace(",", "")) for size in re.findall(r"^([\d,]+) parameters", text, re.MULTILINE)]
    assert sizes[0] == sizes[1] + sizes[2] > 0


def test_a_deep_resnet_has_its_named_layers_and_blocks() -> None:
    with torch.device("meta"):  # in no time
        model, image = build("resnet152", (3, 32, 32), 10, stem="small"), torch.zeros(1, 3, 32, 32)
    seen = summary.trace(model, lambda: model(image))
    text = summary.table("", model, seen, {"layer": model.layers, "gate": model.gates})
    table = rows(text)
    assert [name for name, row in table.items() if "layer" in row[-1]] == list(CLASSIFIERS["resnet152"].layers)
    assert sum("gate" in row[-1] for row in table.values()) == 51
    assert table["network.layer3"][:3] == ["Sequential", "1024x8x8", "(40,613,888)"]
    assert table["network.layer4.2.relu"][-1] == "3 times"
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.usefixtures("undrawn")
def test_a_training_is_the_same_without_the_table(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    words = (*TINY, "model=classifier", "alpha=null", "classifier=lenet_avgpool", "dataset.train=200")
    first = networks.train(settings(*words))
    text, weights = (first.path / "model.txt").read_text(), (first.path / "model.pt").read_bytes()
    assert "ClampedConv2d" in text
    monkeypatch.setattr(results, "write_table", lambda *_: None)
    second = networks.train(settings(*words, "force=true"))
    assert (second.path / "model.pt").read_bytes() == weights


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run_does_without_its_table(settings: Settings) -> None:
    run = networks.train(settings(*TINY, "model=classifier", "alpha=null", "trainer.epochs=1", "dataset.train=200"))
    (run.path / "model.txt").unlink()  # as for pictures: it can be made again, and nothing is computed from it
    assert run.finished() and "model.txt" not in run.status()["files"]


def test_an_encoder_of_a_container_has_its_output() -> None:
    model = Encoder(build("vgg_small", (1, 28, 28), 3, dropout=0.1), "conv")
    seen = summary.trace(model, lambda: model(torch.zeros(1, 1, 28, 28)))
    table = rows(summary.table("", model.classifier, seen, {"layer": ("conv", "dense")}))
    assert table["conv"][1] == "64x7x7" and "dense" not in table


def test_a_gated_model_is_told_of_without_its_own_line() -> None:
    network = build("cam_net", (1, 16, 16), 3, width=2)
    model = joint.Joint(network, joint.Explainer((1, 16, 16), 2, 1, 3.0))
    seen = summary.trace(model, lambda: model(torch.zeros(1, 1, 16, 16)))
    assert not any("Joint" in row for row in rows(summary.table("", model, seen, {})).values())
