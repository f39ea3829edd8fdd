"""The variational ClaDec and its reference. No torch."""

from dataclasses import dataclass
from typing import Annotated, Any

from xmnist.config.kinds import ModelDeclaration
from xmnist.config.rules import number, one_or_more, whole
from xmnist.models.kinds.base import HEATMAPS, model
from xmnist.models.kinds.cladec import MAIN

Latent = Annotated[int, whole(2, 10_000), "dimensions of the latent space"]
Beta = Annotated[float, number(0), "weight of the KL divergence"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VariationalDecoder(ModelDeclaration):
    """A model that reconstructs images from codes through a latent space."""

    decodes = True
    latent: Latent
    beta: Beta

    def check_code(self, code: tuple[int, ...], shape: tuple[int, int, int], neurons: Any) -> None:
        from xmnist.models import vae

        vae.build(code, shape, self.latent, neurons)


@model(
    "cladec_vae",
    title="variational ClaDec",
    alpha=one_or_more(number(0, 1)),
    part="decoder",
    reference="refvae",
    explainers=(*HEATMAPS, "refvae", "cladec_vae"),
    main=MAIN,
    named=("latent",),
)
class VariationalClaDec(VariationalDecoder):
    """A ClaDec with a latent space between code and image."""


@model("refvae", title="RefVAE", part="decoder", explainers=(*HEATMAPS, "refvae"), main=MAIN, named=("latent",))
class RefVAE(VariationalDecoder):
    """A reference autoencoder: the same model, trained together with an encoder."""
