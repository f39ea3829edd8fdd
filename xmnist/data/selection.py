"""Base class and decorator of all selections of test images. No torch."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Self, TypeVar, dataclass_transform

from xmnist.config.declarations import SELECTIONS, SelectionDeclaration
from xmnist.config.groups import of_function
from xmnist.config.rules import ANY_CLASS
from xmnist.data.names import class_number
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor

log = logging.getLogger(__name__)

AnyClass = Annotated[str | int | None, ANY_CLASS, "only of this class, by name or number; null: of any"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Selection(SelectionDeclaration):
    """A way to choose test images."""

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        """Return the selected rows (K,) by true and predicted classes (N,); classes in options are numbers."""
        raise TypeError(f"{type(self).__name__} selects nothing")

    def check(self, count: int) -> None:
        """Check that images that are selected by number are among `count`.

        Raises:
            InputError: names the first that is not.
        """

    def numbered(self, classes: Sequence[str]) -> Self:
        return replace(self, **{option: class_number(word, classes) for option, word in self.classes().items()})

    def choose(self, labels: Tensor, predicted: Tensor, classes: Sequence[str]) -> Tensor:
        """Return the rows (K,) of the selected images.

        Args:
            labels: true classes (N,).
            predicted: predicted classes (N,).
            classes: their names.

        Raises:
            InputError: there is no such image, or no such class.
        """
        self.check(len(labels))
        resolved = self.numbered(classes)
        rows = resolved.rows(labels.cpu(), predicted.cpu())
        if not len(rows):
            # The options of built-in selections are called so; another one says what its own are called.
            said = {"label": "true class", "true": "true class", "predicted": "predicted class"}
            asked = ", ".join(f"{said.get(o, o)} {classes[int(number)]}" for o, number in resolved.classes().items())
            asked = f" ({asked})" if asked else ""
            raise InputError(f"select={self.name}: there is no such test image{asked}")
        return rows


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfFunction(Selection):
    """A selection whose rows a function of labels and predicted classes returns."""

    function: ClassVar[Callable[..., Tensor]]

    def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
        taken = inspect.signature(self.function).parameters
        return self.function(labels, predicted, **{key: value for key, value in self.options().items() if key in taken})


S = TypeVar("S", bound=Selection)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def selection(name: str, *, title: str = "", **about: Any) -> Callable[[type[S] | Callable[..., Tensor]], type[S]]:
    """Declare a class, or a function of labels and predicted classes, as the selection of this name.

    Args:
        title: its name in texts; `name` with blanks if there is none.
        about: further attributes of `SelectionDeclaration`.

    Raises:
        InputError: there is a selection of this name already, or a key has no type.
    """

    def declared(kind: Any) -> Any:
        component = kind if isinstance(kind, type) else of_function(_OfFunction, kind)
        return SELECTIONS.declare(component, name, **({"title": title} if title else {}), **about)

    return declared


def counted(rows: Tensor, wanted: int, description: str) -> Tensor:
    """Return the rows; log a warning if they are fewer than wanted."""
    if 0 < len(rows) < wanted:  # none at all is an error
        log.warning("%d test images were asked for (%s), there are %d", wanted, description, len(rows))
    return rows
