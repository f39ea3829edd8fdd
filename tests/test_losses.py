import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmnist import losses
from xmnist.layers import freeze


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
