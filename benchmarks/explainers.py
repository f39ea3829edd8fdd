"""Explainers of a whole set of images against the library's own calls on ready batches of the same size."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from captum import attr
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from zennit.attribution import Gradient
from zennit.composites import EpsilonGammaBox

from benchmarks.timing import Ratio, side_by_side
from xmnist.cli import hooks
from xmnist.config.declarations import EXPLAINERS
from xmnist.config.defaults import conf_dir
from xmnist.models import base
from xmnist.models.layers import freeze, place

BATCH = 100
IMAGES = {"integrated_gradients": 200, "deeplift": 500}
"""How many images slow methods explain; others explain a thousand."""

Call = Callable[[Any, Tensor, Tensor], Any]
"""A network, images and targets to what the library answers."""


def _gradient(network: Any, images: Tensor, targets: Tensor) -> Tensor:
    images = images.clone().requires_grad_()
    return torch.autograd.grad(network(images).gather(1, targets[:, None]).sum(), images)[0]


def _lrp(network: Any, images: Tensor, targets: Tensor) -> None:
    composite = EpsilonGammaBox(low=0.0, high=1.0, epsilon=0.01, gamma=0.25)
    with Gradient(network, composite) as attributor:
        attributor(images.clone(), torch.eye(10)[targets])


CALLS: dict[str, Call] = {
    "saliency": _gradient,
    "input_x_gradient": lambda f, x, t: attr.InputXGradient(f).attribute(x.clone().requires_grad_(), target=t),
    "guided_backprop": lambda f, x, t: attr.GuidedBackprop(f).attribute(x.clone().requires_grad_(), target=t),
    "gradcam": lambda f, x, t: attr.LayerGradCam(f, f.conv[0]).attribute(x, target=t, relu_attributions=True),
    "deeplift": lambda f, x, t: attr.DeepLift(f).attribute(x, baselines=0.0 * x, target=t),
    "integrated_gradients": lambda f, x, t: attr.IntegratedGradients(f).attribute(
        x, target=t, n_steps=50, internal_batch_size=BATCH
    ),
    "lrp": _lrp,
}
"""What the libraries are asked for; saliency's is one forward and backward pass."""


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """Each method with its default options, in batches of 100."""
    torch.manual_seed(0)
    network = base.made({"name": "vgg_small", "dropout": 0.5}).build((1, 28, 28), 10)
    freeze(place(network, torch.device("cpu")))
    for name, call in CALLS.items():
        count = min(images, IMAGES.get(name, 1000))
        x, targets = torch.rand(count, 1, 28, 28), torch.randint(10, (count,))
        explainer = _explainer(name, x)

        def library(call: Call = call, x: Tensor = x, targets: Tensor = targets) -> None:
            for part, own in zip(x.split(BATCH), targets.split(BATCH), strict=True):
                call(network, part, own)

        def ours(explainer: Any = explainer, x: Tensor = x, targets: Tensor = targets) -> None:
            explainer(network, x, targets)

        yield side_by_side(f"explainer, {name}, {count} images, against the library's call", library, ours, rounds)


def _explainer(name: str, train: Tensor) -> Any:
    hooks.register("explain", ["dataset=mnist"])
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        options = OmegaConf.to_container(compose("explain", [f"explainer={name}"]).explainers[name])
    assert isinstance(options, dict)
    own = {str(key): value for key, value in options.items() if key != "name"}
    return EXPLAINERS[name](label=name, seed=0, train=train, **own)
