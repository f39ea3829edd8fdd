"""The variational ClaDec and its reference. No torch."""

from typing import Annotated

from xmnist.config.declarations import ModelDeclaration
from xmnist.config.rules import number, one_or_more, whole
from xmnist.models.kinds.base import HEATMAPS, model
from xmnist.models.kinds.cladec import MAIN

Latent = Annotated[int, whole(2, 10_000), "dimensions of the latent space"]
Beta = Annotated[float, number(0), "weight of the KL divergence"]


@model(
    "cladec_vae",
    title="variational ClaDec",
    alpha=one_or_more(number(0, 1)),
    part="decoder",
    reference="refvae",
    explainers=(*HEATMAPS, "refvae", "cladec_vae"),
    main=MAIN,
)
class VariationalClaDec(ModelDeclaration):
    """A ClaDec that leads each code through a latent space."""

    decodes = True
    latent: Latent
    beta: Beta


@model("refvae", title="RefVAE", part="decoder", explainers=(*HEATMAPS, "refvae"), main=MAIN)
class RefVAE(ModelDeclaration):
    """The same with an encoder trained beside it."""

    decodes = True
    latent: Latent
    beta: Beta
