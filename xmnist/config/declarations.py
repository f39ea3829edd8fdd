"""What the program asks of each kind of component without computing anything with it: the bases of declarations."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from xmnist.config.components import Component, Group
from xmnist.config.rules import ANY_CLASS, CLASS

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
class DatasetDeclaration(Component):
    """A data set.

    Attributes:
        drawn: whether its images are made by a program, and so cannot be missing or damaged.
        masked: whether its images can have ground truth.
        places: keys that say where files lie, which is another place on another machine.
    """

    drawn: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    places: ClassVar[tuple[str, ...]] = ()

    def resolved(self) -> Self:
        """The same data set, its options as they are told from others': what they say twice is said once.

        Raises:
            InputError: what is read is not what the options say.
        """
        return self

    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        raise TypeError(f"{type(self).__name__} has no classes")

    def training_images(self) -> int:
        """About how many images of one's own there are to train on; 0 for a published or drawn data set."""
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionDeclaration(Component):
    """A way to choose test images."""

    def classes(self) -> dict[str, str | int]:
        """The classes that it names, by option."""
        options = {name: getattr(self, name) for name, key in self.keys.items() if key.rule in (CLASS, ANY_CLASS)}
        return {name: word for name, word in options.items() if word is not None}

    def numbered(self, classes: Sequence[str]) -> Self:
        """The same selection with classes by their numbers, so that a name and a number say the same.

        Args:
            classes: their names, in the order of the labels.

        Raises:
            InputError: it names a class that does not exist.
        """
        return self


DATASETS = Group[DatasetDeclaration]("dataset", "xmnist.data.sets")
SELECTIONS = Group[SelectionDeclaration]("select", "xmnist.data.selections")

COMPONENTS: dict[str, Group[Any]] = {group.word: group for group in (DATASETS, SELECTIONS)}
"""The groups of which a command takes one component."""
