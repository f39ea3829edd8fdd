"""Decorator that declares a kind of model. No torch."""

from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

from xmnist.config.kinds import MODELS, ModelDeclaration

M = TypeVar("M", bound=ModelDeclaration)

HEATMAPS = ("saliency", "integrated_gradients", "gradcam", "lrp")
"""Attribution methods for any classifier, as a first choice."""


@dataclass_transform(frozen_default=True, kw_only_default=True)
def model(name: str, **about: Any) -> Callable[[type[M]], type[M]]:
    """Declare a class as the kind of model of this name; `about` are attributes of `ModelDeclaration`.

    Raises:
        InputError: there is a kind of this name already, or a key has no type.
    """
    return lambda kind: MODELS.declare(kind, name, **about)  # type: ignore[return-value]
