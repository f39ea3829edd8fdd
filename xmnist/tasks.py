"""What is particular about training each kind of model: the network, its loss, its data, its figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmnist import decoders, losses
from xmnist.data.base import Data, Split
from xmnist.layers import Encoder, batched, place
from xmnist.metrics.classification import classification
from xmnist.metrics.reconstruction import reconstruction as reconstruction_metrics

CODES_AT_MOST = 2**30
"""Bytes that the codes of all training images may take; where they need more, each batch is encoded anew."""


Reconstruct = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) to images of the same shape."""


@dataclass(frozen=True)
class Task:
    """One network and all that the loop needs to train it.

    `rows` gives the tensors that a batch is cut from, `loss` the mean loss of such a batch, `test` the figures on a
    split, `monitor` the one of them that training makes small. Where the model reconstructs images, `reconstruct` does
    so and `explained` is the classifier that judges them.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    rows: Callable[[], Sequence[Tensor]]
    test: Callable[[Split], dict[str, float]]
    monitor: str
    reconstruct: Reconstruct | None = None
    explained: nn.Module | None = None


def classifier(model: nn.Module, data: Data) -> Task:
    """A classifier, trained on cross-entropy."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(images), labels)

    def test(split: Split) -> dict[str, float]:
        return classification(batched(model, split.images), split.labels)

    return Task(model, loss, lambda: (data.train.images, data.train.labels), test, "loss")


def cladec(explained: nn.Module, data: Data, layer: str, decoder: str, alpha: float, reconstruction: str) -> Task:
    """A decoder of one layer's activations of a frozen classifier.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109.
    """
    encoder = Encoder(explained, layer)
    images, labels = data.train.images, data.train.labels
    first = batched(encoder, images[:1])
    model = _decoder(decoder, first, data)
    fits = first.numel() * first.element_size() * len(images) <= CODES_AT_MOST
    encode = nn.Identity() if fits else encoder

    def rows() -> Sequence[Tensor]:
        inputs = batched(encoder, images) if fits else images  # a frozen encoder answers the same in every epoch
        return inputs, images, labels

    def loss(inputs: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            codes = encode(inputs)
        return losses.cladec(explained, images, model(codes), labels, alpha, reconstruction)

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: model(encoder(part)), images)

    test = _decoder_test(explained, reconstruct, alpha, reconstruction)
    return Task(model, loss, rows, test, "total_loss", reconstruct, explained)


def refae(explained: nn.Module, fresh: nn.Module, data: Data, layer: str, decoder: str, reconstruction: str) -> Task:
    """The reference autoencoder: a freshly initialised encoder of the classifier's shape, trained with the decoder.

    It is trained on reconstruction alone; the explained classifier only judges its reconstructions.
    """
    encoder = Encoder(fresh.eval(), layer)  # eval: looking at a first code must not move BatchNorm statistics
    first = batched(encoder, data.train.images[:1])
    model = nn.Sequential(encoder, _decoder(decoder, first, data))

    def loss(images: Tensor) -> Tensor:
        return losses.RECONSTRUCTION[reconstruction](images, model(images))

    def reconstruct(images: Tensor) -> Tensor:
        return batched(model, images)

    test = _decoder_test(explained, reconstruct, 0.0, reconstruction)
    return Task(model, loss, lambda: (data.train.images,), test, "total_loss", reconstruct, explained)


def _decoder(name: str, code: Tensor, data: Data) -> nn.Module:
    model = decoders.build(name, tuple(code.shape[1:]), data.info.shape)
    return place(model, code.device)


def _decoder_test(
    explained: nn.Module, reconstruct: Callable[[Tensor], Tensor], alpha: float, convention: str
) -> Callable[[Split], dict[str, float]]:
    def test(split: Split) -> dict[str, float]:
        images, labels = split.images, split.labels
        made = reconstruct(images)
        logits, kept = batched(explained, images), batched(explained, made)
        return reconstruction_metrics(images, made, labels, logits, kept, alpha, convention)

    return test
