"""Declaration of optimisers and learning-rate schedules, whose options are keys of `trainer`. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from xmnist.config.components import Component, Options
from xmnist.config.groups import Group
from xmnist.config.rules import Rule


@dataclass(frozen=True, kw_only=True, eq=False)
class _PartOfTrainer(Component):
    """A component whose options stand among the keys of `trainer`, beside those of others."""

    @classmethod
    def of(cls, trainer: Mapping[str, Any]) -> Self:
        """Return the component with its own options among the checked keys of a trainer."""
        return cls(**{key: trainer[key] for key in cls.keys})


@dataclass(frozen=True, kw_only=True, eq=False)
class OptimizerDeclaration(_PartOfTrainer):
    """An optimiser."""

    def build(self, groups: list[Options], lr: float, weight_decay: float) -> Any:
        """Return the optimiser of parameter groups, each with its own rate."""
        raise TypeError(f"{type(self).__name__} builds nothing")


@dataclass(frozen=True, kw_only=True, eq=False)
class ScheduleDeclaration(_PartOfTrainer):
    """A learning-rate schedule.

    Attributes:
        steps: what it goes on after: each step, each epoch, or each validation loss.
    """

    steps: ClassVar[str] = "epoch"

    def build(self, optimizer: Any, rates: list[float], steps: int) -> Any:
        """Return the scheduler of an optimiser for so many steps; `rates` are those of its parameter groups."""
        raise TypeError(f"{type(self).__name__} builds nothing")


# Closed: the keys of `trainer` are known before plug-ins are.
OPTIMIZERS = Group(OptimizerDeclaration, "optimizer", "xmnist.training.optimizers", closed=True)
SCHEDULES = Group(ScheduleDeclaration, "schedule", "xmnist.training.schedules", closed=True)


def options_of(group: Group[Any]) -> dict[str, Rule]:
    """Return the rules of the options of all components of a group."""
    return {key: option.rule for component in group.values() for key, option in component.keys.items()}
