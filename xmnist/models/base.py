"""What all classifiers share: how they are declared, and how their networks are built."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from xmnist.config.components import Options, of_function
from xmnist.config.declarations import CLASSIFIERS, ClassifierDeclaration
from xmnist.config.rules import number
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import nn

Shape = tuple[int, int, int]
"""Channels, height and width of the images."""

DropoutRate = Annotated[float, number(0, 0.99), "share of the activations that are set to 0 in training"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier(ClassifierDeclaration):
    """A network of images (N, C, H, W) in [0, 1] that returns logits (N, K).

    Attributes:
        gates: the feature maps, before they are pooled, that a joint model multiplies, by the dotted names of the
            modules that answer with them. A network may set its own, where they depend on options.
        least: height and width of the smallest images that it takes.
        function: returns the network, called as `function(shape, classes, **options)`.
    """

    gates: ClassVar[tuple[str, ...]] = ()
    least: ClassVar[int] = 1
    function: ClassVar[Callable[..., nn.Module]]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """A freshly initialised network of images (C, H, W) into `classes` classes, with its `layers` and `gates`.

        Raises:
            InputError: the images are too small for it.
        """
        _, height, width = shape
        if min(height, width) < self.least:
            least = f"{self.least}x{self.least}"
            raise InputError(f"classifier={self.name} needs images of at least {least} pixels, got {height}x{width}")
        network = self.network(shape, classes)
        for name, modules in (("layers", self.layers), ("gates", self.gates)):
            if modules and not hasattr(network, name):  # a network of a user's may call something else so
                setattr(network, name, modules)
        return network

    def network(self, shape: Shape, classes: int) -> nn.Module:
        """The network itself."""
        return self.function(shape, classes, **self.options())

    def begins(self) -> bool:
        """Whether its training begins with trained weights."""
        return False

    def check_beginning(self, network: nn.Module) -> None:
        """Find out whether a network, which may be on the meta device, can begin with these weights.

        Raises:
            InputError: there are no such weights, or they are not those of this network.
        """

    def begin(self, network: nn.Module) -> str:
        """Put the weights into a freshly built network; returns in words which these are, and what stays fresh.

        Raises:
            InputError: as in `check_beginning`.
        """
        raise TypeError(f"classifier={self.name} begins with no weights")


D = TypeVar("D", bound=Callable[..., Any])


def classifier(name: str, *, layers: tuple[str, ...] = (), title: str = "", **about: Any) -> Callable[[D], D]:
    """Declare what builds a network as the classifier of this name; it is returned as it is.

    That is a function or an `nn.Module` class, called as `built(shape, classes, **options)`, whose options are its
    keyword-only parameters, or a class that derives from `Classifier`, whose options are its fields.

    Args:
        layers: the dotted names of the modules that `layer=all` stands for, from the image on.
        title: what pictures and tables call it; the name with blanks if there is none.
        about: what else there is to say of it, as attributes of `Classifier`.

    Raises:
        InputError: there is a classifier of this name already, a key has no type, or it cannot be called so.
    """
    about |= {"layers": layers, **({"title": title} if title else {})}

    def declare(built: D) -> D:
        if isinstance(built, type) and issubclass(built, Classifier):
            CLASSIFIERS.declare(built, name, **about)
        else:
            kind = of_function(Classifier, built)
            _check_call(name, built, kind)
            CLASSIFIERS.declare(kind, name, **about)
        return built

    return declare


def _check_call(name: str, built: Callable[..., Any], kind: type[Classifier]) -> None:
    options = [each for each in kind.__dataclass_fields__ if each not in Classifier.__dataclass_fields__]
    try:
        inspect.signature(built).bind(None, None, **dict.fromkeys(options))
    except TypeError as error:
        call = f"{built.__name__}(shape, classes, *, OPTIONS)"
        raise InputError(f"classifier '{name}' cannot be called as {call}: {error}") from None


def made(chosen: ClassifierDeclaration | Options) -> Classifier:
    """The classifier that was chosen, or that of its name and options.

    Raises:
        InputError: there is no such classifier, or an option is wrong.
    """
    if isinstance(chosen, Classifier):
        return chosen
    options = chosen.plain() if isinstance(chosen, ClassifierDeclaration) else chosen
    found = CLASSIFIERS.made("classifier", options)
    assert isinstance(found, Classifier)
    return found
