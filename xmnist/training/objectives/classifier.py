"""Objective of classifiers: those that are explained, and fresh ones that judge a decoder's reconstructions."""

from torch import Tensor, nn

from xmnist.config.kinds import ModelDeclaration
from xmnist.data.base import Data, Split
from xmnist.metrics.classification import classification
from xmnist.models.kinds import classifier as kinds
from xmnist.models.layers import batched
from xmnist.training import losses
from xmnist.training.objectives.base import Task, TrainingContext, objective


@objective(kinds.Classifier, kinds.Evaluation)
def _of_classifier(model: ModelDeclaration, context: TrainingContext) -> list[Task]:
    return [classifier(context.fresh(), context.images)]


def classifier(model: nn.Module, data: Data) -> Task:
    """Return the task of a classifier: cross-entropy, weighted by class where the data set says so."""

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return losses.cross_entropy(model(images), labels, data.class_weights)

    def test(split: Split) -> dict[str, float]:
        return classification(batched(model, split.images), split.labels)

    return Task(model, loss, lambda: data.train.source("images", "labels"), test, test, classifier=model)
