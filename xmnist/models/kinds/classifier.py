"""The classifier that is explained, and the evaluation classifier of decoders. No torch."""

from typing import Annotated

from xmnist.config.components import Options
from xmnist.config.kinds import MODELS, ModelDeclaration
from xmnist.config.rules import choice, maybe, number
from xmnist.models.kinds.base import model
from xmnist.models.kinds.cladec import DecoderName, Reconstruction
from xmnist.models.kinds.vae import Beta, Latent


@model("classifier", title="classifier", explained=True, decodable=True)
class Classifier(ModelDeclaration):
    """A classifier, trained to be explained."""


@model(
    "evaluation",
    title="evaluation classifier",
    alpha=maybe(number(0, 1)),
    under="decoder",
    first=("of",),
    named=("latent",),
)
class Evaluation(ModelDeclaration):
    """A fresh classifier that is trained on the reconstructions of a decoder."""

    of: Annotated[str, choice("cladec", "refae", "cladec_vae", "refvae"), "whose pictures it is trained on"]
    decoder: DecoderName = "published"
    reconstruction: Reconstruction = "sse"
    latent: Latent = 2
    beta: Beta = 1.0

    def options(self) -> Options:
        """Return the options of the decoder and its kind; the remaining ones belong to other decoders."""
        options = super().options()
        return {key: options[key] for key in (*MODELS[self.of].keys, "of")}

    @property
    def judged(self) -> ModelDeclaration:
        return self.turned(self.of)

    def phrase(self, layer: str) -> str:
        return f"{self.title} of {self.judged.phrase(layer)}"

    def heading(self, layer: str) -> str:
        return f"Evaluation classifier of {self.judged.title}, {layer}"
