"""Objectives of the variational ClaDec and its reference."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from xmnist.data.base import Data, Source, Split
from xmnist.metrics.reconstruction import reconstruction as columns
from xmnist.models import vae
from xmnist.models.kinds import vae as kinds
from xmnist.models.layers import Neurons, batched, place
from xmnist.models.vae import LatentSpace
from xmnist.training import losses
from xmnist.training.objectives.base import Keep, Part, Task, TrainingContext, objective
from xmnist.training.objectives.decoding import Codes, decoding, fresh_encoder


@objective(kinds.VariationalClaDec)
def _of_cladec_vae(model: kinds.VariationalClaDec, context: TrainingContext) -> list[Task]:
    keep, options = partial(context.keep, "fp32"), model.options() | context.decoding
    return [cladec_vae(context.basis, context.images, alpha=context.alpha, keep=keep, **options)]


@objective(kinds.RefVAE)
def _of_refvae(model: kinds.RefVAE, context: TrainingContext) -> list[Task]:
    return [refvae(context.basis, context.fresh(), context.images, **model.options(), **context.decoding)]


def cladec_vae(
    explained: nn.Module,
    data: Data,
    layer: str,
    latent: int,
    beta: float,
    alpha: float,
    neurons: Neurons = None,
    seed: int = 0,
    keep: Keep = lambda make: make(),
) -> Task:
    """Return the task of a variational decoder of one layer's activations of a frozen classifier.

    `keep` is as for `cladec`.

    Source: the Keras ClaDec study, github.com/tomtuamnuq/cladec-mnist.

    Args:
        latent: dimensions of the latent space.
        beta, alpha: weights as in `losses.variational`.
    """
    codes = Codes.of(explained, data, layer, keep)
    model = _vae(codes.first, data, latent, neurons, seed)

    def loss(images: Tensor, labels: Tensor, kept: Tensor | None = None) -> Tensor:
        logits, means, logvars = model.parts(codes(images, kept))
        return losses.variational(explained, images, logits, labels, means, logvars, alpha, beta)

    return _variational(model, loss, codes.rows, codes.encoder, model, explained, alpha, beta)


def refvae(
    explained: nn.Module,
    fresh: nn.Module,
    data: Data,
    layer: str,
    latent: int,
    beta: float,
    neurons: Neurons = None,
    seed: int = 0,
) -> Task:
    """Return the task of RefVAE: `cladec_vae` with a freshly initialised encoder of the classifier's shape.

    It is trained, with its encoder, on reconstruction and divergence; the explained classifier only judges.
    """
    encoder, first = fresh_encoder(fresh, layer, data)
    decoder = _vae(first, data, latent, neurons, seed)
    model = nn.Sequential(encoder, decoder)

    def loss(images: Tensor) -> Tensor:
        logits, means, logvars = decoder.parts(encoder(images))
        return losses.bce(images, logits).mean() + beta * losses.kl(means, logvars).mean()

    parts = Part("encoder", fresh), Part("decoder", decoder)
    rows = partial(data.train.source, "images")
    return _variational(model, loss, rows, encoder, decoder, explained, 0.0, beta, parts)


def _vae(code: Tensor, data: Data, latent: int, neurons: Neurons, seed: int) -> vae.Vae:
    model = place(vae.build(tuple(code.shape[1:]), data.info.shape, latent, neurons, seed), code.device)
    assert isinstance(model, vae.Vae)
    return model


def _variational(
    model: nn.Module,
    loss: Callable[..., Tensor],
    rows: Callable[[], Source],
    encoder: nn.Module,
    decoder: vae.Vae,
    explained: nn.Module,
    alpha: float,
    beta: float,
    parts: Sequence[Part] = (),
) -> Task:
    """Return the task of a variational model, judged in eval mode, in which an image's latent point is its mean."""

    @torch.no_grad()
    def judge(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        drawn, means, logvars = decoder.parts(encoder(part.images))
        reconstructions = drawn.sigmoid()
        scores = columns(
            part.images, reconstructions, part.labels, logits, batched(explained, reconstructions), alpha, "sse"
        )
        error, kl = losses.bce(part.images, drawn), losses.kl(means, logvars)
        total = torch.lerp(error, scores["classification_loss"], alpha) + beta * kl
        return reconstructions, scores | {"reconstruction_bce": error, "kl": kl, "total_loss": total}

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: decoder(encoder(part)), images)

    latent = LatentSpace(
        lambda images: batched(lambda part: decoder.encode(encoder(part))[0], images),
        lambda points: batched(decoder.decode, points),
    )
    return decoding(model, loss, rows, reconstruct, explained, judge, latent, parts)
