from itertools import pairwise

import pytest
import torch

from helpers import build, size_of
from xmnist.models.layers import Encoder, fit_normalisation
from xmnist.runtime.errors import InputError


def small(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> torch.nn.Module:
    return build("vgg_small", shape, classes, dropout=0.5).eval()


def test_vgg_small_has_the_published_size() -> None:
    assert size_of(small()) == 422_026


@pytest.mark.parametrize(("layer", "code"), [("conv", (64, 7, 7)), ("dense", (128,)), ("logits", (10,))])
def test_vgg_small_has_the_published_layers(layer: str, code: tuple[int, ...]) -> None:
    model = small()
    assert layer in model.layers
    assert Encoder(model, layer)(torch.rand(3, 1, 28, 28)).shape == (3, *code)


def test_it_returns_logits_not_probabilities() -> None:
    logits = small()(torch.rand(64, 1, 28, 28))
    assert logits.min() < 0
    assert not torch.allclose(logits.sum(1), torch.ones(64))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 30, 26)])
def test_it_takes_other_image_sizes(shape: tuple[int, int, int]) -> None:
    assert small(shape, 7)(torch.rand(2, *shape)).shape == (2, 7)


def test_it_refuses_images_that_pooling_makes_vanish() -> None:
    with pytest.raises(InputError, match="at least 4x4"):
        small((1, 3, 28))


def test_brightness_and_contrast_of_all_images_do_not_matter_after_fitting() -> None:
    images = torch.rand(20, 1, 28, 28, dtype=torch.float64)
    outputs = []
    for scaled in (images, 0.2 + 0.5 * images):
        torch.manual_seed(0)
        model = small().double()
        fit_normalisation(model, scaled)
        outputs.append(model(scaled))
    torch.testing.assert_close(outputs[0], outputs[1])


OTHERS = {
    "lenet_avgpool": {"dropout": 0.25, "nonpositive_bias": True},
    "dropout_cnn": {"dropout": 0.5},
    "cam_net": {"width": 8},
    "resnet18": {"stem": "small"},
    "resnet50": {"stem": "large"},
    "vgg11": {"dropout": 0.5},
    "resnet10": {"width": 8},
    "vgg_xml": {"dropout": 0.3, "width": 4, "batch_norm": True},
}


@pytest.mark.parametrize(("name", "size"), [("lenet_avgpool", 60_074), ("dropout_cnn", 21_840)])
def test_the_networks_of_the_two_studies_have_the_published_size(name: str, size: int) -> None:
    assert size_of(build(name, (1, 28, 28), 10, **OTHERS[name])) == size


CODES = {
    "vgg11": {
        **{"conv1": (32, 16, 16), "conv2": (64, 8, 8), "conv3": (128, 8, 8), "conv4": (128, 4, 4)},
        **{"conv5": (256, 4, 4), "conv6": (256, 2, 2), "conv7": (512, 2, 2), "conv8": (512, 1, 1), "logits": (10,)},
    },
    "resnet10": {
        **{"stem": (64, 32, 32), "block1": (64, 32, 32), "block2": (128, 16, 16), "block3": (256, 8, 8)},
        **{"block4": (512, 4, 4), "pool": (512, 1, 1), "logits": (10,)},
    },
}
"""Of images of 32x32."""


@pytest.mark.parametrize("name", CODES)
def test_cladecs_own_networks_have_the_published_layers(name: str) -> None:
    model = build(name, (1, 32, 32), 10, **({"width": 64} if name == "resnet10" else OTHERS[name])).eval()
    assert {layer: tuple(Encoder(model, layer)(torch.rand(1, 1, 32, 32)).shape[1:]) for layer in model.layers} == (
        CODES[name]
    )


def test_cladecs_own_networks_have_the_published_size() -> None:
    widths = [1, 32, 64, 128, 128, 256, 256, 512, 512]
    convolutions = sum(9 * a * b + 4 * b for a, b in pairwise(widths))  # with four numbers a channel of BatchNorm
    assert size_of(build("vgg11", (1, 32, 32), 10, dropout=0.5)) == convolutions + 512 * 10 + 10
    pairs = [(3, 64), *((64, 64),) * 2, (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    convolutions = sum(9 * a * b + 4 * b for a, b in pairs)
    assert size_of(build("resnet10", (3, 32, 32), 10, width=64)) == convolutions + 512 * 10


def test_a_shortcut_of_resnet10_averages_and_adds_channels_of_zeros() -> None:
    block = build("resnet10", (1, 8, 8), 10, width=1).eval().block2
    with torch.no_grad():
        block.conv2.weight.zero_()
    features = torch.arange(9.0).view(1, 1, 3, 3)
    expected = torch.tensor([[[2.0, 3.5], [6.5, 8.0]], [[0.0, 0.0], [0.0, 0.0]]])
    torch.testing.assert_close(block(features), expected[None])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 30, 26)])
@pytest.mark.parametrize("name", OTHERS)
def test_every_classifier_takes_other_sizes_and_names_its_layers(name: str, shape: tuple[int, int, int]) -> None:
    model = build(name, shape, 7, **OTHERS[name]).eval()
    images = torch.rand(2, *shape)
    assert model(images).shape == (2, 7)
    assert isinstance(model.layers, tuple)
    for layer in model.layers:
        assert len(Encoder(model, layer)(images)) == 2
    torch.testing.assert_close(Encoder(model, model.layers[-1])(images), model(images))


@pytest.mark.parametrize(
    ("name", "least"), [("lenet_avgpool", 10), ("dropout_cnn", 16), ("cam_net", 4), ("vgg11", 16), ("resnet10", 8)]
)
def test_the_smallest_images_that_they_take(name: str, least: int) -> None:
    model = build(name, (1, least, least), 3, **OTHERS[name]).eval()
    assert model(torch.rand(1, 1, least, least)).shape == (1, 3)
    with pytest.raises(InputError, match=f"classifier={name} needs images of at least {least}x{least} pixels"):
        build(name, (1, least - 1, least), 3, **OTHERS[name])


@pytest.mark.parametrize("clamped", [True, False])
def test_no_bias_of_lenet_rises_above_0_unless_it_may(clamped: bool) -> None:
    model = build("lenet_avgpool", (1, 28, 28), 10, dropout=0.0, nonpositive_bias=clamped)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    for _ in range(3):
        optimizer.zero_grad()
        (-model(torch.rand(8, 1, 28, 28)).sum()).backward()  # brighter logits want higher biases
        optimizer.step()
    model(torch.rand(1, 1, 28, 28))  # as validation does before the weights are kept
    highest = max(p.max() for n, p in model.named_parameters() if n.endswith("bias"))
    assert (highest <= 0) == clamped
