"""Decorator that declares an optimiser. No torch."""

from collections.abc import Callable
from typing import TypeVar, dataclass_transform

from xmnist.config.optimizers import OPTIMIZERS, OptimizerDeclaration

O = TypeVar("O", bound=OptimizerDeclaration)  # noqa: E741


@dataclass_transform(frozen_default=True, kw_only_default=True)
def optimizer(name: str) -> Callable[[type[O]], type[O]]:
    """Declare a class as the optimiser of this name.

    Raises:
        InputError: there is one of this name already, or a key has no type.
    """
    return lambda kind: OPTIMIZERS.declare(kind, name)  # type: ignore[return-value]
