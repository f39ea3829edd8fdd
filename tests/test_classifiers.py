import pytest
import torch

from helpers import size_of
from xmnist import classifiers
from xmnist.errors import InputError
from xmnist.layers import Encoder, fit_normalisation


def small(shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10) -> torch.nn.Module:
    return classifiers.build("vgg_small", shape, classes, dropout=0.5).eval()


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
