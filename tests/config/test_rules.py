"""Networks of others: each layer has a rule that is right, or the method refuses the network by the layer's name."""

import copy

import pytest
import torch
from torch import Tensor, nn

from helpers import build
from networks import SIZE, explainer, images
from xmnist.metrics import similarity
from xmnist.models import layers
from xmnist.models.canonical import unrolled
from xmnist.models.folding import folded
from xmnist.models.interventions import rewritten
from xmnist.models.layers import Normalize
from xmnist.runtime.errors import InputError

PIXELS, TARGETS = images()
RULED = ("lrp", "deep_taylor", "deeplift", "deep_shap")


def around(*between: nn.Module, channels: int = 4) -> nn.Module:
    """A network with some layers between a convolution's ReLU and the logits."""
    torch.manual_seed(2)
    own = [copy.deepcopy(layer).float() for layer in between]
    start = nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), *own, nn.Flatten())
    return nn.Sequential(*start, nn.Linear(start(torch.rand(1, 1, SIZE, SIZE)).shape[1], 3)).double().eval()


@pytest.mark.parametrize("method", RULED)
@pytest.mark.parametrize(
    "layer",
    [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.LayerNorm([4, 14, 14]), nn.LPPool2d(2, 2), nn.LocalResponseNorm(2)],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_without_a_rule_is_refused_by_its_name(method: str, layer: nn.Module) -> None:
    model = around(layer)
    kind = type(layer).__name__
    with pytest.raises(InputError, match=rf"explainer {method}: it has no rule for layer 2, a {kind}; saliency, "):
        explainer(method)(model, PIXELS, TARGETS)
    assert explainer("saliency")(model, PIXELS, TARGETS).isfinite().all()


@pytest.mark.parametrize(
    ("method", "layer"),
    [
        *((method, nn.Softmax(1)) for method in RULED),
        *((method, nn.ConvTranspose2d(4, 4, 2)) for method in ("lrp", "deep_taylor")),
        *((method, nn.AdaptiveMaxPool2d(7)) for method in ("deeplift", "deep_shap")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_only_some_methods_have_a_rule_for(method: str, layer: nn.Module) -> None:
    model = around(layer) if not isinstance(layer, nn.Softmax) else nn.Sequential(*around(), layer).double()
    with pytest.raises(InputError, match=f"it has no rule for layer .*, a {type(layer).__name__};"):
        explainer(method)(model.double(), PIXELS, TARGETS)


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(4, 4, 2, bias=True), nn.Upsample(scale_factor=2)])
def test_deeplift_is_complete_through_linear_layers_of_any_kind(layer: nn.Module) -> None:
    model = around(layer, nn.ReLU()).double()
    maps = explainer("deeplift")(model, PIXELS, TARGETS)
    gap = explainer("deeplift").completeness_gap(model, PIXELS, TARGETS, maps)
    assert gap is not None and gap.abs().max() < 1e-9


@pytest.mark.parametrize("method", ["saliency", "lrp", "deeplift", "gradcam"])
def test_a_batchnorm_without_running_statistics_is_refused(method: str) -> None:
    model = around(nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(InputError, match="layer 2, a BatchNorm2d, has no running statistics"):
        explainer(method)(model, PIXELS, TARGETS)


def norm(channels: int, sign: int) -> nn.BatchNorm2d:
    out = nn.BatchNorm2d(channels)
    out.running_mean.normal_()  # type: ignore[union-attr]
    out.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    out.weight.data = sign * torch.linspace(-1, 2, channels)
    out.bias.data.normal_()
    return out


@pytest.mark.parametrize("method", ["lrp", "deep_taylor"])
def test_two_batchnorms_before_a_maximum_pooling_are_folded(method: str) -> None:
    torch.manual_seed(4)
    model = around(norm(4, 1), norm(4, -1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU())
    rewriting = folded(model, PIXELS[:1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in rewriting.modules())
    torch.testing.assert_close(rewriting(PIXELS), model(PIXELS), rtol=1e-9, atol=1e-12)
    one = nn.BatchNorm2d(4).double().eval()  # the same affine map as one layer
    first, second = model[2], model[3]
    factors = [each.weight / (each.running_var + each.eps).sqrt() for each in (first, second)]
    offsets = [each.bias - each.running_mean * f for each, f in zip((first, second), factors, strict=True)]
    one.running_var.fill_(1 - one.eps)  # type: ignore[union-attr]
    one.weight.data, one.bias.data = factors[0] * factors[1], offsets[0] * factors[1] + offsets[1]
    single = nn.Sequential(*model[:2], one, *model[4:])
    torch.testing.assert_close(single(PIXELS), model(PIXELS), rtol=1e-9, atol=1e-12)
    ours, expected = (explainer(method)(each, PIXELS, TARGETS) for each in (model, single))
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 * expected.abs().max().item())


class Optional(nn.Module):
    """A network whose forward pass takes more than images, if given."""

    def __init__(self) -> None:
        super().__init__()
        self.net = around()

    def forward(self, images: Tensor, scale: Tensor | None = None, *, twice: bool = False) -> Tensor:
        out = self.net(images if scale is None else images * scale)
        return 2 * out if twice else out


@pytest.mark.parametrize("method", ["lrp", "deep_taylor", "deeplift", "guided_backprop", "deconvolution", "cam"])
def test_optional_arguments_of_forward_keep_their_defaults(method: str) -> None:
    model = Optional()
    torch.testing.assert_close(unrolled(model)(PIXELS), model(PIXELS))
    if method != "cam":
        ours, expected = (explainer(method)(each, PIXELS, TARGETS) for each in (model, model.net))
        assert torch.equal(ours, expected)
    assert type(model) is Optional


class TwoBranches(nn.Module):
    """Two convolutions that look at the same normalised image."""

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.normalize = Normalize(1)
        self.normalize.fit(torch.tensor([0.3]), torch.tensor([0.25]))
        self.pool, self.relu = nn.AvgPool2d(1), nn.ReLU()
        self.one, self.two = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)
        self.out = nn.Linear(3 * 14 * 14, 3)
        if not normalised:  # the same function, with the normalisation in the weights
            for conv in (self.one, self.two):
                conv.bias.data -= (conv.weight.data * 0.3 / 0.25).sum((1, 2, 3))
                conv.weight.data /= 0.25
            self.normalize = nn.Identity()  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        seen = self.pool(self.normalize(images))
        return self.out(torch.flatten(self.relu(self.one(seen)) + self.relu(self.two(seen)), 1))


@pytest.mark.parametrize("method", ["lrp", "deep_taylor"])
def test_a_normalisation_with_two_users_is_part_of_both(method: str) -> None:
    model, plain = TwoBranches(True).double().eval(), TwoBranches(False).double().eval()
    torch.testing.assert_close(plain(PIXELS), model(PIXELS))
    ours, expected = (explainer(method)(each, PIXELS, TARGETS) for each in (model, plain))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())
    torch.manual_seed(1)
    swapped = copy.deepcopy(model)  # the branches exchanged: the same function, and neither of them is the first
    swapped.one, swapped.two = swapped.two, swapped.one
    torch.testing.assert_close(explainer(method)(swapped, PIXELS, TARGETS), ours, rtol=1e-6, atol=1e-9)


def test_a_normalisation_that_leads_elsewhere_is_refused() -> None:
    class Shortcut(TwoBranches):
        def forward(self, images: Tensor) -> Tensor:
            seen = self.normalize(images)
            return self.out(torch.flatten(self.relu(self.one(seen)), 1)) + torch.flatten(self.pool(seen), 1)[:, :3]

    with pytest.raises(InputError, match="no rule|normalisation leads to|calls the function"):
        explainer("lrp")(Shortcut(True).double().eval(), PIXELS, TARGETS)


@pytest.mark.parametrize("name", ["vgg_small", "lenet_avgpool"])
def test_a_rewritten_network_with_clamped_biases_is_the_same_function(name: str) -> None:
    torch.manual_seed(0)
    options = {"dropout": 0.2} | ({"nonpositive_bias": True} if name == "lenet_avgpool" else {})
    model = build(name, (1, 28, 28), 3, **options).double().eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.data.uniform_(-0.1, 0.1)
    pixels = torch.rand(4, 1, 28, 28).double()
    other = rewritten(model, (1, 28, 28), seed=0)
    torch.testing.assert_close(other(pixels), model(pixels), rtol=1e-9, atol=1e-9)
    maps, others = (explainer("saliency", size=28)(each, pixels, torch.tensor([0, 1, 2, 0])) for each in (model, other))
    assert similarity.relative_difference(maps, others).max() < 1e-6


def test_a_plain_copy_of_a_layer_is_torchs_own() -> None:
    model = build("lenet_avgpool", (1, 28, 28), 3, dropout=0.2, nonpositive_bias=True)
    conv = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    twin = layers.plain(conv)
    twin.bias.data.fill_(1.0)  # type: ignore[union-attr]
    assert type(twin) is nn.Conv2d and type(conv) is not nn.Conv2d
    assert (twin(torch.zeros(1, 1, 5, 5)) == 1).all() and not torch.equal(copy.deepcopy(conv).bias, twin.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["saliency", "lrp", "gradcam", "deeplift"])
def test_ties_in_maximum_pooling_are_broken_alike_in_any_batch(method: str) -> None:
    """Bright digits on black: whole windows have one value, but for the rounding of the convolution before."""
    torch.manual_seed(0)
    model = build("vgg_xml", (1, 28, 28), 3, dropout=0.5, width=8, batch_norm=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr]
            module.bias.data.uniform_(-0.1, 0.1)
    pixels = torch.zeros(12, 1, 28, 28)
    pixels[:, :, 8:20, 8:20] = torch.rand(12, 1, 12, 12).round()
    targets = torch.arange(12) % 3
    options = {"size": 28} | ({"baseline": "black"} if method == "deeplift" else {})
    maps = [explainer(method, batch_size=size, **options)(model, pixels, targets) for size in (1, 12, 11, 5)]
    for other in maps[1:]:
        assert ((maps[0] - other).abs().flatten(1).amax(1) < 1e-4 * other.abs().flatten(1).amax(1)).all()
