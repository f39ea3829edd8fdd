"""Base class and decorator of all classifiers: declaration of their options, construction of their networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar

from xmnist.config.components import Options
from xmnist.config.declarations import CLASSIFIERS, ClassifierDeclaration
from xmnist.config.groups import of_function
from xmnist.config.rules import number
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import nn

if TYPE_CHECKING:
    from xmnist.config.settings import Settings
    from xmnist.data.base import Info

Shape = tuple[int, int, int]
"""Channels, height and width of the images."""

DropoutRate = Annotated[float, number(0, 0.99), "share of the activations that are set to 0 in training"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier(ClassifierDeclaration):
    """A network of images (N, C, H, W) in [0, 1] that returns logits (N, K).

    Attributes:
        gates: the feature maps, before they are pooled, that a joint model multiplies, by the dotted names of the
            modules that return them. A network may set its own, where they depend on options.
        least: height and width of the smallest images that it takes.
        function: returns the network, called as `function(shape, classes, **options)`.
    """

    gates: ClassVar[tuple[str, ...]] = ()
    least: ClassVar[int] = 1
    function: ClassVar[Callable[..., nn.Module]]

    def build(self, shape: Shape, classes: int) -> nn.Module:
        """Build a fresh network of images (C, H, W) into `classes` classes, with its `layers` and `gates`.

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
        """Construct the network from the chosen options."""
        return self.function(shape, classes, **self.options())

    def begins(self) -> bool:
        """Return whether its training is initialised from trained weights."""
        return False

    def check_beginning(self, network: nn.Module) -> None:
        """Check that a network, which may be on the meta device, can be initialised from these weights.

        Raises:
            InputError: there are no such weights, or they are not those of this network.
        """

    def begin(self, network: nn.Module) -> str:
        """Load the weights into a freshly built network; return a description of them and of the parts that stay fresh.

        Raises:
            InputError: as in `check_beginning`.
        """
        raise TypeError(f"classifier={self.name} begins with no weights")


D = TypeVar("D", bound=Callable[..., Any])


def classifier(name: str, *, layers: tuple[str, ...] = (), title: str = "", **about: Any) -> Callable[[D], D]:
    """Declare a function or class that builds a network as the classifier of this name; it is returned unchanged.

    It is a function or an `nn.Module` class, called as `built(shape, classes, **options)`, whose options are its
    keyword-only parameters, or a class that derives from `Classifier`, whose options are its fields.

    Args:
        layers: the dotted names of the modules that `layer=all` stands for, from the image on.
        title: its name in pictures and tables; `name` with blanks if there is none.
        about: further attributes of `Classifier`.

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
    # Binding the call now reports a wrong signature where the classifier is declared, not when it is first built.
    options = [key for key in kind.__dataclass_fields__ if key not in Classifier.__dataclass_fields__]
    try:
        inspect.signature(built).bind(None, None, **dict.fromkeys(options))
    except TypeError as error:
        call = f"{built.__name__}(shape, classes, *, OPTIONS)"
        raise InputError(f"classifier '{name}' cannot be called as {call}: {error}") from None


def made(chosen: ClassifierDeclaration | Options) -> Classifier:
    """Return the chosen classifier, or the one of this name with these options.

    Raises:
        InputError: there is no such classifier, or an option is wrong.
    """
    if isinstance(chosen, Classifier):
        return chosen
    options = chosen.plain() if isinstance(chosen, ClassifierDeclaration) else chosen
    component = CLASSIFIERS.made("classifier", options)
    assert isinstance(component, Classifier)
    return component


def new_classifier(settings: Settings, info: Info) -> nn.Module:
    """Return the classifier of these settings, freshly initialised."""
    return made(settings.classifier).build(info.shape, len(info.classes))


def new_explained(settings: Settings, info: Info) -> nn.Module:
    """Return the untrained network that is explained: a joint network where that is the model, else the classifier."""
    network = settings.model.around(new_classifier(settings, info), info.shape)
    assert isinstance(network, nn.Module)
    return network
