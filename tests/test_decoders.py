from collections.abc import Iterator

import pytest
import torch

from helpers import size_of
from xmnist import classifiers, decoders, losses
from xmnist.errors import InputError
from xmnist.layers import Encoder, freeze, place


@pytest.mark.parametrize(
    ("name", "code", "size"),
    [
        ("dense128", (128,), 131_136 + 18_464 + 289),
        ("conv64", (64, 7, 7), 65_600 + 1_025),
    ],
)
def test_published_decoders_have_the_published_size(name: str, code: tuple[int, ...], size: int) -> None:
    decoder = decoders.build(name, code, (1, 28, 28))
    assert size_of(decoder) == size
    assert type(decoders.build("published", code, (1, 28, 28))) is type(decoder)
    assert size_of(decoders.build("published", code, (1, 28, 28))) == size


def test_refae_has_the_published_size() -> None:
    encoder = Encoder(classifiers.build("vgg_small", (1, 28, 28), 10, dropout=0.5), "dense")
    decoder = decoders.build("dense128", (128,), (1, 28, 28))
    assert size_of(encoder) - size_of(encoder.classifier.get_submodule("logits")) + size_of(decoder) == 570_625


@pytest.mark.parametrize(
    ("name", "code", "image", "between"),
    [
        ("dense128", (128,), (1, 28, 28), [(64, 4, 4), (32, 9, 9), (1, 28, 28)]),
        ("dense128", (10,), (1, 28, 28), [(64, 4, 4), (32, 9, 9), (1, 28, 28)]),
        ("conv64", (64, 7, 7), (1, 28, 28), [(64, 14, 14), (1, 28, 28)]),
        ("conv64", (64, 8, 8), (3, 32, 32), [(64, 16, 16), (3, 32, 32)]),
    ],
)
def test_shapes_on_the_way(name: str, code: tuple[int, ...], image: tuple[int, ...], between: list[object]) -> None:
    x, seen = torch.rand(2, *code), []
    decoder = decoders.build(name, code, image)
    for layer in decoder:
        x = layer(x)
        if isinstance(layer, torch.nn.ConvTranspose2d):
            seen.append(tuple(x.shape[1:]))
    assert seen == between
    assert x.min() >= 0 and x.max() <= 1


@pytest.mark.parametrize(
    ("name", "code", "image"),
    [
        ("dense128", (64, 7, 7), (1, 28, 28)),
        ("dense128", (128,), (3, 32, 32)),
        ("conv64", (128,), (1, 28, 28)),
    ],
)
def test_a_misfit_is_named(name: str, code: tuple[int, ...], image: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"model.decoder={name} takes .*{'x'.join(map(str, image))}"):
        decoders.build(name, code, image)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "code"), [("dense128", (128,)), ("conv64", (64, 7, 7))])
def test_gradients_are_the_same_with_one_and_with_two_threads(
    name: str, code: tuple[int, ...], precision: torch.dtype, threads: None
) -> None:
    """Else a decoder that is trained beside others, on fewer threads, would not be the one that is trained alone."""
    network = freeze(place(classifiers.build("vgg_small", (1, 28, 28), 10, dropout=0.5), torch.device("cpu")))
    decoder = place(decoders.build(name, code, (1, 28, 28)), torch.device("cpu"))
    codes, labels = torch.rand(64, *code), torch.randint(10, (64,))
    images = torch.rand(64, 1, 28, 28)
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            loss = losses.cladec(network, images, decoder(codes), labels, 0.25, "sse")
        found.append(torch.autograd.grad(loss, list(decoder.parameters())))
    assert [torch.equal(*pair) for pair in zip(*found, strict=True)] == [True] * len(found[0])
