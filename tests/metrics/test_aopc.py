"""AOPC: against a brute force that does one thing at a time, its identities, and Quantus where definitions agree."""

import importlib.util
import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from xmnist.config.declarations import METRICS
from xmnist.metrics import aopc
from xmnist.models.layers import blurred


def network(channels: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 5, classes)
    return nn.Sequential(*layers).double().requires_grad_(False)


def some(count: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images of 8x7 pixels, maps and targets."""
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(count, channels, 8, 7, generator=generator, dtype=torch.float64)
    return images, torch.randn(count, 1, 8, 7, generator=generator), torch.arange(count) % 3


def measured(
    model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, patch: int, fill: str, **o: int
) -> Tensor:
    order = aopc.patch_order(maps, patch, seed=0)
    covering = aopc.filling(fill, images, seed=0)
    return aopc.curves(lambda covered, _: model(covered), images, targets, order, patch, covering, **o)


def by_hand(model: nn.Module, image: Tensor, map: Tensor, target: int, patch: int, fill: Tensor) -> list[float]:
    """f(x_k) of one image, one patch after the other, one forward at a time."""
    height, width = map.shape[1:]
    corners = [(y, x) for y in range(0, height, patch) for x in range(0, width, patch)]

    def score(corner: tuple[int, int]) -> float:
        y, x = corner
        inside = [
            map[0, i, j].item() for i in range(y, min(y + patch, height)) for j in range(x, min(x + patch, width))
        ]
        return sum(inside) / len(inside)

    def probability(pixels: Tensor) -> float:
        logits = model(pixels[None])[0].tolist()
        exponentials = [math.exp(value) for value in logits]
        return exponentials[target] / sum(exponentials)

    covered, found = image.clone(), [probability(image)]
    for y, x in sorted(corners, key=score, reverse=True):
        for c, i, j in itertools.product(range(len(image)), range(y, y + patch), range(x, x + patch)):
            if i < height and j < width:
                covered[c, i, j] = fill[c, i, j]
        found.append(probability(covered))
    return found


FILLS = {
    "black": lambda image: torch.zeros_like(image),
    "white": lambda image: torch.ones_like(image),
    "gray": lambda image: torch.full_like(image, 0.5),
    "mean": lambda image: torch.stack([torch.full_like(channel, channel.mean().item()) for channel in image]),
    "gaussian_blur": lambda image: blurred(image[None])[0],
}


@pytest.mark.parametrize("patch", [1, 3, 8])  # 3 and 8 do not divide 8x7
@pytest.mark.parametrize("fill", sorted(aopc.FILLS))
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_agree_with_one_image_one_patch_one_forward_at_a_time(channels: int, fill: str, patch: int) -> None:
    model, (images, maps, targets) = network(channels), some(4, channels)
    drawn = aopc.filling("uniform", images, seed=0)
    for sign in (1, -1):  # most and least relevant first
        found = measured(model, images, sign * maps, targets, patch, fill, batch_size=7)
        assert found.shape == (4, 1 + math.ceil(8 / patch) * math.ceil(7 / patch))
        for n in range(4):
            covering = drawn[n] if fill == "uniform" else FILLS[fill](images[n])
            expected = by_hand(model, images[n], sign * maps[n], int(targets[n]), patch, covering)
            torch.testing.assert_close(found[n], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
            for steps in range(len(expected)):
                mean = sum(expected[0] - value for value in expected[: steps + 1]) / (steps + 1)
                assert aopc.aopc(found)[n, steps].item() == pytest.approx(mean, abs=1e-10)


def test_the_uniform_fill_has_a_value_of_its_own_for_each_pixel_by_seed() -> None:
    images, *_ = some(3, 3)
    drawn = aopc.filling("uniform", images, seed=0)
    assert drawn.shape == images.shape and drawn.min() >= 0 and drawn.max() < 1
    assert len(drawn.unique()) == drawn.numel()
    assert torch.equal(drawn, aopc.filling("uniform", images, 0)) and not torch.equal(
        drawn, aopc.filling("uniform", images, 1)
    )


def test_what_the_config_allows_is_what_there_is() -> None:
    rule = METRICS["aopc"].keys["fill"].rule
    assert all(rule.convert(fill) == fill for fill in aopc.FILLS)
    assert rule.text.startswith("one of ") and len(rule.text.split(", or")[0].split(", ")) == len(aopc.FILLS)


@pytest.mark.parametrize("batch_size", [1, 13, 10_000])
def test_the_size_of_the_batches_changes_nothing(batch_size: int) -> None:
    model, (images, maps, targets) = network(1), some(5, 1)
    one = measured(model, images, maps, targets, 2, "uniform")
    torch.testing.assert_close(measured(model, images, maps, targets, 2, "uniform", batch_size=batch_size), one)


def test_never_more_images_at_a_time_than_asked_for() -> None:
    model, (images, maps, targets), seen = network(1), some(5, 1), list[int]()

    def predict(covered: Tensor, rows: Tensor) -> Tensor:
        seen.append(len(covered))
        assert len(rows) == len(covered)
        return model(covered)

    order = aopc.patch_order(maps, 2, 0)
    aopc.curves(predict, images, targets, order, 2, torch.zeros(1, 1, 1, 1), batch_size=9)
    assert max(seen) == 9 and sum(seen) == 5 * 17


def test_no_steps_no_area() -> None:
    model, (images, maps, targets) = network(1), some(3, 1)
    found = measured(model, images, maps, targets, 2, "black", steps=0)
    assert found.shape == (3, 1) and not aopc.aopc(found).any()


def test_more_steps_than_patches_are_all_patches() -> None:
    model, (images, maps, targets) = network(1), some(3, 1)
    every = measured(model, images, maps, targets, 3, "black")
    torch.testing.assert_close(measured(model, images, maps, targets, 3, "black", steps=100), every)
    torch.testing.assert_close(measured(model, images, maps, targets, 3, "black", steps=4), every[:, :5])


def test_more_patches_than_a_short_number_can_count() -> None:
    images = torch.rand(1, 1, 182, 182)
    order = aopc.patch_order(torch.rand(1, 1, 182, 182), 1, 0)
    seen: list[Tensor] = []
    predict = lambda made, _: seen.append(made) or torch.zeros(len(made), 2)  # noqa: E731
    aopc.curves(predict, images, torch.zeros(1, dtype=torch.long), order, 1, torch.full((1, 1, 1, 1), 2.0), 2)
    assert [(made == 2).sum().item() for made in seen[0]] == [0, 1, 2]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_network_that_answers_nothing_finite_has_no_curve(value: float) -> None:
    images = torch.rand(2, 1, 4, 4)
    order = aopc.patch_order(torch.rand(2, 1, 4, 4), 2, 0)
    with pytest.raises(ValueError, match="NaN or Inf"):
        aopc.curves(lambda made, _: torch.full((len(made), 2), value), images, torch.zeros(2).long(), order, 2, images)


def test_a_constant_classifier_has_no_area() -> None:
    images, maps, targets = some(3, 1)
    order = aopc.patch_order(maps, 2, 0)
    found = aopc.curves(lambda x, _: x.new_ones(len(x), 3), images, targets, order, 2, torch.zeros(1, 1, 1, 1))
    assert not aopc.aopc(found).any()


def test_the_size_of_a_map_does_not_matter() -> None:
    _, maps, _ = some(6, 1)
    one = aopc.patch_order(maps, 3, 0)
    assert torch.equal(aopc.patch_order(0.01 * maps, 3, 0), one)
    assert torch.equal(aopc.patch_order(4 * maps + 2, 3, 0), one)
    pixels = aopc.patch_order(maps, 1, 0)
    assert torch.equal(aopc.patch_order(maps.exp(), 1, 0), pixels)  # any monotone function of single pixels
    assert not torch.equal(aopc.patch_order(-maps, 1, 0), pixels)


def test_least_relevant_first_is_the_other_way_round() -> None:
    _, maps, _ = some(6, 1)
    assert torch.equal(aopc.patch_order(-maps, 2, 0), aopc.patch_order(maps, 2, 0).flip(1))


def test_the_score_of_a_smaller_patch_is_its_own_mean() -> None:
    maps = torch.zeros(1, 1, 3, 3)
    maps[0, 0, 2, 2] = 1.0  # alone in its patch: mean 1, though its sum is smaller than the first patch's
    maps[0, 0, :2, :2] = 0.5
    assert aopc.patch_order(maps, 2, 0)[0, :2].tolist() == [3, 0]


def test_ties_are_broken_by_seed_and_for_each_image() -> None:
    flat = torch.full((20, 1, 8, 8), 0.1)
    one = aopc.patch_order(flat, 2, 0)
    assert torch.equal(one, aopc.patch_order(flat, 2, 0)) and not torch.equal(one, aopc.patch_order(flat, 2, 1))
    assert torch.equal(one.sort(1).values, torch.arange(16).expand(20, 16))
    assert len({tuple(row) for row in one.tolist()}) == 20
    assert one.float().mean(0).std() < 2.5  # no patch is always among the first
    assert torch.equal(aopc.patch_order(flat, 3, 0).sort(1).values, torch.arange(9).expand(20, 9))
    firsts = aopc.patch_order(flat[:, :, :7, :7], 3, 0)[:, 0]  # smaller patches tie with the others
    assert len(firsts.unique()) > 4
    half = flat.clone()
    half[:, :, :4] = 1.0
    assert (aopc.patch_order(half, 2, 0)[:, :8] < 8).all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_map_that_is_not_finite_has_no_order(value: float) -> None:
    _, maps, _ = some(2, 1)
    maps[1, 0, 0, 0] = value
    with pytest.raises(ValueError, match="NaN or Inf"):
        aopc.patch_order(maps, 2, 0)


def test_true_contributions_of_a_linear_model_are_the_best_of_all_orders() -> None:
    weights = torch.tensor([[0.3, -1.2, 2.0], [0.8, -0.1, 0.5]], dtype=torch.float64)
    images = torch.tensor([[0.9, 0.4, 0.3], [0.2, 1.0, 0.7]], dtype=torch.float64).view(1, 1, 2, 3)

    def predict(covered: Tensor, _: Tensor) -> Tensor:
        logit = (covered[:, 0] * weights).sum((1, 2))
        return torch.stack([logit, torch.zeros_like(logit)], 1)

    def area(order: Tensor) -> float:
        found = aopc.curves(predict, images, torch.tensor([0]), order, 1, torch.zeros(1, 1, 1, 1))
        return aopc.aopc(found)[0, -1].item()

    every = [area(torch.tensor([order])) for order in itertools.permutations(range(6))]
    own = area(aopc.patch_order(images * weights, 1, 0))
    assert own == pytest.approx(max(every), abs=1e-12) and own > sorted(every)[-2]
    assert area(aopc.patch_order(-images * weights, 1, 0)) == pytest.approx(min(every), abs=1e-12)


def test_quantus_says_the_same_where_the_definitions_agree() -> None:
    """Its RegionPerturbation returns f(x) - f(x_k), k >= 1, with patches that divide the image and the least value."""
    if importlib.util.find_spec("tensorflow"):
        pytest.skip("Quantus imports tensorflow where that is installed, which crashes beside torch here")
    quantus = pytest.importorskip("quantus")
    torch.manual_seed(3)
    layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 100, 3)
    model = nn.Sequential(*layers).requires_grad_(False).eval()
    images, maps = torch.rand(6, 1, 12, 12), torch.randn(6, 1, 12, 12)
    images[:, :, 0, 0] = 0.0  # the least value of each image is black
    targets = model(images).argmax(1)
    metric = quantus.RegionPerturbation(
        patch_size=4,
        regions_evaluation=9,
        order="morf",
        perturb_baseline="black",
        normalise=False,
        abs=False,
        disable_warnings=True,
        return_aggregate=False,
    )
    theirs = torch.tensor(metric(model, images.numpy(), targets.numpy(), a_batch=maps.numpy(), softmax=True))
    found = measured(model, images, maps, targets, 4, "black")
    torch.testing.assert_close(found[:, :1] - found[:, 1:], theirs.double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(aopc.aopc(found)[:, -1], theirs.double().sum(1) / 10, rtol=0, atol=1e-6)
