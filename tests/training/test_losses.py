import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmnist.models.layers import freeze
from xmnist.training import losses


@pytest.fixture
def parts() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    torch.manual_seed(3)
    classifier = freeze(nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 3)).double())
    images = torch.rand(6, 1, 4, 4, dtype=torch.float64)
    made = torch.rand(6, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    return classifier, images, made, torch.tensor([0, 1, 2, 0, 1, 2])


def gradient(loss: Tensor, made: Tensor) -> Tensor:
    return torch.autograd.grad(loss, made)[0]


def test_conventions_by_hand() -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.float64)
    made = torch.tensor([[[[1.0, 2.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 3.0]]]], dtype=torch.float64)
    assert losses.sse(images, made).item() == (1 + 4 + 9) / 2
    assert losses.mse(images, made).item() == (1 + 4 + 9) / 8


@pytest.mark.parametrize("convention", ["sse", "mse"])
def test_alpha_0_is_pure_reconstruction(parts: tuple[nn.Module, Tensor, Tensor, Tensor], convention: str) -> None:
    classifier, images, made, labels = parts
    loss = losses.cladec(classifier, images, made, labels, 0.0, convention)
    alone = losses.RECONSTRUCTION[convention](images, made)
    assert loss.item() == alone.item()
    assert torch.equal(gradient(loss, made), gradient(alone, made))


def test_alpha_1_is_pure_classification(parts: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    classifier, images, made, labels = parts
    loss = losses.cladec(classifier, images, made, labels, 1.0, "sse")
    alone = F.cross_entropy(classifier(made), labels)
    assert loss.item() == alone.item()
    assert torch.equal(gradient(loss, made), gradient(alone, made))


def test_a_term_of_weight_0_is_not_computed(parts: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    classifier, images, made, labels = parts

    def trap(_: Tensor) -> Tensor:
        raise AssertionError("the classifier ran at alpha 0")

    losses.cladec(trap, images, made, labels, 0.0, "sse")
    nan = torch.full_like(images, math.nan)
    assert losses.cladec(classifier, nan, made, labels, 1.0, "sse").isfinite()


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("convention", ["sse", "mse"])
def test_in_between_it_is_the_weighted_sum(
    parts: tuple[nn.Module, Tensor, Tensor, Tensor], alpha: float, convention: str
) -> None:
    classifier, images, made, labels = parts
    loss = losses.cladec(classifier, images, made, labels, alpha, convention)
    rec = losses.RECONSTRUCTION[convention](images, made)
    cls = F.cross_entropy(classifier(made), labels)
    torch.testing.assert_close(loss, (1 - alpha) * rec + alpha * cls)
    both = (1 - alpha) * gradient(rec, made) + alpha * gradient(cls, made)
    torch.testing.assert_close(gradient(loss, made), both)


def test_the_label_is_the_true_one_not_the_prediction(
    parts: tuple[nn.Module, Tensor, Tensor, Tensor],
) -> None:
    classifier, images, made, labels = parts
    values = {losses.cladec(classifier, images, made, (labels + k) % 3, 1.0, "sse").item() for k in range(3)}
    assert len(values) == 3


def test_gradient_by_finite_differences(parts: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    classifier, images, made, labels = parts
    assert torch.autograd.gradcheck(lambda m: losses.cladec(classifier, images, m, labels, 0.25, "sse"), made)


# --- the explanation losses of joint models


def by_definition(maps: Tensor, beta: float, masks: Tensor | None, gamma: float) -> Tensor:
    """Pixel by pixel and image by image, as the paper writes it."""
    total = torch.zeros((), dtype=maps.dtype)
    for place in range(len(maps)):
        z = maps[place, 0]
        height, width = z.shape
        down = sum((z[i + 1, j] - z[i, j]).abs() for i in range(height - 1) for j in range(width))
        across = sum((z[i, j + 1] - z[i, j]).abs() for i in range(height) for j in range(width - 1))
        variation = down / ((height - 1) * width) + across / (height * (width - 1))
        each = beta * z.abs().mean() + (1 - beta) * variation
        if masks is not None:
            outside = 1 - masks[place, 0].to(maps.dtype)
            each = each + gamma * ((outside * z).sum() / (outside.sum() + 1e-6)).abs()
        total = total + each
    return total / len(maps)


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (2, 2)])
def test_the_explanation_loss_is_that_of_its_definition(size: tuple[int, int], hybrid: bool) -> None:
    maps = torch.rand(3, 1, *size, dtype=torch.float64)
    masks = torch.rand(3, 1, *size) > 0.5
    masks[0], masks[1] = True, False
    for beta, gamma in ((0.9, 1.0), (0.0, 10.0), (1.0, 0.0)):
        own = (maps, beta, masks if hybrid else None, gamma)
        torch.testing.assert_close(losses.explanation(*own), by_definition(*own), rtol=1e-10, atol=1e-12)


def test_an_example_worked_by_hand() -> None:
    """z = [[1, 0], [0.5, 0.5]]: mean 0.5, vertical (0.5 + 0.5) / 2, horizontal (1 + 0) / 2; outside: 0.5 and 0.5."""
    maps = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]]]])
    masks = torch.tensor([[[[True, True], [False, False]]]])
    assert losses.total_variation(maps).item() == pytest.approx(1.0)
    assert losses.explanation(maps, 0.8).item() == pytest.approx(0.8 * 0.5 + 0.2 * 1.0)
    assert losses.explanation(maps, 0.8, masks, 3.0).item() == pytest.approx(0.6 + 3 * 0.5, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_map_has_no_variation(value: float) -> None:
    maps = torch.full((2, 1, 6, 5), value)
    assert losses.total_variation(maps).item() == 0
    assert losses.explanation(maps, 0.25).item() == pytest.approx(0.25 * value)


def test_the_gradient_of_the_explanation_loss_is_that_of_finite_differences() -> None:
    maps = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(2, 1, 4, 5) > 0.5
    assert torch.autograd.gradcheck(lambda z: losses.explanation(z, 0.7, masks, 2.0), (maps,))
