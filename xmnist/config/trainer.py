"""Settings of the training of networks. No torch."""

from dataclasses import dataclass
from typing import Any, Self

from xmnist.config.components import Options, checked
from xmnist.config.optimizers import OPTIMIZERS, SCHEDULES, OptimizerDeclaration, ScheduleDeclaration
from xmnist.config.schema import JOINT_TRAINING, TRAINING


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training of one network in one phase; where its parts have learning rates of their own, `lr` is by part."""

    epochs: int
    batch_size: int
    precision: str
    optimizer: OptimizerDeclaration
    lr: float | dict[str, float]
    weight_decay: float
    schedule: ScheduleDeclaration
    keep: str
    stop_patience: int | None
    stop_delta: float

    @classmethod
    def of(cls, trainer: Options) -> Self:
        """Return the training of the checked keys of a trainer."""
        options = {key: trainer[key] for key in cls.__dataclass_fields__}
        chosen = OPTIMIZERS[options["optimizer"]].of(trainer), SCHEDULES[options["schedule"]].of(trainer)
        return cls(**(options | dict(zip(("optimizer", "schedule"), chosen, strict=True))))


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """The training of all networks; `decoder` and `joint` hold the differences for those kinds of models."""

    own: Options
    decoder: Options
    joint: Options

    @classmethod
    def of_plain(cls, values: Any) -> Self:
        """Return a trainer of plain values.

        Raises:
            InputError: names the first key that is unknown, missing or not allowed.
        """
        options = dict(values) if isinstance(values, dict) else values
        parts: dict[str, Any] = {
            name: checked(
                f"trainer.{name}.", options.pop(name, {}) if isinstance(options, dict) else {}, rules, partial=True
            )
            for name, rules in (("decoder", TRAINING), ("joint", JOINT_TRAINING))
        }
        return cls(own=checked("trainer.", options, TRAINING), **parts)

    def plain(self) -> Options:
        """Return it as plain values."""
        return self.own | {"decoder": self.decoder, "joint": self.joint}

    def changed(self, part: str | None) -> Options:
        """Return the training with the changes of a part of the trainer, as plain values; None for no changes."""
        return self.own | (getattr(self, part) if part else {})
