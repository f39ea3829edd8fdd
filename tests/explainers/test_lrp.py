"""LRP against dense re-derivations of its rules, its conservation, and the rewriting of classifiers that it needs."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from networks import NETWORKS, SIZE, explainer, images, network
from xmnist.models.canonical import private, separated, unrolled
from xmnist.models.folding import folded
from xmnist.models.layers import Normalize
from xmnist.runtime.errors import InputError

PIXELS, TARGETS = images()


def chain() -> nn.Sequential:
    """Bias-free: convolution, ReLU, strided convolution, ReLU, linear, ReLU, linear."""
    torch.manual_seed(2)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 4, 4, stride=2, padding=1, bias=False), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(4 * 49, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)),
    ).double()


def dense(layer: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """The matrix (inputs, outputs) of a linear layer for inputs of a shape."""
    size = int(torch.tensor(shape).prod())
    return layer(torch.eye(size).double().view(size, *shape)).flatten(1).detach()


def share(contributions: Tensor, relevance: Tensor, epsilon: float = 0.0) -> Tensor:
    """Relevance (N, J) shared out by contributions (N, I, J); nothing where they add up to 0."""
    total = contributions.sum(1)
    total = total + epsilon * torch.where(total >= 0, 1.0, -1.0)
    return (contributions * torch.where(total == 0, 0, relevance / total)[:, None]).sum(2)


def box(x: Tensor, w: Tensor, relevance: Tensor) -> Tensor:
    """zB for pixels in [0, 1]: x w - 0 w+ - 1 w-"""
    return share(x[:, :, None] * w - w.clamp(max=0), relevance)


def gamma(a: Tensor, w: Tensor, relevance: Tensor, value: float) -> Tensor:
    """a (w + gamma w+), for activations a >= 0."""
    positive = w + value * w.clamp(min=0)
    negative = w + value * w.clamp(max=0)
    z = a @ w  # zennit's generalisation: where the output is negative, negative weights count more
    return share(a[:, :, None] * torch.where((z > 0)[:, None], positive, negative), relevance)


def by_hand(model: nn.Sequential, pixels: Tensor, targets: Tensor, method: str, **options: float) -> Tensor:
    w1, w2 = dense(model[0], (1, SIZE, SIZE)), dense(model[2], (3, 14, 14))
    w3, w4 = (model[i].weight.detach().T for i in (5, 7))
    x = pixels.flatten(1)
    a1 = (x @ w1).relu()
    a2 = (a1 @ w2).relu()
    a3 = (a2 @ w3).relu()
    logits = a3 @ w4
    relevance = (logits if method == "lrp" else logits.abs()) * nn.functional.one_hot(targets, 3)
    if method == "lrp":
        relevance = share(a3[:, :, None] * w4, relevance)
        relevance = share(a2[:, :, None] * w3, relevance, options["epsilon"])
        relevance = gamma(a1, w2, relevance, options["gamma"])
    else:  # z+
        for a, w in ((a3, w4), (a2, w3), (a1, w2)):
            relevance = share(a[:, :, None] * w.clamp(min=0), relevance)
    return box(x, w1, relevance).view_as(pixels)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("lrp", {"gamma": 0.25, "epsilon": 1e-9}),
        ("lrp", {"gamma": 0.0, "epsilon": 0.1}),
        ("lrp", {"gamma": 2.0, "epsilon": 0.01}),
        ("deep_taylor", {}),
    ],
)
def test_rules_by_dense_re_derivation(method: str, options: dict[str, float]) -> None:
    model = chain()
    expected = by_hand(model, PIXELS, TARGETS, method, **options)
    maps = explainer(method, **options)(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


@pytest.mark.parametrize(("method", "options"), [("lrp", {"gamma": 0.25, "epsilon": 1e-9}), ("deep_taylor", {})])
def test_relevance_is_conserved_without_biases(method: str, options: dict[str, float]) -> None:
    model = chain()
    model[7].weight.data.abs_()  # z+ has no way to share out what nothing speaks for
    logits = model(PIXELS).gather(1, TARGETS[:, None])[:, 0].detach()
    maps = explainer(method, **options)(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), logits, rtol=1e-5, atol=1e-7)
    gap = explainer(method, **options).completeness_gap(model, PIXELS, TARGETS, maps + 1)
    assert gap is not None and gap.tolist() == pytest.approx([maps[0].numel()] * len(maps), rel=1e-5)


def test_a_large_epsilon_keeps_relevance_back() -> None:
    model = chain()
    little, much = (explainer("lrp", epsilon=e)(model, PIXELS, TARGETS).sum((1, 2, 3)).abs() for e in (1e-9, 1.0))
    assert (much < little).all()


def test_lrp_with_small_gamma_and_epsilon_is_input_x_gradient_behind_the_first_layer() -> None:
    """LRP-0 in a bias-free ReLU network; the first layer's zB is undone by giving it the only weights that matter."""
    model = chain()
    first = nn.Conv2d(1, 1, 1, bias=False).double()
    nn.init.ones_(first.weight)  # zB of one positive weight passes relevance on unchanged
    maps = explainer("lrp", gamma=0.0, epsilon=1e-12)(nn.Sequential(first, *model), PIXELS, TARGETS)
    expected = explainer("input_x_gradient")(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-7 * expected.abs().max().item())


@pytest.mark.parametrize("method", ["lrp", "deep_taylor"])
def test_folding_batchnorm_by_hand_gives_the_same_map(method: str) -> None:
    """One BatchNorm before a ReLU, one after it; folded with pen and paper."""
    torch.manual_seed(6)
    first, second, last = nn.Conv2d(1, 3, 3), nn.Conv2d(3, 4, 3), nn.Linear(4 * 144, 3)
    before, after = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    model = nn.Sequential(first, before, nn.ReLU(), after, second, nn.ReLU(), nn.Flatten(), last).double().eval()
    plain = copy.deepcopy(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), last))
    for norm in (before, after):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.normal_()
        norm.bias.data.normal_()
    factor = [n.weight / (n.running_var + n.eps).sqrt() for n in (before, after)]
    offset = [n.bias - n.running_mean * f for n, f in zip((before, after), factor, strict=True)]
    plain[0].weight.data = first.weight * factor[0][:, None, None, None]
    plain[0].bias.data = first.bias * factor[0] + offset[0]
    plain[2].weight.data = second.weight * factor[1][:, None, None]
    plain[2].bias.data = second.bias + (second.weight.sum((2, 3)) * offset[1]).sum(1)
    torch.testing.assert_close(plain(PIXELS), model(PIXELS), rtol=1e-9, atol=1e-12)
    direct, by_hand = (explainer(method)(m, PIXELS, TARGETS) for m in (model, plain))
    torch.testing.assert_close(direct, by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["vgg_small", "cam_net", "dropout_cnn", "residual"])
def test_deep_taylor_is_conserved_with_biases_too_and_positive(name: str) -> None:
    """Biases take no part in it; what a logit adds up from is shared out by its size."""
    model = network(name).eval()
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    last.weight.data.abs_()  # z+ has no way to share out what nothing speaks for
    last.bias.data.fill_(-1000)
    logits = model(PIXELS[:3]).gather(1, TARGETS[:3, None])[:, 0].detach()
    maps = explainer("deep_taylor")(model, PIXELS[:3], TARGETS[:3])
    assert (logits < 0).all() and (maps >= -1e-6 * maps.max()).all()
    if name != "vgg_small":  # a BatchNorm after a ReLU can leave a unit with nothing positive to share out
        torch.testing.assert_close(maps.sum((1, 2, 3)), -logits, rtol=1e-5, atol=0)
        gap = explainer("deep_taylor").completeness_gap(model, PIXELS[:3], TARGETS[:3], maps)
        assert gap is not None and (gap.abs() < 1e-5 * logits.abs()).all()


# The rewriting


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_rewritten_classifiers_are_the_same_function(name: str, channels: int) -> None:
    pixels, _ = images(3, channels)
    model = network(name, channels)
    expected = copy.deepcopy(model).eval()(pixels)
    for rewritten in (private(model), unrolled(model), separated(model), folded(model, pixels[:1])):
        torch.testing.assert_close(rewritten(pixels), expected, rtol=1e-9, atol=1e-9)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_every_module_is_called_once_and_nothing_works_in_place(name: str) -> None:
    graph = unrolled(network(name)).graph
    called = [node.target for node in graph.nodes if node.op == "call_module"]
    assert len(called) == len(set(called))
    modules = unrolled(network(name)).modules()
    assert not any(getattr(module, "inplace", False) for module in modules)


@pytest.mark.parametrize(("name", "activations"), [("resnet10", 9), ("residual", 3), ("functional", 2)])
def test_every_relu_is_a_module(name: str, activations: int) -> None:
    assert sum(isinstance(m, nn.ReLU) for m in unrolled(network(name)).modules()) == activations


@pytest.mark.parametrize("name", ["vgg_small", "lenet_avgpool", "dropout_cnn", "cam_net", "resnet10", "residual"])
def test_folding_leaves_no_affine_layer(name: str) -> None:
    left = [m for m in folded(network(name), PIXELS[:1]).modules() if isinstance(m, nn.BatchNorm2d | Normalize)]
    assert not left


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_folding_into_a_padded_convolution(groups: int, padding_mode: str) -> None:
    """A negative factor turns maximum pooling into minimum pooling; zero padding is not moved by the offset."""
    torch.manual_seed(4)
    norm = nn.BatchNorm2d(4)
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=groups, padding_mode=padding_mode)
    model = nn.Sequential(nn.ReLU(), norm, nn.MaxPool2d(2), conv, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 3))
    model = model.double().eval()
    norm.running_mean.normal_()
    norm.weight.data = torch.tensor([1.0, -2.0, 0.5, -0.1]).double()
    norm.bias.data.normal_()
    pixels = torch.randn(5, 4, 8, 8).double()
    rewritten = folded(model, pixels[:1])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in rewritten.modules())
    torch.testing.assert_close(rewritten(pixels), model(pixels), rtol=1e-9, atol=1e-12)


def test_a_batchnorm_that_no_linear_layer_takes_stays() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(392, 3))
    rewritten = folded(model.double(), PIXELS[:1])
    assert isinstance(rewritten, fx.GraphModule)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in rewritten.modules()) == 1
    torch.testing.assert_close(rewritten(PIXELS), model.eval()(PIXELS))
    assert explainer("lrp")(model, PIXELS, TARGETS).isfinite().all()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: nn.functional.softplus(x, 2.0), "calls the function 'softplus' with settings by position"),
        (lambda x: torch.add(x, x, alpha=2), "calls the function 'add'"),
        (lambda x: x.exp(), "calls the function 'exp'"),
        (lambda x: nn.functional.max_pool2d(x, 3, stride=2, ceil_mode=True), "pools overlapping windows"),
    ],
)
def test_what_cannot_be_rewritten_truly_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    class Model(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return function(images)

    with pytest.raises(InputError, match=message):
        separated(Model())


def test_a_leaky_relu_function_keeps_its_slope() -> None:
    class Leaky(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.leaky_relu(nn.functional.leaky_relu(images - images.mean((2, 3), True), 0.3))

    with pytest.raises(InputError, match="calls the function 'sub'"):
        unrolled(Leaky())

    class Plain(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.leaky_relu(nn.functional.leaky_relu(images, 0.3), negative_slope=0.2)

    torch.testing.assert_close(unrolled(Plain())(PIXELS - 0.5), Plain()(PIXELS - 0.5))
