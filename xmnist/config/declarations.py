"""What the program asks of each kind of component without computing anything with it: the bases of declarations."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from xmnist.config.components import Component, Group

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
