import pytest
import torch
from torch import nn

from helpers import size_of
from xmnist.models.layers import (
    Dropout,
    Encoder,
    Normalize,
    ThinConvTranspose2d,
    batched,
    fit_normalisation,
    freeze,
    initialise,
    quick_gradient,
)
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed


def net() -> nn.Sequential:
    torch.manual_seed(1)
    model = nn.Sequential()
    model.add_module("first", nn.Sequential(nn.Linear(4, 6), nn.ReLU()))
    model.add_module("second", nn.Linear(6, 3))
    return model.double()


def test_normalize_standardises_each_channel() -> None:
    images = torch.rand(50, 3, 8, 8, dtype=torch.float64) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    layer = Normalize(3).double()
    fit_normalisation(layer, images)
    out = layer(images)
    torch.testing.assert_close(out.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
    torch.testing.assert_close(out.std((0, 2, 3)), torch.ones(3, dtype=torch.float64))


def test_normalize_survives_a_constant_channel() -> None:
    layer = Normalize(1)
    fit_normalisation(layer, torch.zeros(5, 1, 4, 4))
    assert layer(torch.zeros(5, 1, 4, 4)).isfinite().all()


@pytest.mark.parametrize("layer", ["first", "first.0", "second"])
def test_encoder_gives_the_named_layers_output(layer: str) -> None:
    model, x = net(), torch.randn(5, 4, dtype=torch.float64)
    wanted = {"first.0": model[0][0](x), "first": model[0](x), "second": model(x)}[layer]
    assert torch.equal(Encoder(model, layer)(x), wanted)


def test_encoder_does_not_run_what_comes_after_its_layer() -> None:
    model = net()
    model.add_module("trap", nn.Linear(99, 1))
    assert Encoder(model, "first")(torch.randn(2, 4, dtype=torch.float64)).shape == (2, 6)


def test_encoder_passes_gradients() -> None:
    model, x = net(), torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    Encoder(model, "first")(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_encoder_leaves_no_hook_behind_even_after_an_error() -> None:
    model = net()
    encoder = Encoder(model, "second")
    with pytest.raises(RuntimeError):
        encoder(torch.randn(5, 7, dtype=torch.float64))
    encoder(torch.randn(5, 4, dtype=torch.float64))
    assert not any(module._forward_hooks for module in model.modules())


def test_encoder_names_the_layers_there_are() -> None:
    with pytest.raises(InputError, match=r"did you mean .second.*first, first\.0, first\.1, second"):
        Encoder(net(), "secnd")


def test_batched_equals_one_call_and_keeps_no_graph() -> None:
    model, x = net(), torch.randn(23, 4, dtype=torch.float64)
    out = batched(model, x, batch_size=5)
    torch.testing.assert_close(out, model(x))
    assert not out.requires_grad


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_batched_keeps_the_layout_and_the_place_of_each_row(layout: torch.memory_format) -> None:
    rows = torch.rand(7, 3, 4, 4).contiguous(memory_format=layout)
    found = batched(lambda part: 2 * part, rows, batch_size=3)
    assert torch.equal(found, 2 * rows) and found.is_contiguous(memory_format=layout)


def test_dropout_keeps_its_share_and_the_mean() -> None:
    layer, ones = Dropout(0.3), torch.ones(200_000)
    kept = layer(ones)
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (kept > 0).double().mean().item() == pytest.approx(0.7, abs=0.005)  # five standard deviations
    assert not torch.equal(layer(ones), kept)
    assert layer(ones.bfloat16()).dtype == torch.bfloat16
    assert layer.eval()(ones) is ones and Dropout(0.0)(ones) is ones


def test_dropout_passes_gradients_where_it_keeps() -> None:
    ones = torch.ones(50, requires_grad=True)
    kept = Dropout(0.5)(ones)
    kept.sum().backward()
    assert ones.grad is not None and torch.equal(ones.grad, kept.detach())


SHAPES = [(3, 3, 0, 1), (4, 2, 1, 0), (5, 2, 1, 1)]


@pytest.mark.parametrize(("kernel", "stride", "padding", "more"), SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_thin_transposed_convolution_is_a_transposed_convolution(
    kernel: int, stride: int, padding: int, more: int, channels: int
) -> None:
    thin = ThinConvTranspose2d(6, channels, kernel, stride, padding, more).double()
    whole = nn.ConvTranspose2d(6, channels, kernel, stride, padding, more).double()
    whole.load_state_dict(thin.state_dict())
    grads = []
    codes = torch.rand(4, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    for layer in (thin, whole):
        image = layer(codes)
        grads.append([image, *torch.autograd.grad(image.sin().sum(), [codes, *layer.parameters()])])
    for own, reference in zip(*grads, strict=True):
        torch.testing.assert_close(own, reference)


def test_initialise_draws_glorot_weights_and_zero_biases() -> None:
    layer = nn.Linear(300, 500)
    initialise(layer)
    limit = (6 / 800) ** 0.5
    assert layer.bias.abs().max() == 0
    assert layer.weight.abs().max() <= limit and layer.weight.abs().max() > 0.98 * limit
    assert layer.weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.02)


def test_freeze_stops_gradients_and_batch_statistics() -> None:
    model = freeze(nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    model(torch.randn(8, 4))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert not any(p.requires_grad for p in model.parameters())


def test_size_counts_parameters_and_running_statistics() -> None:
    assert size_of(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))) == 20 + 4 + 4


def test_derived_seeds_differ_by_seed_and_purpose() -> None:
    seeds = {derive_seed(seed, purpose) for seed in range(20) for purpose in ("epoch 1", "epoch 11", "1 epoch 1")}
    assert len(seeds) == 60 and all(0 <= s < 2**63 for s in seeds)


def test_a_quick_gradient_is_the_gradient() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double()
    images = torch.rand(5, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    model(images)  # statistics of its own
    nn.init.normal_(model[1].weight)
    freeze(model)
    slow = model(images)
    (expected,) = torch.autograd.grad(slow.square().sum(), images)
    quick = quick_gradient(model)(images)
    (found,) = torch.autograd.grad(quick.square().sum(), images)
    assert torch.equal(slow, quick) and type(model[1]).__name__ == "FrozenBatchNorm2d"
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert expected.abs().max() > 1e-3
