"""Base classes of declarations: the facts about each kind of component that are known without computing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from xmnist.config import plugins  # noqa: F401  # whose components belong to these groups too
from xmnist.config.components import Component, Options
from xmnist.config.groups import Group
from xmnist.config.kinds import MODELS
from xmnist.config.rules import ANY_CLASS, CLASS, Rule

Answer = Literal["heatmap", "image", "map", "difference"]
"""The output of explainers: a heatmap of any values, an image, a map in [0, 1], or the difference of two images, in
[-1, 1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainerDeclaration(Component):
    """An explanation method.

    Attributes:
        source: the paper that it is from.
        answer: its kind of output.
        control: whether it is a model-independent control, which others are compared with.
        models: the kinds of trained models that it uses; the first is the one of its name.
        fits: the models that a command may have when it draws this; none for all.
        presets: titles of config files that set this method up under names of their own.
        place: the index of its line style in figures; None for one by its name.
    """

    source: ClassVar[str] = ""
    answer: ClassVar[Answer] = "heatmap"
    control: ClassVar[bool] = False
    models: ClassVar[tuple[str, ...]] = ()
    fits: ClassVar[tuple[str, ...]] = ()
    presets: ClassVar[dict[str, str]] = {}
    place: ClassVar[int | None] = None

    @classmethod
    def described(cls) -> Options:
        return super().described() | {"answer": cls.answer, "models": list(cls.models)}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        kind, models = super().stand_in(name, about), about.get("models")
        kind.answer = about["answer"] if about.get("answer") in get_args(Answer) else "heatmap"
        kind.models = tuple(map(str, models)) if isinstance(models, list) else ()
        return kind


EXPLAINERS = Group(ExplainerDeclaration, "explainer", "xmnist.explainers")


def controls() -> list[str]:
    """Return the names of the model-independent controls."""
    return [explainer.name for explainer in EXPLAINERS.values() if explainer.control]


@dataclass(frozen=True)
class Column:
    """One score: its meaning, and whether higher or lower values are better, if either is.

    `best` describes the best value in other words, where it is known.
    """

    name: str
    help: str = ""
    better: Literal["higher", "lower"] | None = None
    best: str = ""

    @property
    def meaning(self) -> str:
        """Return the note below a table."""
        best = self.best or (f"{self.better} is better" if self.better else "")
        return "; ".join(part for part in (self.help, best) if part)


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricDeclaration(Component):
    """A metric of stage `evaluate`.

    Attributes:
        columns: its scores; a failure is reported in the cell of the first.
        measures: the object that it measures: the maps of explainers, decoders, or the classifier itself.
        needs_masks: whether the data set must have ground truth.
        tested: whether each explainer is tested against a random map.
        table: the table of its rows, one for each observation.
        help: a line about its measurement.
    """

    columns: ClassVar[tuple[Column, ...]] = ()
    measures: ClassVar[Literal["maps", "decoders", "classifier"]] = "maps"
    needs_masks: ClassVar[bool] = False
    tested: ClassVar[bool] = False
    table: ClassVar[str] = ""
    help: ClassVar[str] = ""

    @property
    def judges(self) -> bool:
        """Whether it uses a fresh classifier of each decoder's reconstructions."""
        return False

    @classmethod
    def described(cls) -> Options:
        return super().described() | {"measures": cls.measures, "columns": [asdict(column) for column in cls.columns]}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        kind, entries = super().stand_in(name, about), about.get("columns")
        kind.measures = "maps" if about.get("measures") not in ("decoders", "classifier") else about["measures"]
        # A run directory may hold anything, so every value is checked and cut.
        rows = [row for row in entries if isinstance(row, dict)] if isinstance(entries, list) else []
        kind.columns = tuple(
            Column(
                str(row.get("name"))[:80],
                str(row.get("help") or "")[:300],
                row["better"] if row.get("better") in ("higher", "lower") else None,
                str(row.get("best") or "")[:80],
            )
            for row in rows
        )
        return kind


METRICS = Group(MetricDeclaration, "metric", "xmnist.metrics")


def columns() -> dict[str, Column]:
    """Return all scores that are known here, by name."""
    return {column.name: column for metric in METRICS.known() for column in metric.columns}


def row_title(name: str) -> str:
    """Return the title of an explainer in the rows of pictures, in one or two lines."""
    titles = {preset: title for explainer in EXPLAINERS.values() for preset, title in explainer.presets.items()}
    declared = EXPLAINERS.get(name) or MODELS.get(name)
    return declared.title if declared else titles.get(name, name.replace("_", " "))


def explainer_title(name: str) -> str:
    """Return the title of an explainer or model: Grad-CAM, or ClaDec, alpha 0.25 for `cladec,alpha=0.25`."""
    method, *parts = name.split(",")
    return ", ".join([row_title(method).replace("\n", " "), *(part.replace("=", " ") for part in parts)])


def is_control(name: str) -> bool:
    """Return whether an explainer is a model-independent control."""
    declared = EXPLAINERS.get(name.split(",")[0])
    return declared is not None and declared.control


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassifierDeclaration(Component):
    """A network whose decisions are explained.

    Attributes:
        layers: the dotted names of its modules that `layer=all` stands for, from the image on; () if none has a name.
    """

    layers: ClassVar[tuple[str, ...]] = ()

    def resolved(self) -> Self:
        """Return the same classifier with all that identifies it.

        Raises:
            InputError: its initial weights cannot be read, or differ from what the options say.
        """
        return self

    def elsewhere(self) -> Self:
        """Return the same classifier without the folders of this machine."""
        return self


CLASSIFIERS = Group(ClassifierDeclaration, "classifier", "xmnist.models.classifiers")


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetDeclaration(Component):
    """A data set.

    Attributes:
        drawn: whether its images are made by a program, and so cannot be missing or damaged.
        masked: whether its images can have ground truth.
        places: keys that hold paths of files, which differ between machines.
    """

    drawn: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    places: ClassVar[tuple[str, ...]] = ()

    def resolved(self) -> Self:
        """Return the same data set with its options in the form that identifies it: equivalent options become equal.

        Raises:
            InputError: the data read differ from what the options say.
        """
        return self

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, in the order of the labels."""
        raise TypeError(f"{type(self).__name__} has no classes")

    @property
    def augmented(self) -> bool:
        """Whether training images are changed by chance each time they are seen."""
        return False

    def training_images(self) -> int:
        """Return the approximate number of the user's own training images; 0 for a published or drawn data set."""
        return 0


@dataclass(frozen=True, kw_only=True, eq=False)
class SelectionDeclaration(Component):
    """A way to choose test images.

    Attributes:
        wrong_alone: whether it takes misclassified images only.
    """

    wrong_alone: ClassVar[bool] = False

    def classes(self) -> dict[str, str | int]:
        """Return the classes that it names, by option."""
        options = {name: getattr(self, name) for name, key in self.keys.items() if key.rule in (CLASS, ANY_CLASS)}
        return {name: word for name, word in options.items() if word is not None}

    def numbered(self, classes: Sequence[str]) -> Self:
        """Return the same selection with classes by their numbers, so that a name and a number are equal.

        Args:
            classes: their names, in the order of the labels.

        Raises:
            InputError: it names a class that does not exist.
        """
        return self


DATASETS = Group(DatasetDeclaration, "dataset", "xmnist.data.sets")
SELECTIONS = Group(SelectionDeclaration, "select", "xmnist.data.selections")

COMPONENTS: dict[str, Group[Any]] = {group.word: group for group in (DATASETS, CLASSIFIERS, MODELS, SELECTIONS)}
"""The groups from which a command takes one component each."""


def rules_of(group: str) -> Mapping[str, Mapping[str, Rule]]:
    """Return the rules of the options of every component of a group, by its name."""
    declared = COMPONENTS[group].values() if group in COMPONENTS else []
    return {component.name: {name: key.rule for name, key in component.keys.items()} for component in declared}
