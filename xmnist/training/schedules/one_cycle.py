"""The one-cycle schedule. No torch until it is built."""

from typing import Annotated, Any

from xmnist.config.optimizers import ScheduleDeclaration
from xmnist.config.rules import number
from xmnist.training.schedules.base import schedule


@schedule("one_cycle", steps="step")
class OneCycle(ScheduleDeclaration):
    """A learning rate that goes up and then down to nearly 0, step by step (Smith and Topin, arXiv 1708.07120)."""

    warmup: Annotated[float, number(0, 1, above=True), "share of the steps in which the learning rate goes up"]

    def build(self, optimizer: Any, rates: list[float], steps: int) -> Any:
        from torch.optim.lr_scheduler import OneCycleLR

        return OneCycleLR(
            optimizer,
            rates,
            total_steps=steps,
            pct_start=self.warmup * 0.999 if self.warmup * steps == 1 else self.warmup,  # torch divides by the rest
            cycle_momentum="betas" in optimizer.defaults,  # SGD keeps the momentum that it was given
        )
