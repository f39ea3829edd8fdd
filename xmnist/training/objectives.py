"""Training objectives: the network, loss, data and scores of each kind of model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from xmnist.data.base import Columns, Data, Source, Split
from xmnist.metrics.classification import classification
from xmnist.metrics.reconstruction import reconstruction as columns
from xmnist.models import decoders, vae
from xmnist.models.joint import PARTS, Joint
from xmnist.models.layers import Encoder, Neurons, batched, place, quick_gradient
from xmnist.training import losses

CODES_AT_MOST = 2**30
"""Bytes that the codes or maps of all training images may take; above this limit, each batch computes its own."""


Reconstruct = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) to images of the same shape."""


Figures = Callable[[Split], dict[str, float]]
"""A split to its scores, by name."""


Judge = Callable[[Split, Tensor], tuple[Tensor, dict[str, Tensor]]]
"""A few images and the explained classifier's logits on them to their reconstructions, and the scores (N,) of each."""


@dataclass(frozen=True)
class Latent:
    """A variational model's latent space: the mean (N, latent) of each image, and the image of each point."""

    means: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """A network and all that the loop needs to train it.

    `rows` gives what batches are cut from, `loss` the mean loss of such a batch and, after it, the mean `figures`;
    `test` gives the figures on a split that a finished run tells, `watch` those that its history has, with the `loss`.
    Where the model reconstructs images, `reconstruct` does so and `explained` is the classifier that judges them, by
    what `judge` finds; a variational model has `latent`. `prepare` is called before the training. `parts` are
    those of the model that its table lists one by one.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    rows: Callable[[], Source]
    test: Figures
    watch: Figures
    figures: tuple[str, ...] = ()
    reconstruct: Reconstruct | None = None
    explained: nn.Module | None = None
    judge: Judge | None = None
    latent: Latent | None = None
    prepare: Callable[[], None] = lambda: None
    parts: dict[str, nn.Module] = field(default_factory=dict)


def classifier(model: nn.Module, data: Data) -> Task:
    """Return the task of a classifier: cross-entropy, weighted by class where the data set says so."""

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
    """Return the task of ClaDec: a decoder of one layer's activations of a frozen classifier.

    `keep` may return the codes of all training images from the last time, instead of computing them. Those for a
    training in `bf16` are in bfloat16, which is what it would round them to. `neurons` and `seed` are as in
    `layers.units`.

    Source: Schneider and Vlachos, "Explaining classifiers by constructing familiar concepts", arXiv 2203.04109.
    """
    encoder, train = Encoder(quick_gradient(explained), layer), data.train
    # The shape of a code depends on layer and image, and is known from a first one only.
    first = batched(encoder, train.images[:1])
    model = _decoder(decoder, first, data, neurons, seed)

    dtype = torch.bfloat16 if precision == "bf16" else first.dtype

    def rows() -> Source:
        return _coded(train, encoder, first.to(dtype), keep)

    def loss(images: Tensor, labels: Tensor, codes: Tensor | None = None) -> Tensor:
        return losses.cladec(explained, images, model(_code(encoder, images, codes)), labels, alpha, reconstruction)

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: model(encoder(part)), images)

    return _decoding(model, loss, rows, reconstruct, explained, _judge(explained, reconstruct, alpha, reconstruction))


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
    encoder = Encoder(fresh.eval(), layer)  # eval: the computation of a first code must not move BatchNorm statistics
    first = batched(encoder, data.train.images[:1])
    parts: dict[str, nn.Module] = {"encoder": fresh, "decoder": _decoder(decoder, first, data, neurons, seed)}
    model = nn.Sequential(encoder, parts["decoder"])

    def loss(images: Tensor) -> Tensor:
        return losses.RECONSTRUCTION[reconstruction](images, model(images))

    def reconstruct(images: Tensor) -> Tensor:
        return batched(model, images)

    judge = _judge(explained, reconstruct, 0.0, reconstruction)
    return _decoding(model, loss, lambda: data.train.source("images"), reconstruct, explained, judge, parts=parts)


def cladec_vae(
    explained: nn.Module,
    data: Data,
    layer: str,
    latent: int,
    beta: float,
    alpha: float,
    neurons: Neurons = None,
    seed: int = 0,
    keep: Callable[[Callable[[], Tensor]], Tensor] = lambda make: make(),
) -> Task:
    """Return the task of a variational decoder of one layer's activations of a frozen classifier.

    `keep` is as for `cladec`.

    Source: the Keras ClaDec study, github.com/tomtuamnuq/cladec-mnist.

    Args:
        latent: dimensions of the latent space.
        beta, alpha: weights as in `losses.variational`.
    """
    encoder, train = Encoder(quick_gradient(explained), layer), data.train
    first = batched(encoder, train.images[:1])
    model = _vae(first, data, latent, neurons, seed)

    def loss(images: Tensor, labels: Tensor, codes: Tensor | None = None) -> Tensor:
        logits, means, logvars = model.parts(_code(encoder, images, codes))
        return losses.variational(explained, images, logits, labels, means, logvars, alpha, beta)

    def rows() -> Source:
        return _coded(train, encoder, first, keep)

    return _variational(model, loss, rows, encoder, model, explained, alpha, beta)


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
    encoder = Encoder(fresh.eval(), layer)  # as for RefAE
    decoder = _vae(batched(encoder, data.train.images[:1]), data, latent, neurons, seed)
    model = nn.Sequential(encoder, decoder)

    def loss(images: Tensor) -> Tensor:
        logits, means, logvars = decoder.parts(encoder(images))
        return losses.bce(images, logits).mean() + beta * losses.kl(means, logvars).mean()

    parts = {"encoder": fresh, "decoder": decoder}
    rows = partial(data.train.source, "images")
    return _variational(model, loss, rows, encoder, decoder, explained, 0.0, beta, parts)


def joint(
    model: Joint, data: Data, frozen: tuple[str, ...], alpha: float, beta: float, gamma: float, loss: str
) -> Task:
    """Return the task of one phase of a joint explainer-classifier: `alpha * CE + (1 - alpha) * L_expl`.

    Source: Rio-Torto et al., Pattern Recognition Letters 133 (2020). In an image without an object, the
    hybrid loss penalises no position of the map.

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
            maps = batched(model.explainer, train.images)  # a frozen explainer gives the same maps in every epoch
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
        # Only the total is minimised; the others are scores, and need no gradient.
        return torch.stack([total, entropy.detach(), explained.detach(), accuracy])

    def mean(images: Tensor, labels: Tensor, *others: Tensor) -> Tensor:
        masks, maps = others[0] if hybrid else None, others[-1] if len(others) > hybrid else model.explainer(images)
        return measured(images, labels, masks, maps, data.class_weights)

    def watch(split: Split) -> dict[str, float]:
        means = torch.zeros(4, dtype=torch.float64)
        with torch.no_grad():
            for part in split.parts():
                maps = model.explainer(part.images)
                # Without class weights, a mean over parts, weighted by their sizes, is that over the split.
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
    """Return masks of the pixels that a map may use: the object, or everything in an image that has none."""
    return masks | ~masks.flatten(1).any(1)[:, None, None, None]


def _fit(row: Tensor, count: int) -> bool:
    """Return whether `count` such rows may be kept in memory."""
    return row.numel() * row.element_size() * count <= CODES_AT_MOST


def _code(encoder: nn.Module, images: Tensor, codes: Tensor | None) -> Tensor:
    """Return the codes of a batch, computed now where they were not kept."""
    if codes is not None:
        return codes
    with torch.no_grad():
        return encoder(images)


def _coded(train: Split, encoder: nn.Module, first: Tensor, keep: Callable[[Callable[[], Tensor]], Tensor]) -> Source:
    """Return training images and labels, with their codes if these can be kept, in the precision of the `first` one."""
    source = train.source("images", "labels")
    if isinstance(source, Columns) and _fit(first, len(train)):
        # A frozen encoder gives the same codes in every epoch.
        codes = keep(lambda: batched(lambda part: encoder(part).to(first.dtype), train.images))
        return Columns(*source.columns, codes)
    return source


def _decoding(
    model: nn.Module,
    loss: Callable[..., Tensor],
    rows: Callable[[], Source],
    reconstruct: Reconstruct,
    explained: nn.Module,
    judge: Judge,
    latent: Latent | None = None,
    parts: dict[str, nn.Module] | None = None,
) -> Task:
    """Return the task of a model that reconstructs images; its history has the total loss as `loss`."""

    def test(split: Split) -> dict[str, float]:
        total: dict[str, float] = {}
        for part in split.parts():
            _, found = judge(part, batched(explained, part.images))
            total = {name: total.get(name, 0.0) + values.sum().item() / len(split) for name, values in found.items()}
        return total

    def watch(split: Split) -> dict[str, float]:
        found = test(split)
        return {"loss": found.pop("total_loss"), **found}

    return Task(model, loss, rows, test, watch, (), reconstruct, explained, judge, latent, parts=parts or {})


def _decoder(name: str, code: Tensor, data: Data, neurons: Neurons, seed: int) -> nn.Module:
    model = decoders.build(name, tuple(code.shape[1:]), data.info.shape, neurons, seed)
    return place(model, code.device)


def _judge(explained: nn.Module, reconstruct: Reconstruct, alpha: float, convention: str) -> Judge:
    def judge(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        made = reconstruct(part.images)
        kept = batched(explained, made)
        return made, columns(part.images, made, part.labels, logits, kept, alpha, convention)

    return judge


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
    parts: dict[str, nn.Module] | None = None,
) -> Task:
    """Return the task of a variational model, judged in eval mode, in which an image's latent point is its mean."""

    @torch.no_grad()
    def judge(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        drawn, means, logvars = decoder.parts(encoder(part.images))
        made = drawn.sigmoid()
        found = columns(part.images, made, part.labels, logits, batched(explained, made), alpha, "sse")
        error, kl = losses.bce(part.images, drawn), losses.kl(means, logvars)
        total = torch.lerp(error, found["classification_loss"], alpha) + beta * kl
        return made, found | {"reconstruction_bce": error, "kl": kl, "total_loss": total}

    def reconstruct(images: Tensor) -> Tensor:
        return batched(lambda part: decoder(encoder(part)), images)

    latent = Latent(
        lambda images: batched(lambda part: decoder.encode(encoder(part))[0], images),
        lambda points: batched(decoder.decode, points),
    )
    return _decoding(model, loss, rows, reconstruct, explained, judge, latent, parts)
