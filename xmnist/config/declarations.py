"""What the program asks of each kind of component without computing anything with it: the bases of declarations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from xmnist.config.components import Component, Group, Options
from xmnist.config.rules import Rule
from xmnist.config.schema import GROUPS

Answer = Literal["heatmap", "image", "map", "difference"]
"""What explainers answer with: a heatmap of any values, an image, a map in [0, 1], or what two images differ in, in
[-1, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainerDeclaration(Component):
    """An explanation method.

    Attributes:
        source: the paper that it is from.
        answer: what it answers with.
        control: whether it knows nothing of the classifier, and others are compared with it.
        models: the kinds of trained models that it answers from; the first is the one of its name.
        fits: the models that a command may have when it draws this; none for all.
        presets: titles of config files that set this method up under names of their own.
        place: which of the lines of a figure is its own; None for one by its name.
    """

    source: ClassVar[str] = ""
    answer: ClassVar[Answer] = "heatmap"
    control: ClassVar[bool] = False
    models: ClassVar[tuple[str, ...]] = ()
    fits: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[dict[str, str]] = {}
    place: ClassVar[int | None] = None


EXPLAINERS = Group[ExplainerDeclaration]("explainer", "xmnist.explainers")


def controls() -> list[str]:
    """The names of the model-independent controls."""
    return [each.name for each in EXPLAINERS.values() if each.control]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierDeclaration(Component):
    """A network whose decisions are explained.

    Attributes:
        layers: the dotted names of its modules that `layer=all` stands for, from the image on; () if none has a name.
    """

    layers: ClassVar[tuple[str, ...]] = ()

    def resolved(self) -> Self:
        """The same classifier, with all that says which one it is.

        Raises:
            InputError: what its training begins with cannot be read, or is not what the options say.
        """
        return self

    def identity(self) -> Options:
        """Name and options as the names of runs hold them: all that can change a result."""
        return self.plain()

    def elsewhere(self) -> Self:
        """The same classifier without the folders of this machine."""
        return self


CLASSIFIERS = Group[ClassifierDeclaration]("classifier", "xmnist.models.classifiers")

COMPONENTS: dict[str, Group[Any]] = {group.word: group for group in (CLASSIFIERS,)}
"""The groups of which a command takes one component."""


def rules_of(group: str) -> Mapping[str, Mapping[str, Rule]]:
    """The rules of the options of every component of a group, by its name."""
    if group not in COMPONENTS:
        return GROUPS.get(group, {})
    return {each.name: {name: key.rule for name, key in each.keys.items()} for each in COMPONENTS[group].values()}
