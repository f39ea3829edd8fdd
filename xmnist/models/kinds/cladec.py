"""ClaDec, a decoder of a layer of a classifier, and its reference autoencoder. No torch."""

from dataclasses import dataclass
from typing import Annotated, Any

from xmnist.config.kinds import ModelDeclaration
from xmnist.config.rules import choice, number, one_or_more
from xmnist.models.kinds.base import HEATMAPS, model

DecoderName = Annotated[str, choice("published", "dense128", "conv64", "auto"), "which decoder"]
Reconstruction = Annotated[str, choice("sse", "mse"), "squared error summed over pixels, or averaged over them"]
MAIN = ("reconstruction_sse", "accuracy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoder(ModelDeclaration):
    """A model that reconstructs images from codes."""

    decodes = True
    decoder: DecoderName
    reconstruction: Reconstruction

    def check_code(self, code: tuple[int, ...], shape: tuple[int, int, int], neurons: Any) -> None:
        from xmnist.models import decoders

        decoders.build(self.decoder, code, shape, neurons)


@model("cladec", title="ClaDec", alpha=one_or_more(number(0, 1)), part="decoder", reference="refae", main=MAIN)
class ClaDec(Decoder):
    """A decoder that reconstructs images from the activations of a layer."""


@model("refae", title="RefAE", part="decoder", explainers=(*HEATMAPS, "refae"), main=MAIN)
class RefAE(Decoder):
    """A reference autoencoder: the same decoder, trained together with an encoder."""
