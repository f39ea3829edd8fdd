from collections.abc import Iterator

import pytest
import torch

from helpers import build, size_of
from xmnist.config.declarations import CLASSIFIERS
from xmnist.config.defaults import option
from xmnist.models import decoders, layers
from xmnist.models.layers import Encoder, freeze, place
from xmnist.runtime.errors import InputError
from xmnist.training import losses


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


@pytest.mark.parametrize(("code", "image"), [((128,), (3, 32, 32)), ((6, 13, 13), (1, 28, 28))])
def test_where_no_published_decoder_fits_one_is_built(code: tuple[int, ...], image: tuple[int, ...]) -> None:
    assert size_of(decoders.build("published", code, image)) == size_of(decoders.build("auto", code, image))


def test_refae_has_the_published_size() -> None:
    encoder = Encoder(build("vgg_small", (1, 28, 28), 10, dropout=0.5), "dense")
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
    network = freeze(place(build("vgg_small", (1, 28, 28), 10, dropout=0.5), torch.device("cpu")))
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


IMAGES = [(1, 28, 28), (3, 32, 32), (1, 30, 46), (3, 64, 64)]


@pytest.mark.parametrize("image", IMAGES, ids=str)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_there_is_a_decoder_for_every_layer_of_every_classifier(name: str, image: tuple[int, int, int]) -> None:
    with torch.device("meta"):
        network, images = build(shape=image, classes=10, **option("classifier", name)).eval(), torch.empty(2, *image)
        for layer in network.layers:
            code = Encoder(network, layer)(images)
            assert decoders.build("auto", tuple(code.shape[1:]), image)(code).shape == images.shape
        assert code.shape == (2, 10)


@pytest.mark.parametrize(
    ("code", "image", "between"),
    [
        ((512,), (3, 32, 32), [(512, 2, 2), (256, 4, 4), (128, 8, 8), (64, 16, 16), (3, 32, 32)]),
        ((512, 2, 2), (1, 32, 32), [(256, 4, 4), (128, 8, 8), (64, 16, 16), (1, 32, 32)]),
        ((256, 4, 4), (1, 32, 32), [(128, 8, 8), (64, 16, 16), (1, 32, 32)]),
        ((32, 16, 16), (1, 32, 32), [(1, 32, 32)]),
        ((64, 32, 32), (1, 32, 32), [(1, 32, 32)]),
        ((128,), (1, 28, 28), [(512, 2, 2), (256, 4, 4), (128, 7, 7), (64, 14, 14), (1, 28, 28)]),
        ((16, 5, 5), (1, 28, 28), [(64, 14, 14), (1, 28, 28)]),
        ((6, 13, 13), (1, 28, 28), [(1, 28, 28)]),
        ((8, 24, 20), (1, 28, 28), [(1, 28, 28)]),
        ((64, 7, 14), (3, 30, 60), [(64, 15, 30), (3, 30, 60)]),
        ((256, 3, 3), (1, 200, 200), [(512, 7, 7), (512, 13, 13), (256, 25, 25), (128, 50, 50), (64, 100, 100),
                                      (1, 200, 200)]),
    ],
)  # fmt: skip
def test_auto_doubles_the_code_until_it_is_the_image(
    code: tuple[int, ...], image: tuple[int, ...], between: list[object]
) -> None:
    x, seen, decoder = torch.rand(2, *code), [], decoders.build("auto", code, image)
    for layer in decoder:
        x = layer(x)
        seen += [tuple(x.shape[1:])] if isinstance(layer, torch.nn.ConvTranspose2d) else []
    assert seen == between and 0 <= x.min() < x.max() <= 1


def test_auto_is_the_original_decoder_where_that_was_made_for_the_code() -> None:
    """A linear layer or a convolution as wide as the code, then 4x4 transposed convolutions."""
    sizes = [512 * 512 + 512, *(16 * a * b + b for a, b in ((512, 512), (512, 256), (256, 128), (128, 64), (64, 1)))]
    assert size_of(decoders.build("auto", (512,), (1, 32, 32))) == sum(sizes)
    assert size_of(decoders.build("auto", (512, 1, 1), (1, 32, 32))) == sum(sizes)
    sizes = [9 * 256 * 256 + 256, *(16 * a * b + b for a, b in ((256, 128), (128, 64), (64, 3)))]
    assert size_of(decoders.build("auto", (256, 4, 4), (3, 32, 32))) == sum(sizes)


@pytest.mark.parametrize("code", [(64, 7), (2, 3, 4, 5), ()], ids=str)
def test_a_code_that_is_neither_a_vector_nor_spatial_is_refused(code: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"takes \(F\) or \(C, H, W\) numbers an image"):
        decoders.build("auto", code, (1, 28, 28))


@pytest.mark.parametrize(("layer", "code"), [("dense", (128,)), ("conv", (64, 7, 7))])
@pytest.mark.parametrize("neurons", [0.25, [3, 1, 60]])
def test_a_part_of_a_layer_is_all_that_a_decoder_sees(layer: str, code: tuple[int, ...], neurons: object) -> None:
    decoder = decoders.build("published", code, (1, 28, 28), neurons, seed=3)
    codes = torch.rand(4, *code, requires_grad=True)
    decoder(codes).sum().backward()
    moved = codes.grad.flatten(2).abs().sum((0, 2)) if len(code) == 3 else codes.grad.abs().sum(0)
    seen = layers.units(neurons, code[0], 3)
    assert moved.nonzero().flatten().tolist() == seen
    assert seen == [1, 3, 60] if isinstance(neurons, list) else len(seen) == code[0] // 4


def test_which_units_are_drawn_depends_on_the_seed_alone() -> None:
    assert layers.units(0.5, 128, 0) == decoders.units(0.5, 128, 0) != decoders.units(0.5, 128, 1)
    assert len(layers.units(1e-6, 128, 0)) == 1
    with pytest.raises(InputError, match="neurons: this layer's units are 0 to 127, got 128"):
        layers.units([5, 128], 128, 0)
