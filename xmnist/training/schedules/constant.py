"""No schedule. No torch until it is built."""

from typing import Any

from xmnist.config.optimizers import ScheduleDeclaration
from xmnist.training.schedules.base import schedule


@schedule("constant")
class Constant(ScheduleDeclaration):
    """A learning rate that stays what it is."""

    def build(self, optimizer: Any, rates: list[float], steps: int) -> Any:
        from torch.optim.lr_scheduler import ConstantLR

        return ConstantLR(optimizer, factor=1.0)
