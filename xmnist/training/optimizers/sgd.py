"""Stochastic gradient descent. No torch until it is built."""

from typing import Annotated, Any

from xmnist.config.components import Options
from xmnist.config.optimizers import OptimizerDeclaration
from xmnist.config.rules import number
from xmnist.training.optimizers.base import optimizer


@optimizer("sgd")
class Sgd(OptimizerDeclaration):
    """Stochastic gradient descent with momentum."""

    momentum: Annotated[float, number(0, 1), "share of the last step that is added to the next"]

    def build(self, groups: list[Options], lr: float, weight_decay: float) -> Any:
        from torch.optim import SGD

        return SGD(groups, lr, momentum=self.momentum, weight_decay=weight_decay, fused=True)
