"""Base classes of declarations: the facts about each kind of component that are known without computing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal, Self, get_args

from xmnist.config import plugins  # noqa: F401  # whose components belong to these groups too
from xmnist.config.components import Component, Group, Options
from xmnist.config.rules import ANY_CLASS, CLASS, Rule, nothing

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
    return [each.name for each in EXPLAINERS.values() if each.control]


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
        told = self.best or (f"{self.better} is better" if self.better else "")
        return "; ".join(part for part in (self.help, told) if part)


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
        return super().described() | {"measures": cls.measures, "columns": [asdict(each) for each in cls.columns]}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        kind, given = super().stand_in(name, about), about.get("columns")
        kind.measures = "maps" if about.get("measures") not in ("decoders", "classifier") else about["measures"]
        # A run directory may hold anything, so every value is checked and cut.
        rows = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
        kind.columns = tuple(
            Column(
                str(each.get("name"))[:80],
                str(each.get("help") or "")[:300],
                each["better"] if each.get("better") in ("higher", "lower") else None,
                str(each.get("best") or "")[:80],
            )
            for each in rows
        )
        return kind


METRICS = Group(MetricDeclaration, "metric", "xmnist.metrics")


def columns() -> dict[str, Column]:
    """Return all scores that are known here, by name."""
    return {column.name: column for metric in METRICS.known() for column in metric.columns}


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDeclaration(Component):
    """A kind of model that is trained.

    Attributes:
        alpha: the rule of the weight of its classification loss.
        weights: the other weights of its loss beside `alpha`, with their rules.
        part: the part of `trainer` that changes it for this kind.
        decodes: whether it reconstructs images from a layer of a classifier, which must be there.
        reference: the kind that has the same decoder and is trained on reconstruction alone.
        explainers: the default explainers, if the usual ones do not fit.
        main: the scores that summarise a run, the main one first.
        explained: whether it is a network that is explained, and no model of another one.
        decodable: whether decoders of its layers can be trained.
        basis: the kind that is explained where a command has this one.
        own_map: whether it computes a map of each image itself, which other explainers may keep fixed.
        phases: the number of phases of its training.
        under: the part of `trainer` for the model that it is made from.
        first: options that the names of its runs begin with.
        named: options that the names of its runs hold further on.
    """

    alpha: ClassVar[Rule] = nothing()
    weights: ClassVar[dict[str, Rule]] = {}
    part: ClassVar[Literal["decoder", "joint"] | None] = None
    decodes: ClassVar[bool] = False
    reference: ClassVar[str] = ""
    explainers: ClassVar[tuple[str, ...]] = ()
    main: ClassVar[tuple[str, ...]] = ("accuracy",)
    explained: ClassVar[bool] = False
    decodable: ClassVar[bool] = False
    basis: ClassVar[str] = "classifier"
    own_map: ClassVar[bool] = False
    phases: ClassVar[int] = 1
    under: ClassVar[Literal["decoder"] | None] = None
    first: ClassVar[tuple[str, ...]] = ()
    named: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def described(cls) -> Options:
        facts = {key: getattr(cls, key) for key in ("decodes", "explained", "basis")} | {"part": cls.part or ""}
        return super().described() | facts | {key: list(getattr(cls, key)) for key in ("main", "first", "named")}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        kind = super().stand_in(name, about)
        for key, usual in cls.described().items():
            told = about.get(key)
            # A run directory may hold anything, so every value is checked.
            if key != "title" and type(told) is type(usual):
                setattr(kind, key, tuple(map(str, told)) if isinstance(told, list) else told)
        kind.part = kind.part if kind.part in ("decoder", "joint") else None
        return kind

    def turned(self, name: str) -> "ModelDeclaration":
        """Return the kind of that name, with the options that it shares with this one."""
        kind = MODELS[name]
        return kind.made("model", {key: getattr(self, key) for key in kind.keys if key in self.keys})

    @property
    def judged(self) -> "ModelDeclaration | None":
        """The decoder that it judges, if it does so."""
        return None

    @property
    def needs_masks(self) -> str:
        """The setting for which it is trained on ground truth; empty if it is not."""
        return ""

    def phrase(self, layer: str) -> str:
        """Return its name in a sentence, with its layer: ClaDec of layer dense."""
        return f"{self.title} of {layer}" if self.decodes else self.title

    def heading(self, layer: str) -> str:
        """Return its name in a title."""
        phrase = self.phrase(layer)
        return phrase[0].upper() + phrase[1:]

    def before(self, layer: str) -> str:
        """Return the text before the classifier's name in titles; `layer` is empty if none is decoded."""
        return f"{layer} of " if layer and not self.explained else ""

    def around(self, classifier: Any, shape: tuple[int, int, int]) -> Any:
        """Return the explained network: the classifier, or the network of images (C, H, W) that contains it."""
        return classifier

    def check_network(self, network: Any, example: Any) -> None:
        """Check its options against the explained network, computed for images (N, C, H, W).

        Raises:
            InputError: they do not fit.
        """

    def layer_of(self, layer: str, fixed: bool) -> str:
        """Return the dotted name of a layer in the explained network; `fixed`: whether its map is fixed."""
        return layer

    def check_code(self, code: tuple[int, ...], shape: tuple[int, int, int], neurons: Any) -> None:
        """Check that it can decode codes of shape `code` into images of shape `shape`.

        Raises:
            InputError: it cannot.
        """


MODELS = Group(ModelDeclaration, "model", "xmnist.models.kinds")


def row_title(name: str) -> str:
    """Return the title of an explainer in the rows of pictures, in one or two lines."""
    titles = {preset: title for each in EXPLAINERS.values() for preset, title in each.presets.items()}
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


def kinds_with(feature: Callable[[type[ModelDeclaration]], Any]) -> str:
    """Return the kinds of models that have a feature, as a command names them: model=joint."""
    return " or ".join(f"model={kind.name}" for kind in MODELS.values() if feature(kind))


def decoder_names() -> list[str]:
    """Return the kinds of models that reconstruct images from a classifier's layer, those with an alpha first."""
    own = reference_of()
    return [*own, *own.values()]


def explained_names() -> list[str]:
    """Return the kinds of models that are explained themselves."""
    return [kind.name for kind in MODELS.values() if kind.explained]


def reference_of() -> dict[str, str]:
    """Return the decoders whose alpha weighs their loss -> the names of their references, which have none."""
    return {kind.name: kind.reference for kind in MODELS.values() if kind.reference}


def loss_weights() -> dict[str, Rule]:
    """Return the weights of losses beside `alpha`, with their rules."""
    return {key: rule for kind in MODELS.values() for key, rule in kind.weights.items()}


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
    return {each.name: {name: key.rule for name, key in each.keys.items()} for each in declared}
