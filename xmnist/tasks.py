"""What is particular about training each kind of model: the network, its loss, its data, its figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xmnist import decoders, losses
from xmnist.data.base import Columns, Data, Source, Split
from xmnist.joint import PARTS, Joint
from xmnist.layers import Encoder, batched, place
from xmnist.metrics.classification import classification
from xmnist.metrics.reconstruction import reconstruction as columns

CODES_AT_MOST = 2**30
"""Bytes that the codes or maps of all training images may take; where they need more, each batch makes its own."""


Neurons = float | Sequence[int] | None
"""The share of a layer's units that a decoder sees, or which; None for all."""

Reconstruct = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) to images of the same shape."""


Figures = Callable[[Split], dict[str, float]]
"""What is measured on a split."""


@dataclass(frozen=True)
class Task:
    """One network and all that the loop needs to train it.

    `rows` gives what batches are cut from, `loss` the mean loss of such a batch and, after it, the mean `figures`;
    `test` gives the figures on a split that a finished run tells, `watch` those that its history has, with the `loss`.
    Where the model reconstructs images, `reconstruct` does so and `explained` is the classifier that judges them.
    `prepare` is called before the training. `parts` are those of the model that are told of one by one.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    rows: Callable[[], Source]
    test: Figures
    watch: Figures
    figures: tuple[str, ...] = ()
    reconstruct: Reconstruct | None = None
    explained: nn.Module | None = None
    prepare: Callable[[], None] = lambda: None
    parts: dict[str, nn.Module] = field(default_factory=dict)


def classifier(model: nn.Module, data: Data) -> Task:
    """A classifier, trained on cross-entropy, weighted by class where the data set says so."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return losses.cross_entropy(model(images), labels, data.class_weights)

    def test(split: Split) -> dict[str, float]:
        return classification(batched(model, split.images), split.labels)

    return Task(model, loss, lambda: data.train.source("images", "labels"), test, test)


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
    keep: Callable[[Callable[[], Tensor]], Tensor] = lambda make: make(),
) -> Task:
    """A decoder of one layer's activations of a frozen classifier.

    `keep` may answer with the codes of all training images from the last time, instead of making them. Those for a
    training in `bf16` are in bfloat16, which is what it would round them to. `neurons` and `seed` are as in
    `decoders.units`.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109.
    """
    encoder, train = Encoder(explained, layer), data.train
    first = batched(encoder, train.images[:1])
    model = _decoder(decoder, first, data, neurons, seed)

    def rows() -> Source:
        source = train.source("images", "labels")
        dtype = torch.bfloat16 if precision == "bf16" else first.dtype
        if isinstance(source, Columns) and _fit(first.to(dtype), len(train)):
            # A frozen encoder answers the same in every epoch.
            codes = keep(lambda: batched(lambda part: encoder(part).to(dtype), train.images))
            return Columns(*source.columns, codes)
        return source

    def loss(images: Tensor, labels: Tensor, codes: Tensor | None = None) -> Tensor:
        if codes is None:
            with torch.no_grad():
                codes = encoder(images)
        return losses.cladec(explained, images, model(codes), labels, alpha, reconstruction)

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: model(encoder(part)), images)

    test = _decoder_test(explained, reconstruct, alpha, reconstruction)
    return Task(model, loss, rows, test, _watched(test), reconstruct=reconstruct, explained=explained)


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
    """The reference autoencoder: a freshly initialised encoder of the classifier's shape, trained with the decoder.

    It is trained on reconstruction alone; the explained classifier only judges its reconstructions.
    """
    encoder = Encoder(fresh.eval(), layer)  # eval: looking at a first code must not move BatchNorm statistics
    first = batched(encoder, data.train.images[:1])
    parts: dict[str, nn.Module] = {"encoder": fresh, "decoder": _decoder(decoder, first, data, neurons, seed)}
    model = nn.Sequential(encoder, parts["decoder"])

    def loss(images: Tensor) -> Tensor:
        return losses.RECONSTRUCTION[reconstruction](images, model(images))

    def reconstruct(images: Tensor) -> Tensor:
        return batched(model, images)

    test = _decoder_test(explained, reconstruct, 0.0, reconstruction)
    watch = _watched(test)

    def rows() -> Source:
        return data.train.source("images")

    return Task(model, loss, rows, test, watch, reconstruct=reconstruct, explained=explained, parts=parts)


def joint(
    model: Joint, data: Data, frozen: tuple[str, ...], alpha: float, beta: float, gamma: float, loss: str
) -> Task:
    """One phase of a joint explainer-classifier: `alpha * CE + (1 - alpha) * L_expl`.

    Source: Rio-Torto et al., Pattern Recognition Letters 133 (2020). An image without an object has no outside that
    the hybrid loss could keep its map from.

    Args:
        frozen: the parts, of `joint.PARTS`, that do not learn.
        alpha, beta, gamma: weights as in `losses.explanation`.
        loss: `unsupervised` or `hybrid`, which needs masks.
    """
    hybrid, train = loss == "hybrid", data.train
    columns = ("images", "labels", *(["masks"] if hybrid else []))

    def rows() -> Source:
        source = train.source(*columns)
        one = torch.empty(1, *train.images.shape[2:])
        if "explainer" in frozen and isinstance(source, Columns) and _fit(one, len(train)):
            maps = batched(model.explainer, train.images)  # a frozen explainer answers the same in every epoch
            return Columns(*source.columns, maps)
        return source

    def measured(images: Tensor, labels: Tensor, masks: Tensor | None, maps: Tensor, weights: Tensor | None) -> Tensor:
        logits = model.gated(images, maps)
        entropy = losses.cross_entropy(logits, labels, weights)
        explained = losses.explanation(
            maps.float(), beta, _allowed(masks) if hybrid and masks is not None else None, gamma
        )
        accuracy = (logits.argmax(1) == labels).float().mean()
        total = alpha * entropy + (1 - alpha) * explained
        return torch.stack([total, entropy.detach(), explained.detach(), accuracy])

    def mean(images: Tensor, labels: Tensor, *others: Tensor) -> Tensor:
        masks, maps = others[0] if hybrid else None, others[-1] if len(others) > hybrid else model.explainer(images)
        return measured(images, labels, masks, maps, data.class_weights)

    def watch(split: Split) -> dict[str, float]:
        means = torch.zeros(4, dtype=torch.float64)
        with torch.no_grad():
            for part in split.parts():
                maps = model.explainer(part.images)
                each = measured(part.images, part.labels, part.masks, maps, None)
                means += each.cpu().double() * len(part) / len(split)
        return dict(zip(("loss", *names), means.tolist(), strict=True))

    def test(split: Split) -> dict[str, float]:
        found = watch(split)
        entropy, explained = found["classification_loss"], found["explanation_loss"]
        return {"accuracy": found["accuracy"], "loss": entropy, "explanation_loss": explained}

    names = ("classification_loss", "explanation_loss", "accuracy")
    parts = {part: model.get_submodule(part) for part in PARTS}
    return Task(model, mean, rows, test, watch, names, prepare=lambda: model.freeze(*frozen), parts=parts)


def _allowed(masks: Tensor) -> Tensor:
    """Where a map may be: on the object, or everywhere in an image that has none."""
    return masks | ~masks.flatten(1).any(1)[:, None, None, None]


def _fit(row: Tensor, count: int) -> bool:
    """Whether `count` such rows may be kept."""
    return row.numel() * row.element_size() * count <= CODES_AT_MOST


def _watched(test: Figures) -> Figures:
    """A decoder's figures for its history, with the total loss as `loss`."""

    def watch(split: Split) -> dict[str, float]:
        found = test(split)
        return {"loss": found.pop("total_loss"), **found}

    return watch


def _decoder(name: str, code: Tensor, data: Data, neurons: Neurons, seed: int) -> nn.Module:
    model = decoders.build(name, tuple(code.shape[1:]), data.info.shape, neurons, seed)
    return place(model, code.device)


def _decoder_test(
    explained: nn.Module, reconstruct: Callable[[Tensor], Tensor], alpha: float, convention: str
) -> Callable[[Split], dict[str, float]]:
    def test(split: Split) -> dict[str, float]:
        total: dict[str, float] = {}
        for part in split.parts():
            made = reconstruct(part.images)
            logits, kept = batched(explained, part.images), batched(explained, made)
            found = columns(part.images, made, part.labels, logits, kept, alpha, convention)
            total = {name: total.get(name, 0.0) + values.sum().item() / len(split) for name, values in found.items()}
        return total

    return test
