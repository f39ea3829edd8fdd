"""ClaDec, a decoder of a layer of a classifier, and its reference autoencoder. No torch."""

from typing import Annotated

from xmnist.config.declarations import ModelDeclaration
from xmnist.config.rules import choice, number, one_or_more
from xmnist.models.kinds.base import HEATMAPS, model

DecoderName = Annotated[str, choice("published", "dense128", "conv64", "auto"), "which decoder"]
Reconstruction = Annotated[str, choice("sse", "mse"), "squared error summed over pixels, or averaged over them"]
MAIN = ("reconstruction_sse", "accuracy")


@model("cladec", title="ClaDec", alpha=one_or_more(number(0, 1)), part="decoder", reference="refae", main=MAIN)
class ClaDec(ModelDeclaration):
    """A decoder that turns the activations of a layer back into images."""

    decodes = True
    decoder: DecoderName
    reconstruction: Reconstruction


@model("refae", title="RefAE", part="decoder", explainers=(*HEATMAPS, "refae"), main=MAIN)
class RefAE(ModelDeclaration):
    """The same decoder with an encoder trained beside it."""

    decodes = True
    decoder: DecoderName
    reconstruction: Reconstruction
