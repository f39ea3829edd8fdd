"""Decoders: networks that reconstruct an image with values in [0, 1] from a layer's activations."""

import math

from torch import nn

from xmnist.models.layers import Neurons, ThinConvTranspose2d, Units, initialise, units
from xmnist.runtime.errors import InputError

Shape = tuple[int, ...]


def dense128(code: Shape, image: Shape) -> nn.Sequential:
    """Return the Keras study's decoder of its `dense` layer: 128 numbers to 4x4, 9x9 and 28x28 pixels.

    A code of another width only changes the first layer's input.
    """
    if len(code) != 1 or image[1:] != (28, 28):
        raise _misfit("dense128", "a flat code and makes 28x28 images", code, image)
    return nn.Sequential(
        nn.Unflatten(1, (code[0], 1, 1)),
        nn.ConvTranspose2d(code[0], 64, 4, stride=2),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, 3, stride=2),
        nn.ReLU(),
        ThinConvTranspose2d(32, image[0], 3, stride=3, output_padding=1),
        nn.Sigmoid(),
    )


def conv64(code: Shape, image: Shape) -> nn.Sequential:
    """Return the Keras study's decoder of its `conv` layer, which doubles height and width twice: (64, 7, 7) to 28x28.

    A code of another depth only changes the first layer's input.
    """
    if len(code) != 3 or (4 * code[1], 4 * code[2]) != image[1:]:
        raise _misfit("conv64", "a code of (C, H/4, W/4) for an image of (C, H, W)", code, image)
    return nn.Sequential(
        nn.ConvTranspose2d(code[0], 64, 4, stride=2, padding=1),
        nn.ReLU(),
        ThinConvTranspose2d(64, image[0], 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def _misfit(name: str, takes: str, code: Shape, image: Shape) -> InputError:
    sizes = "x".join(map(str, code)), "x".join(map(str, image))
    return InputError(f"model.decoder={name} takes {takes}; this layer's code is {sizes[0]}, the images are {sizes[1]}")


def auto(code: Shape, image: Shape) -> nn.Sequential:
    """Return a decoder of any code to images of any size; for powers of two it is that of the original ClaDec code.

    A vector goes through a linear layer, a spatial code through a 3x3 convolution, each as wide as the code; then
    transposed convolutions double height and width until they are the image's. The one before the last has 64
    channels, and each earlier one twice as many. It differs from the original where the code is narrower or wider than
    the original's: a linear layer has 128 to 1,024 units, no convolution has more than 512 channels, and where a
    size is not the double of the one before, the kernel takes up the difference.

    Source: github.com/JohnTailor/ClaDec.
    """
    vector = math.prod(code[1:]) == 1
    if vector:
        width, size = min(max(code[0], 128), 1024), (1, 1)
        parts = [nn.Flatten(), nn.Linear(code[0], width), nn.ReLU(), nn.Unflatten(1, (width, 1, 1))]
    else:
        width, size = code[0], (code[1], code[2])
        parts = [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    doublings = max(0, round(math.log2(max(image[1] / size[0], image[2] / size[1]))))
    # A code as large as the image still needs one transposed convolution, of stride 1, to make its channels.
    steps, stride = max(doublings, 1), 2 if doublings else 1
    widths = [width, *(min(64 << exponent, 512) for exponent in reversed(range(steps - 1))), image[0]]
    # Halved from the image's end and rounded up, so that the last size is exactly the image's.
    sizes = [size, *((-(-image[1] >> exponent), -(-image[2] >> exponent)) for exponent in reversed(range(steps)))]
    for step in range(steps):
        kind = ThinConvTranspose2d if step == steps - 1 else nn.ConvTranspose2d
        kernels, paddings = zip(*(_fitted(sizes[step][i], sizes[step + 1][i], stride) for i in (0, 1)), strict=True)
        parts += [kind(widths[step], widths[step + 1], kernels, stride=stride, padding=paddings), nn.ReLU()]
    return nn.Sequential(*parts[:-1], nn.Sigmoid())


def _fitted(before: int, after: int, stride: int) -> tuple[int, int]:
    """Return kernel and padding of a transposed convolution between these sizes; the kernel is at least 2 + stride."""
    rest = after - stride * (before - 1)
    padding = max(0, -(-(2 + stride - rest) // 2))
    return rest + 2 * padding, padding


def published(code: Shape, image: Shape) -> nn.Sequential:
    """Return the Keras study's decoder if it fits, `dense128` for vectors, `conv64` for spatial codes; else `auto`."""
    try:
        return (dense128 if len(code) == 1 else conv64)(code, image)
    except InputError:
        return auto(code, image)


def padded(network: nn.Module) -> bool:
    """Return whether a network's last row and column are padding, where all images have the same value."""
    return any(isinstance(module, nn.ConvTranspose2d) and any(module.output_padding) for module in network.modules())


DECODERS = {"published": published, "dense128": dense128, "conv64": conv64, "auto": auto}


def build(name: str, code: Shape, image: Shape, neurons: Neurons = None, seed: int = 0) -> nn.Sequential:
    """Build a freshly initialised decoder from codes of shape `code` to images of shape `image`, both without batch.

    With `neurons`, its input is only the units that `layers.units` selects.

    Raises:
        InputError: this decoder cannot make such images from such codes; there are no such neurons.
    """
    if len(code) not in (1, 3):
        raise InputError(f"a decoder takes (F) or (C, H, W) numbers an image, but this layer gives {code}")
    if neurons is None:
        decoder = DECODERS[name](code, image)
    else:
        which = units(neurons, code[0], seed)
        decoder = nn.Sequential(Units(which), *DECODERS[name]((len(which), *code[1:]), image))
    initialise(decoder)
    return decoder
