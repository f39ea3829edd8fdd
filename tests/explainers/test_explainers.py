"""What every explainer promises, and each method against an independent derivation."""

import copy
from itertools import combinations, product
from math import factorial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks import NETWORKS, OPTIONS, SIZE, Functional, explainer, images, network
from xmnist.explainers.base import summed
from xmnist.explainers.baselines import BASELINES, references
from xmnist.models import layers
from xmnist.runtime.errors import InputError

PIXELS, TARGETS = images()
APPLICABLE = [
    (name, method) for name, method in product(NETWORKS, OPTIONS) if method != "cam" or name in ("cam_net", "resnet10")
]


def state(model: nn.Module) -> tuple[object, ...]:
    """All that an explainer could leave changed."""
    return (
        {k: v.clone() for k, v in model.state_dict().items()},
        [(m.training, getattr(m, "inplace", None), len(vars(m)), sorted(vars(m))) for m in model.modules()],
        [len(h) for m in model.modules() for h in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)],
        [(p.requires_grad, p.grad, p.grad_fn) for p in model.parameters()],
    )


def assert_same_state(model: nn.Module, before: tuple[object, ...]) -> None:
    after = state(model)
    weights, old = after[0], before[0]
    assert isinstance(weights, dict) and isinstance(old, dict)
    assert weights.keys() == old.keys() and all(torch.equal(weights[k], old[k]) for k in old)
    assert after[1:] == before[1:]


@pytest.mark.parametrize(("name", "method"), APPLICABLE)
def test_maps_do_not_depend_on_batches_and_the_classifier_is_left_alone(name: str, method: str) -> None:
    model = network(name)
    before = state(model)
    sizes, pixels, targets = (64, 64, 7, 1), PIXELS.clone(), TARGETS
    random_state = torch.random.get_rng_state()
    maps = [explainer(method, batch_size)(model, pixels, targets) for batch_size in sizes]
    assert_same_state(model, before)
    assert torch.equal(random_state, torch.random.get_rng_state())
    assert torch.equal(pixels, PIXELS) and not pixels.requires_grad
    assert maps[0].shape == (len(PIXELS), 1, SIZE, SIZE) and not maps[0].requires_grad
    assert maps[0].abs().max() > 0 and torch.equal(maps[0], maps[1])
    alone = explainer(method)(model, pixels[1:2], targets[1:2])  # its neighbours do not matter
    maps[1] = torch.cat([maps[0][:1], alone, maps[0][2:]])
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0], rtol=1e-9, atol=1e-12 * maps[0].abs().max().item())


@pytest.mark.parametrize("method", OPTIONS)
def test_colour_images_give_one_map(method: str) -> None:
    pixels, targets = images(2, 3)
    model = network("cam_net", 3)
    maps = explainer(method, channels=3)(model, pixels, targets)
    assert maps.shape == (2, 3 if method == "activation_maximisation" else 1, SIZE, SIZE)


@pytest.mark.parametrize("method", OPTIONS)
def test_the_classifier_is_left_alone_after_an_exception(method: str) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, logits: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(2 * 196, 3)).double()
    model.append(Broken())
    before = state(model)
    if method in ("random", "sobel", "otsu"):
        explainer(method)(model, PIXELS, TARGETS)  # these never call the classifier
    else:
        with pytest.raises((RuntimeError, InputError)):
            explainer(method)(model, PIXELS, TARGETS)
    assert_same_state(model, before)


@pytest.mark.parametrize("method", ["random", "smoothgrad", "gradient_shap"])
def test_only_the_seed_changes_what_is_drawn(method: str) -> None:
    model, maps = network("cam_net"), []
    for seed in (0, 0, 1):
        np.random.seed(len(maps))  # captum draws from the global generators
        torch.manual_seed(len(maps))
        before = np.random.get_state()[1].tolist()  # type: ignore[index, union-attr]
        maps.append(explainer(method, seed=seed)(model, PIXELS, TARGETS))
        assert np.random.get_state()[1].tolist() == before  # type: ignore[index, union-attr]
    assert torch.equal(maps[0], maps[1]) and not torch.allclose(maps[0], maps[2])


# Gradients


class Linear(nn.Sequential):
    """f(x) = W x + b"""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(SIZE**2, 3))
        self.double()

    def row(self, targets: Tensor) -> Tensor:
        weight = self[1].weight
        assert isinstance(weight, Tensor)
        return weight.detach()[targets].view(-1, 1, SIZE, SIZE)


def gradient(model: nn.Module, pixels: Tensor, targets: Tensor) -> Tensor:
    pixels = pixels.clone().requires_grad_()
    return torch.autograd.grad(model(pixels).gather(1, targets[:, None]).sum(), pixels)[0]


@pytest.mark.parametrize(
    ("method", "of"),
    [
        ("sensitivity", lambda g: g**2),
        ("saliency", lambda g: g.abs()),
        ("input_x_gradient", lambda g: g * PIXELS),
        ("smoothgrad", lambda g: g),
    ],
)
@pytest.mark.parametrize("name", ["vgg_small", "residual", "functional"])
def test_simple_gradients(method: str, of: object, name: str) -> None:
    model = network(name).eval()
    options = {"noise": 0.0} if method == "smoothgrad" else {}
    expected = of(gradient(model, PIXELS, TARGETS))  # type: ignore[operator]
    torch.testing.assert_close(explainer(method, **options)(model, PIXELS, TARGETS), expected, rtol=1e-9, atol=1e-14)


def test_noise_makes_smoothgrad_another_map() -> None:
    model = network("functional")
    assert not torch.allclose(
        explainer("smoothgrad", noise=0.5)(model, PIXELS, TARGETS), gradient(model.eval(), PIXELS, TARGETS)
    )


@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_are_exact_on_a_linear_model(baseline: str) -> None:
    model, method = Linear(), explainer("integrated_gradients", baseline=baseline, steps=1)
    start = references(baseline, PIXELS, method.train, 0)[0]
    expected = (PIXELS - start) * model.row(TARGETS)
    torch.testing.assert_close(method(model, PIXELS, TARGETS), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("baseline", BASELINES)
def test_integrated_gradients_are_complete(baseline: str) -> None:
    """On a smooth network, where the quadrature converges fast."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 196, 3)).double()
    method = explainer("integrated_gradients", baseline=baseline, steps=30)
    maps = method(model, PIXELS, TARGETS)
    start = references(baseline, PIXELS, method.train, 0)[0].expand_as(PIXELS)
    change = (model(PIXELS) - model(start)).gather(1, TARGETS[:, None])[:, 0].detach()
    torch.testing.assert_close(maps.sum((1, 2, 3)), change, rtol=1e-8, atol=1e-10)
    gap = method.completeness_gap(model, PIXELS, TARGETS, maps)
    assert gap is not None and gap.shape == (9,) and gap.abs().max() < 1e-8
    wrong = method.completeness_gap(model, PIXELS, TARGETS, maps + 1 / SIZE**2)
    torch.testing.assert_close(wrong, torch.ones(9).double(), atol=1e-8, rtol=0)


@pytest.mark.parametrize("baseline", ["black", "random", "blur"])
@pytest.mark.parametrize("name", NETWORKS)
def test_deeplift_sums_to_the_difference(name: str, baseline: str) -> None:
    """Also where nonlinear layers are neighbours, are used twice, and where pooling windows overlap."""
    model, method = network(name).eval(), explainer("deeplift", baseline=baseline)
    start = references(baseline, PIXELS, method.train, 0)[0].expand_as(PIXELS)
    change = (model(PIXELS) - model(start)).gather(1, TARGETS[:, None])[:, 0].detach()
    maps = method(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), change, rtol=1e-9, atol=1e-9)


def test_deeplift_follows_the_rescale_rule() -> None:
    """One hidden layer: contribution = (x - x0) sum_j w_ij (relu(z_j) - relu(z0_j)) / (z_j - z0_j) v_j."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIZE**2, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    w, v = model[1].weight.detach(), model[3].weight.detach()
    x = PIXELS.flatten(1)
    z, z0 = model[1](x).detach(), model[1].bias.detach().expand(9, 5)
    slope = (z.relu() - z0.relu()) / (z - z0)
    expected = x * ((slope * v[TARGETS]) @ w)
    maps = explainer("deeplift", baseline="black")(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps.flatten(1), expected, rtol=1e-9, atol=1e-14)


def test_deep_shap_gives_the_exact_shapley_values_of_an_additive_network() -> None:
    """Four pixels, each of which adds a nonlinear function of its own; enumerated over coalitions and backgrounds."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(1, 5, 1), nn.ReLU(), nn.Flatten(), nn.Linear(20, 2)).double()
    train, pixels = torch.rand(6, 1, 2, 2).double(), torch.rand(3, 1, 2, 2).double()
    targets = torch.tensor([0, 1, 1])
    maps = explainer("deep_shap", train=train, background_size=4)(model, pixels, targets)
    background = references("train", pixels, train, 0, 4)[:, 0]
    expected = torch.zeros(3, 4).double()
    for n, image in enumerate(pixels.flatten(1)):

        def value(coalition: set[int], image: Tensor = image, target: int = int(targets[n])) -> Tensor:
            known = torch.tensor([i in coalition for i in range(4)])
            mixed = torch.where(known, image, background.flatten(1))
            return model(mixed.view(-1, 1, 2, 2))[:, target].mean().detach()

        for i in range(4):
            others = [j for j in range(4) if j != i]
            for size in range(4):
                for chosen in map(set, combinations(others, size)):
                    share = factorial(size) * factorial(3 - size) / factorial(4)
                    expected[n, i] += share * (value(chosen | {i}) - value(chosen))
    torch.testing.assert_close(maps.flatten(1), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("background", ["train", "black", "blur", "mean"])
@pytest.mark.parametrize("name", ["vgg_small", "residual"])
def test_deep_shap_adds_up_to_the_difference_from_the_background(name: str, background: str) -> None:
    model, method = network(name), explainer("deep_shap", background=background)
    gap = method.completeness_gap(model, PIXELS, TARGETS, method(model, PIXELS, TARGETS))
    assert gap is not None and gap.abs().max() < 1e-9


def test_gradient_shap_on_a_linear_model() -> None:
    """One background image: every sample gives (x - x0) w."""
    model, method = Linear(), explainer("gradient_shap", background_size=1)
    start = references("train", PIXELS, method.train, 0, 1)[0]
    expected = (PIXELS - start) * model.row(TARGETS)
    torch.testing.assert_close(method(model, PIXELS, TARGETS), expected, rtol=1e-9, atol=1e-14)


def test_gradient_shap_comes_closer_to_completeness_with_more_samples() -> None:
    model, gaps = network("cam_net"), []
    for samples in (2, 400):
        method = explainer("gradient_shap", samples=samples)
        gap = method.completeness_gap(model, PIXELS, TARGETS, method(model, PIXELS, TARGETS))
        assert gap is not None
        gaps.append(gap.square().mean())
    assert gaps[1] < 0.1 * gaps[0]


def relu_rules(model: nn.Sequential, pixels: Tensor, targets: Tensor, rule: str) -> Tensor:
    """Guided backpropagation or deconvolution of a chain conv, ReLU, conv, ReLU, flatten, linear, by hand."""
    first, second, last = model[0], model[2], model[5]
    z1 = first(pixels)
    z2 = second(z1.relu())
    back = last.weight[targets].view_as(z2)
    for z, conv in ((z2, second), (z1, first)):
        passed = back.relu() if rule == "deconvolution" else back.relu() * (z > 0)
        back = F.conv_transpose2d(passed, conv.weight)
    return back.detach()


@pytest.mark.parametrize("rule", ["guided_backprop", "deconvolution"])
def test_relu_rules_by_their_definition(rule: str) -> None:
    functional = network("functional").eval()
    assert isinstance(functional, Functional)
    chain = nn.Sequential(
        *(functional.conv1, nn.ReLU(inplace=True), functional.conv2, nn.ReLU(inplace=True)),
        *(nn.Flatten(), functional.out),
    )
    expected = relu_rules(chain, PIXELS, TARGETS, rule)
    for model in (chain, functional):  # also where ReLU is a function, which the libraries' hooks do not see
        maps = explainer(rule)(model, PIXELS, TARGETS)
        torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-14)
    assert not torch.allclose(expected, gradient(functional, PIXELS, TARGETS))


def test_occlusion_is_the_fall_of_the_logit() -> None:
    model = Linear()
    whole = explainer("occlusion", window=SIZE, stride=1, baseline="black")(model, PIXELS, TARGETS)
    fall = (PIXELS * model.row(TARGETS)).sum((1, 2, 3)).view(-1, 1, 1, 1)
    torch.testing.assert_close(whole, fall.expand_as(PIXELS), rtol=1e-6, atol=1e-7)
    each = explainer("occlusion", window=1, stride=1, baseline="black")(model, PIXELS, TARGETS)
    torch.testing.assert_close(each, PIXELS * model.row(TARGETS), rtol=1e-6, atol=1e-7)


# Class activation maps


def test_cam_weighs_the_features() -> None:
    model = network("cam_net").eval()
    features = layers.Encoder(model, "features")(PIXELS)
    weights = model.get_submodule("logits").weight
    expected = torch.einsum("nkhw,nk->nhw", features, weights[TARGETS])[:, None]
    expected = F.interpolate(expected, (SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explainer("cam")(model, PIXELS, TARGETS), expected.detach(), rtol=1e-9, atol=1e-14)


def test_gradcam_is_cam_over_the_number_of_places() -> None:
    model = network("cam_net").eval()
    model.get_submodule("logits").weight.data.abs_()  # else Grad-CAM cuts off what CAM keeps
    cam = explainer("cam")(model, PIXELS, TARGETS)
    gradcam = explainer("gradcam", layer="features")(model, PIXELS, TARGETS)
    torch.testing.assert_close(gradcam * (SIZE // 4) ** 2, cam, rtol=1e-9, atol=1e-14)


def test_gradcam_takes_the_last_convolution_or_the_named_layer() -> None:
    model = network("vgg_small")
    maps = {layer: explainer("gradcam", layer=layer)(model, PIXELS, TARGETS) for layer in (None, "conv.0", "stem")}
    assert torch.equal(maps[None], maps["conv.0"]) and not torch.allclose(maps[None], maps["stem"])
    assert maps[None].min() >= 0


def test_guided_gradcam_is_the_product() -> None:
    model = network("residual")
    parts = [explainer(method)(model, PIXELS, TARGETS) for method in ("gradcam", "guided_backprop", "guided_gradcam")]
    torch.testing.assert_close(parts[2], parts[0] * parts[1])


@pytest.mark.parametrize(
    ("method", "name", "options", "message"),
    [
        ("cam", "vgg_small", {}, "explainer cam: it needs a classifier that ends in global average pooling"),
        ("cam", "functional", {}, "explainer cam: it needs"),
        ("gradcam", "vgg_small", {"layer": "dense"}, "explainer gradcam: layer dense has no feature maps"),
        ("gradcam", "vgg_small", {"layer": "cnov"}, "explainer gradcam: no layer 'cnov'; did you mean 'conv'"),
        ("guided_gradcam", "vgg_small", {"layer": "x"}, "explainer guided_gradcam: no layer 'x'"),
    ],
)
def test_what_a_classifier_does_not_allow_is_said(
    method: str, name: str, options: dict[str, str], message: str
) -> None:
    for call in (lambda e, m: e(m, PIXELS, TARGETS), lambda e, m: e.check(m, PIXELS[:1])):
        with pytest.raises(InputError, match=message):
            call(explainer(method, **options), network(name))


class Clamped(Functional):
    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.conv2(self.conv1(images).clamp(min=0)).flatten(1))


class Dynamic(Functional):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution", "deeplift", "deep_shap", "lrp", "deep_taylor"])
@pytest.mark.parametrize(
    ("kind", "message"), [(Clamped, "calls the function 'clamp'"), (Dynamic, "forward pass cannot be traced")]
)
def test_what_would_silently_be_another_method_is_refused(method: str, kind: type[nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=f"explainer {method}: .*{message}"):
        explainer(method)(kind().double(), PIXELS, TARGETS)
    assert explainer("saliency")(kind().double(), PIXELS, TARGETS).isfinite().all()  # others need no rules


def activated(kind: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), kind(), nn.Flatten(), nn.Linear(3 * 196, 3)).double()


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution", "guided_gradcam", "deeplift", "deep_shap"])
@pytest.mark.parametrize("kind", [nn.GELU, nn.SiLU, nn.ReLU6, nn.Hardtanh])
def test_activations_without_a_rule_are_refused(method: str, kind: type[nn.Module]) -> None:
    with pytest.raises(InputError, match=f"explainer {method}: it has no rule for layer 1, a {kind.__name__}"):
        explainer(method)(activated(kind), PIXELS, TARGETS)


@pytest.mark.parametrize("kind", [nn.ELU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.LeakyReLU])
def test_deeplift_sums_to_the_difference_for_every_activation_that_it_takes(kind: type[nn.Module]) -> None:
    method, model = explainer("deeplift", baseline="black"), activated(kind)
    gap = method.completeness_gap(model, PIXELS, TARGETS, method(model, PIXELS, TARGETS))
    assert gap is not None and gap.abs().max() < 1e-9


def test_guided_methods_cut_off_what_comes_back_through_a_leaky_relu() -> None:
    model = activated(nn.LeakyReLU)
    conv, last = model.get_submodule("0"), model.get_submodule("3")
    back = last.weight[TARGETS].view(9, 3, 14, 14)  # type: ignore[union-attr, index, operator]
    slope = torch.where(conv(PIXELS) > 0, 1.0, 0.01).double().round(decimals=2)
    for method, passed in (("guided_backprop", (back * slope).relu()), ("deconvolution", back.relu())):
        expected = F.conv_transpose2d(passed, conv.weight).detach()  # type: ignore[arg-type]
        torch.testing.assert_close(explainer(method)(model, PIXELS, TARGETS), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "deep_shap", "gradient_shap"])
def test_maps_of_shifted_images_have_no_completeness_gap(method: str) -> None:
    maps = torch.zeros(9, 1, SIZE, SIZE)
    assert explainer(method, translations=1).completeness_gap(Linear(), PIXELS, TARGETS, maps) is None


def test_deep_shap_is_the_mean_of_deeplift_over_the_background() -> None:
    model, method = network("vgg_small"), explainer("deep_shap", background_size=4)
    background = references("train", PIXELS, method.train, 0, 4)[:, 0]
    each = [explainer("deeplift", baseline="mean", train=image[None])(model, PIXELS, TARGETS) for image in background]
    torch.testing.assert_close(method(model, PIXELS, TARGETS), torch.stack(each).mean(0), rtol=1e-8, atol=1e-12)


def test_settings_that_do_not_fit_are_refused() -> None:
    message = "explainer occlusion: stride 6 is more than window 5: pixels would be left out"
    with pytest.raises(InputError, match=message):
        explainer("occlusion", stride=6, window=5)(network("cam_net"), PIXELS, TARGETS)


def test_a_background_of_more_images_than_there_are_is_all_of_them(caplog: pytest.LogCaptureFixture) -> None:
    maps = [explainer("deep_shap", background_size=size)(network("cam_net"), PIXELS, TARGETS) for size in (98, 8)]
    assert torch.equal(*maps)
    assert "a background of 98 images was asked for: it is all 8 that there are to train on" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "where"),
    [
        (lambda model: model.get_submodule("conv.2").running_var.fill_(-1), "the first layer to answer so is conv.2"),
        (lambda model: None, "every layer's answer is finite"),
    ],
)
def test_a_map_that_is_not_finite_names_explainer_image_and_layer(spoil: object, where: str) -> None:
    model, pixels = network("vgg_small"), PIXELS.clone()
    spoil(model)  # type: ignore[operator]
    method = explainer("saliency")
    if where.startswith("every"):

        class Root(nn.Module):
            def forward(self, logits: Tensor) -> Tensor:
                return (logits - logits.detach()).sqrt()  # 0, with an infinite slope

        model = nn.Sequential(model, Root())
    with pytest.raises(InputError, match=f"explainer saliency: NaN or Inf in the answer for image 1 of 9; {where}"):
        method(model, pixels, TARGETS)


# Controls and prototypes


def test_random_maps_are_noise_that_differs_from_image_to_image() -> None:
    maps = explainer("random")(network("cam_net"), PIXELS, TARGETS)
    assert maps.min() >= 0 and maps.max() < 1 and abs(maps.mean() - 0.5) < 0.02
    assert abs(torch.corrcoef(maps.flatten(1))[0, 1]) < 0.2


def test_sobel_finds_edges() -> None:
    pixels = torch.zeros(1, 1, SIZE, SIZE).double()
    pixels[..., 8:] = 1
    (edges,) = explainer("sobel")(network("cam_net"), pixels, TARGETS[:1])[0]
    assert (edges[:, [7, 8]] == 0.5).all() and edges.sum() == SIZE
    ramp = torch.arange(SIZE).double().expand(1, 1, SIZE, SIZE) / SIZE
    inner = explainer("sobel")(network("cam_net"), ramp, TARGETS[:1])[..., 1:-1]
    torch.testing.assert_close(inner, torch.full_like(inner, 1 / SIZE))


def test_otsu_parts_two_populations() -> None:
    pixels = 0.3 + 0.02 * torch.randn(2, 1, SIZE, SIZE).double()
    pixels[0, :, :5] += 0.4
    pixels[1, :, 3:] += 0.2
    maps = explainer("otsu")(network("cam_net"), pixels, TARGETS[:2])
    assert torch.equal(maps[0, 0, :, 0] == 1, torch.arange(SIZE) < 5)
    assert torch.equal(maps[1, 0, :, 0] == 1, torch.arange(SIZE) >= 3)


def test_prototypes_look_more_like_their_class_than_what_they_start_from() -> None:
    model = network("vgg_small").eval()
    made = explainer("activation_maximisation", steps=60)(model, PIXELS, TARGETS)
    assert made.min() >= 0 and made.max() <= 1
    assert torch.equal(made[0], made[3]) and not torch.allclose(made[0], made[1])

    def evidence(pixels: Tensor) -> Tensor:
        return model(pixels).log_softmax(1).gather(1, TARGETS[:, None]).detach()

    start = references("mean", PIXELS, explainer("deeplift").train, 0)[0].expand_as(made)
    assert (evidence(made) > evidence(start)).all()
    held = explainer("activation_maximisation", steps=60, decay=10.0)(model, PIXELS, TARGETS)
    assert (held - start).square().sum() < 0.1 * (made - start).square().sum()


# Baselines and averaging over shifts


def test_baselines_are_what_their_names_say() -> None:
    train = explainer("deeplift").train
    made = {name: references(name, PIXELS, train, 0)[0] for name in BASELINES}
    assert (made["black"] == 0).all() and (made["white"] == 1).all() and (made["gray"] == 0.5).all()
    torch.testing.assert_close(made["mean"][0], train.mean(0))
    assert made["blur"].shape == PIXELS.shape and made["blur"].std() < 0.3 * PIXELS.std()
    torch.testing.assert_close(made["blur"].mean(), PIXELS.mean(), rtol=0.02, atol=0)
    assert all(made[name].shape == (1, 1, SIZE, SIZE) for name in BASELINES if name != "blur")
    assert not torch.equal(made["random"], references("random", PIXELS, train, 1)[0])


def test_backgrounds_are_drawn_from_the_training_images_by_seed() -> None:
    train = explainer("deeplift").train
    first, again, other = (references("train", PIXELS, train, seed, 5)[:, 0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    rows = [int((train == image).flatten(1).all(1).nonzero()) for image in first]
    assert len(set(rows)) == 5


@pytest.mark.parametrize("method", ["input_x_gradient", "smoothgrad"])
def test_translations_average_over_shifts_and_shift_back(method: str) -> None:
    """Pixel by pixel: the mean over the shifts in which it stays in the image."""
    model, d = network("dropout_cnn"), 1
    pixels = PIXELS[:2]
    padded = F.pad(pixels, (d, d, d, d), mode="replicate")
    total, seen = torch.zeros(2, SIZE, SIZE).double(), torch.zeros(SIZE, SIZE)
    single = explainer(method)
    for dy, dx in product((-1, 0, 1), repeat=2):
        shifted = padded[:, :, d + dy : d + dy + SIZE, d + dx : d + dx + SIZE]
        own = single(model, shifted.clone(), TARGETS[:2])[:, 0]
        for y, x in product(range(SIZE), repeat=2):
            if 0 <= y - dy < SIZE and 0 <= x - dx < SIZE:
                total[:, y, x] += own[:, y - dy, x - dx]
                seen[y, x] += 1
    maps = explainer(method, translations=d)(model, pixels, TARGETS[:2])
    torch.testing.assert_close(maps[:, 0], total / seen, rtol=1e-9, atol=1e-14)


def test_summed_keeps_the_sum() -> None:
    maps = torch.rand(2, 3, 4, 4)
    assert summed(maps).shape == (2, 1, 4, 4)
    torch.testing.assert_close(summed(maps).sum((1, 2, 3)), maps.sum((1, 2, 3)))


def test_a_classifier_in_training_mode_is_explained_in_eval_mode() -> None:
    model = network("dropout_cnn")
    assert model.training
    maps = explainer("saliency")(model, PIXELS, TARGETS)
    torch.testing.assert_close(maps, explainer("saliency")(copy.deepcopy(model).eval(), PIXELS, TARGETS))
