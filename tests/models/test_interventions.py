import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers import build
from networks import Residual, explainer
from xmnist.models.interventions import reset_from_the_top, rewritten
from xmnist.models.joint import Explainer, Joint

SHAPE = (1, 16, 16)


def joint() -> nn.Module:
    classifier = build("cam_net", SHAPE, 3, width=4)
    return Joint(classifier, Explainer(SHAPE, 4, 2, 1.0))


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 20), nn.ReLU(), nn.Linear(20, 3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "cam_net": lambda: build("cam_net", SHAPE, 3, width=4),
    "lenet": lambda: build("lenet_avgpool", (1, 28, 28), 3, dropout=0.2, nonpositive_bias=False),
    "residual": Residual,
    "dense": dense,
    "joint": joint,
}


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A network in float64, and images for it."""
    torch.manual_seed(0)
    network = NETWORKS[name]().double().eval()
    size = 28 if name == "lenet" else 16
    return network, torch.rand(4, 1, size, size, dtype=torch.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_rewritten_is_the_same_function_with_another_layer(name: str) -> None:
    network, images = made(name)
    before = copy.deepcopy(network.state_dict())
    other = rewritten(network, tuple(images.shape[1:]), seed=0)
    for some in (images, torch.zeros_like(images), torch.ones_like(images), 1.2 * images - 0.1):
        torch.testing.assert_close(other(some), network(some), rtol=1e-9, atol=1e-9)
    assert len(list(other.parameters())) > len(list(network.parameters()))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("method", ["saliency", "integrated_gradients", "deeplift", "gradcam"])
def test_gradients_and_what_is_made_of_them_do_not_notice(method: str) -> None:
    network, images = made("cam_net")
    other, targets = rewritten(network, SHAPE, seed=0), torch.tensor([0, 1, 2, 0])
    maps = explainer(method)(network, images, targets)
    torch.testing.assert_close(explainer(method)(other, images, targets), maps, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["deconvolution", "guided_backprop", "lrp"])
def test_methods_with_rules_for_layers_do(method: str) -> None:
    network, images = made("cam_net")
    other, targets = rewritten(network, SHAPE, seed=0), torch.tensor([0, 1, 2, 0])
    maps, others = (explainer(method)(each, images, targets) for each in (network, other))
    assert (maps - others).abs().sum() > 0.01 * maps.abs().sum()


@pytest.mark.parametrize(("name", "top"), [("cam_net", "logits"), ("residual", "out"), ("joint", "classifier.logits")])
def test_layers_are_reset_one_after_the_other_from_the_top(name: str, top: str) -> None:
    network, images = made(name)
    before = copy.deepcopy(network.state_dict())
    layers = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.ConvTranspose2d)]
    steps = list(reset_from_the_top(network, seed=0))
    assert {layer for layer, _ in steps} == set(layers) and len(steps) == len(layers)
    assert steps[0][0] == top
    done: list[str] = []
    for layer, reset in steps:
        done.append(layer)
        for each in layers:
            same = torch.equal(reset.get_submodule(each).weight, network.get_submodule(each).weight)  # type: ignore[arg-type]
            assert same == (each not in done), (layer, each)
        assert not torch.allclose(reset(images), network(images))
    explaining = [layer.startswith("explainer.") for layer in done]
    assert explaining == sorted(explaining)  # of a joint network, the classifier comes first
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_reset_weights_come_from_the_seed_and_batchnorm_forgets_too() -> None:
    network, images = made("residual")
    assert isinstance(network, Residual)
    network.norm.running_mean.fill_(3.0)  # type: ignore[union-attr]
    one, two, three = (list(reset_from_the_top(network, seed))[-1][1] for seed in (0, 0, 1))
    torch.testing.assert_close(one(images), two(images))
    assert not torch.allclose(one(images), three(images))
    assert isinstance(one, Residual) and not one.norm.running_mean.any()  # type: ignore[union-attr]
