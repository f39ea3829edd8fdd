"""Objectives of ClaDec and its reference autoencoder."""

from functools import partial

import torch
from torch import Tensor, nn

from xmnist.data.base import Data, Split
from xmnist.metrics.reconstruction import reconstruction as columns
from xmnist.models import decoders
from xmnist.models.kinds import cladec as kinds
from xmnist.models.layers import Neurons, batched, place
from xmnist.training import losses
from xmnist.training.objectives.base import Judge, Keep, Part, Reconstruct, Task, TrainingContext, objective
from xmnist.training.objectives.decoding import Codes, decoding, fresh_encoder


@objective(kinds.ClaDec)
def _of_cladec(model: kinds.ClaDec, context: TrainingContext) -> list[Task]:
    precision = context.precision
    keep, options = partial(context.keep, precision), model.options() | context.decoding
    return [cladec(context.basis, context.images, alpha=context.alpha, precision=precision, keep=keep, **options)]


@objective(kinds.RefAE)
def _of_refae(model: kinds.RefAE, context: TrainingContext) -> list[Task]:
    return [refae(context.basis, context.fresh(), context.images, **model.options(), **context.decoding)]


def cladec(
    explained: nn.Module,
    data: Data,
    layer: str,
    decoder: str,
    alpha: float,
    reconstruction: str,
    neurons: Neurons = None,
    seed: int = 0,
    precision: str = "fp32",
    keep: Keep = lambda make: make(),
) -> Task:
    """Return the task of ClaDec: a decoder of one layer's activations of a frozen classifier.

    `keep` may return the codes of all training images from the last time, instead of computing them. Those for a
    training in `bf16` are in bfloat16, which is what it would round them to. `neurons` and `seed` are as in
    `layers.units`.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109.
    """
    codes = Codes.of(explained, data, layer, keep, torch.bfloat16 if precision == "bf16" else None)
    model = _decoder(decoder, codes.first, data, neurons, seed)

    def loss(images: Tensor, labels: Tensor, kept: Tensor | None = None) -> Tensor:
        return losses.cladec(explained, images, model(codes(images, kept)), labels, alpha, reconstruction)

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: model(codes.encoder(part)), images)

    judge = _judge(explained, reconstruct, alpha, reconstruction)
    return decoding(model, loss, codes.rows, reconstruct, explained, judge)


def refae(
    explained: nn.Module,
    fresh: nn.Module,
    data: Data,
    layer: str,
    decoder: str,
    reconstruction: str,
    neurons: Neurons = None,
    seed: int = 0,
) -> Task:
    """Return the task of RefAE: a freshly initialised encoder of the classifier's shape, trained with the decoder.

    It is trained on reconstruction alone; the explained classifier only judges its reconstructions.
    """
    encoder, first = fresh_encoder(fresh, layer, data)
    decoder_network = _decoder(decoder, first, data, neurons, seed)
    model, parts = nn.Sequential(encoder, decoder_network), (Part("encoder", fresh), Part("decoder", decoder_network))

    def loss(images: Tensor) -> Tensor:
        return losses.RECONSTRUCTION[reconstruction](images, model(images))

    def reconstruct(images: Tensor) -> Tensor:
        return batched(model, images)

    judge = _judge(explained, reconstruct, 0.0, reconstruction)
    return decoding(model, loss, lambda: data.train.source("images"), reconstruct, explained, judge, parts=parts)


def _decoder(name: str, code: Tensor, data: Data, neurons: Neurons, seed: int) -> nn.Module:
    model = decoders.build(name, tuple(code.shape[1:]), data.info.shape, neurons, seed)
    return place(model, code.device)


def _judge(explained: nn.Module, reconstruct: Reconstruct, alpha: float, convention: str) -> Judge:
    def judge(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        reconstructions = reconstruct(part.images)
        kept = batched(explained, reconstructions)
        return reconstructions, columns(part.images, reconstructions, part.labels, logits, kept, alpha, convention)

    return judge
