"""Networks that turn a layer's activations back into an image with values in [0, 1]."""

from torch import nn

from xmnist.errors import InputError
from xmnist.layers import ThinConvTranspose2d, initialise

Shape = tuple[int, ...]


def dense128(code: Shape, image: Shape) -> nn.Sequential:
    """The Keras study's decoder of its `dense` layer: 128 numbers to 4x4, 9x9 and 28x28 pixels.

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
    """The Keras study's decoder of its `conv` layer: twice doubles height and width, from (64, 7, 7) to 28x28.

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


def published(code: Shape, image: Shape) -> nn.Sequential:
    """The published decoder for a code of this kind: `dense128` for a flat one, `conv64` for a spatial one."""
    try:
        return (dense128 if len(code) == 1 else conv64)(code, image)
    except InputError as error:
        raise InputError(f"there is no published decoder for this layer and data set: {error}") from None


DECODERS = {"published": published, "dense128": dense128, "conv64": conv64}


def build(name: str, code: Shape, image: Shape) -> nn.Sequential:
    """A freshly initialised decoder from codes of shape `code` to images of shape `image`, both without batch.

    Raises:
        InputError: this decoder cannot make such images from such codes.
    """
    decoder = DECODERS[name](code, image)
    initialise(decoder)
    return decoder
