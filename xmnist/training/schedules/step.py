"""Steps of the learning rate: after a number of epochs, or where the validation loss stays. No torch until built."""

from typing import Annotated, Any

from xmnist.config.optimizers import ScheduleDeclaration
from xmnist.config.rules import number, whole
from xmnist.training.schedules.base import schedule

Factor = Annotated[float, number(0, 1, above=True), "what a step multiplies the learning rate by"]


@schedule("step")
class Step(ScheduleDeclaration):
    """A learning rate that is multiplied by `factor` every `step_epochs` epochs."""

    step_epochs: Annotated[int, whole(1), "epochs between two steps"]
    factor: Factor

    def build(self, optimizer: Any, rates: list[float], steps: int) -> Any:
        from torch.optim.lr_scheduler import StepLR

        return StepLR(optimizer, self.step_epochs, self.factor)


@schedule("plateau", steps="loss")
class Plateau(ScheduleDeclaration):
    """A learning rate that is multiplied by `factor` once the validation loss has not fallen for `patience` epochs."""

    factor: Factor
    patience: Annotated[int, whole(0), "epochs without a lower validation loss before a step"]
    min_lr: Annotated[float, number(0), "the learning rate stops falling here"]

    def build(self, optimizer: Any, rates: list[float], steps: int) -> Any:
        from torch.optim.lr_scheduler import ReduceLROnPlateau

        return ReduceLROnPlateau(optimizer, factor=self.factor, patience=self.patience, threshold=0, min_lr=self.min_lr)
