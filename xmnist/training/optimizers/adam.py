"""Adam and AdamW. No torch until they are built."""

from typing import Annotated, Any

from xmnist.config.components import Options
from xmnist.config.optimizers import OptimizerDeclaration
from xmnist.config.rules import number
from xmnist.training.optimizers.base import optimizer


@optimizer("adam")
class Adam(OptimizerDeclaration):
    """Adam (Kingma and Ba, arXiv 1412.6980), with weight decay in the gradient."""

    eps: Annotated[float, number(0, above=True), "added to the root of the second moment"]

    def build(self, groups: list[Options], lr: float, weight_decay: float) -> Any:
        from torch import optim

        return optim.Adam(groups, lr, eps=self.eps, weight_decay=weight_decay, fused=True)


@optimizer("adamw")
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101)."""

    def build(self, groups: list[Options], lr: float, weight_decay: float) -> Any:
        from torch import optim

        return optim.AdamW(groups, lr, eps=self.eps, weight_decay=weight_decay, fused=True)
