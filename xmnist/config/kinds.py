"""Declaration of the kinds of models that are trained. No torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from xmnist.config import plugins  # noqa: F401  # whose components belong to this group too
from xmnist.config.components import Component, Options
from xmnist.config.groups import Group
from xmnist.config.rules import Rule, nothing
from xmnist.runtime.errors import InputError


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
    def check_plugin(cls) -> None:
        if not cls.decodes or cls.basis != "classifier" or cls.phases != 1 or cls.weights or cls.first or cls.named:
            raise InputError(
                "a plug-in's kind of model decodes a layer of a classifier in one phase: decodes=True, and without "
                "basis, phases, weights, first and named"
            )

    @classmethod
    def described(cls) -> Options:
        return super().described() | {"part": cls.part or "", "main": list(cls.main)}

    @classmethod
    def stand_in(cls, name: str, about: Options) -> type[Self]:
        kind, main = super().stand_in(name, about), about.get("main")
        kind.decodes, kind.part = True, about["part"] if about.get("part") in ("decoder", "joint") else None
        kind.main = tuple(map(str, main)) if isinstance(main, list) and main else cls.main
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


def kinds_with(feature: Callable[[type[ModelDeclaration]], Any]) -> str:
    """Return the kinds of models that have a feature, as a command names them: model=joint."""
    return " or ".join(f"model={kind.name}" for kind in MODELS.values() if feature(kind))


def decoder_names() -> list[str]:
    """Return the kinds of models that reconstruct images from a classifier's layer, those with an alpha first."""
    references = reference_of()
    return [*references, *references.values()]


def explained_names() -> list[str]:
    """Return the kinds of models that are explained themselves."""
    return [kind.name for kind in MODELS.values() if kind.explained]


def reference_of() -> dict[str, str]:
    """Return the decoders whose alpha weighs their loss -> the names of their references, which have none."""
    return {kind.name: kind.reference for kind in MODELS.values() if kind.reference}


def loss_weights() -> dict[str, Rule]:
    """Return the weights of losses beside `alpha`, with their rules."""
    return {key: rule for kind in MODELS.values() for key, rule in kind.weights.items()}
