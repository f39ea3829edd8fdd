"""Objective of the joint explainer-classifier, one for each of its phases."""

import torch
from torch import Tensor

from xmnist.config.derived import phases
from xmnist.data.base import Columns, Data, Source, Split
from xmnist.models.base import new_explained
from xmnist.models.joint import PARTS, Joint
from xmnist.models.kinds import joint as kinds
from xmnist.models.layers import batched
from xmnist.training import losses
from xmnist.training.objectives.base import Part, Task, TrainingContext, fit_in_memory, objective


@objective(kinds.JointModel)
def _of_joint(model: kinds.JointModel, context: TrainingContext) -> list[Task]:
    settings = context.settings
    network = context.fresh(new_explained(settings, context.images.info))
    assert isinstance(network, Joint) and isinstance(settings.alpha, list)
    out = []
    for alpha, options in zip(settings.alpha, phases(settings), strict=True):
        assert isinstance(options.lr, dict)
        frozen = tuple(part for part in PARTS if not options.lr[part])
        out.append(joint(network, context.images, frozen, alpha, loss=model.loss, **settings.weights))
    return out


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
        if "explainer" in frozen and isinstance(source, Columns) and fit_in_memory(one, len(train)):
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

    def mean(images: Tensor, labels: Tensor, *extra: Tensor) -> Tensor:
        masks, maps = extra[0] if hybrid else None, extra[-1] if len(extra) > hybrid else model.explainer(images)
        return measured(images, labels, masks, maps, data.class_weights)

    def watch(split: Split) -> dict[str, float]:
        means = torch.zeros(4, dtype=torch.float64)
        with torch.no_grad():
            for part in split.parts():
                maps = model.explainer(part.images)
                # Without class weights, a mean over parts, weighted by their sizes, is that over the split.
                part_means = measured(part.images, part.labels, part.masks, maps, None)
                means += part_means.cpu().double() * len(part) / len(split)
        return dict(zip(("loss", *names), means.tolist(), strict=True))

    def test(split: Split) -> dict[str, float]:
        scores = watch(split)
        entropy, explained = scores["classification_loss"], scores["explanation_loss"]
        return {"accuracy": scores["accuracy"], "loss": entropy, "explanation_loss": explained}

    names = ("classification_loss", "explanation_loss", "accuracy")
    return Task(
        model,
        mean,
        rows,
        test,
        watch,
        names,
        maps=model.explainer,
        classifier=model.classifier,
        prepare=lambda: model.freeze(*frozen),
        parts=[Part(part, model.get_submodule(part), model.gates if part == PARTS[0] else ()) for part in PARTS],
    )


def _allowed(masks: Tensor) -> Tensor:
    """Return masks of the pixels that a map may use: the object, or everything in an image that has none."""
    return masks | ~masks.flatten(1).any(1)[:, None, None, None]
