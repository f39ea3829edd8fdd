"""Decorator that declares a learning-rate schedule. No torch."""

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from xmnist.config.optimizers import SCHEDULES, ScheduleDeclaration

S = TypeVar("S", bound=ScheduleDeclaration)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def schedule(name: str, **about: Any) -> Callable[[type[S]], type[S]]:
    """Declare a class as the schedule of this name; `about` are attributes of `ScheduleDeclaration`.

    Raises:
        InputError: there is one of this name already, or a key has no type.
    """
    return lambda kind: SCHEDULES.declare(kind, name, **about)  # type: ignore[return-value]
