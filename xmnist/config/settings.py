"""Checked and typed settings of a command: one frozen object a stage. No torch.

`plain()` gives the plain values that a run directory holds, and `of_plain` reads these back; with another value they
are `dataclasses.replace(settings, alpha=0.5)`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Self, overload

from xmnist.config.components import Options, checked, converted
from xmnist.config.declarations import (
    COMPONENTS,
    EXPLAINERS,
    METRICS,
    ClassifierDeclaration,
    DatasetDeclaration,
    ExplainerDeclaration,
    MetricDeclaration,
    SelectionDeclaration,
)
from xmnist.config.kinds import MODELS, ModelDeclaration
from xmnist.config.rules import Rule, maybe, raise_unless
from xmnist.config.schema import COMMON, FEWER, OWN_IMAGE, STAGES, only
from xmnist.config.trainer import Trainer
from xmnist.runtime.errors import InputError

OneOrMore = str | list[str]
"""A word, or a list of several."""

EARLIER: Options = {
    **{"neurons": None, "train_missing": True, "fail_fast": False, "format": "png", "hints": "auto"},
    **{"image": {"path": None, "invert": "auto", "sha256": []}, "layout": "auto", "overlay": False, "unmeasured": []},
}
"""Values of keys that run directories of earlier versions may lack."""


@dataclass(frozen=True, kw_only=True)
class OwnImages:
    """The user's own images that are explained: their files, none where `path` is None, with their digests."""

    path: list[str] | None = None
    invert: bool | Literal["auto"] = "auto"
    sha256: list[str] = field(default_factory=list)

    def plain(self) -> Options:
        """As plain values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Only:
    """The runs that a report covers; None is all."""

    dataset: OneOrMore | None
    model: OneOrMore | None
    experiment: OneOrMore | None

    def plain(self) -> Options:
        """As plain values."""
        return dict(vars(self))

    def chosen(self) -> dict[str, OneOrMore]:
        """Return the restrictions, by key."""
        return {key: value for key, value in vars(self).items() if value}


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """Settings of every stage."""

    stage: ClassVar[str] = ""

    out_dir: str
    fail_fast: bool
    hints: bool | Literal["auto"]
    force: bool

    def plain(self) -> Options:
        """Return them as plain values, in the order in which run directories hold them."""
        groups, stage_rules = STAGES[self.stage]
        keys = (*FEWER.get(self.stage, COMMON), *stage_rules)
        return {group: getattr(self, group).plain() for group in groups} | {key: getattr(self, key) for key in keys}

    @classmethod
    def of_plain(cls, values: Any) -> Self:
        """Return the settings that a run directory holds as plain values; further keys are ignored.

        Stand-ins replace components that are not known here, or had other options.

        Raises:
            InputError: names the first key that is missing, or holds what it must not.
        """
        if not isinstance(values, dict):
            raise InputError(f"settings must be a group of keys, got {values!r}")
        return cls(**cls._read(EARLIER | values))

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        groups, stage_rules = STAGES[cls.stage]
        for group in groups:
            if group not in values:
                raise InputError(f"{group} is missing")
        rules = {key: COMMON[key] for key in FEWER.get(cls.stage, COMMON)} | stage_rules
        components = {group: COMPONENTS[group].recorded(values[group]) for group in groups}
        return components | _checked(values, rules)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: classes of components that are made of functions cannot be found in their modules.
        return type(self).of_plain, (self.plain(),)


@dataclass(frozen=True, kw_only=True)
class ExportSettings(StageSettings):
    """Settings of stage `export`, which writes a data set as files."""

    stage: ClassVar[str] = "export"

    dataset: DatasetDeclaration
    data_dir: str


@dataclass(frozen=True, kw_only=True)
class ReportSettings(StageSettings):
    """Settings of stage `report`; a report is always made anew."""

    stage: ClassVar[str] = "report"

    only: Only
    run: str | None
    images: int
    megabytes: float
    open: bool

    def plain(self) -> Options:
        return super().plain() | {"only": self.only.plain(), "force": self.force}

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        chosen = Only(**checked("", values.get("only"), only()))
        return super()._read(values) | {"only": chosen, "force": True}


@dataclass(frozen=True, kw_only=True)
class Settings(StageSettings):
    """Settings of stage `train`, and a part of those of the stages that explain networks.

    Attributes:
        alpha: the weight of the classification loss: of several models, or of the phases of one, a list.
        weights: the other weights of the model's loss.
        neurons: a share of the layer's units, or their numbers; None: all.
    """

    stage: ClassVar[str] = "train"

    dataset: DatasetDeclaration
    classifier: ClassifierDeclaration
    model: ModelDeclaration
    layer: OneOrMore
    neurons: float | list[int] | None
    seed: int
    device: str
    data_dir: str
    train_missing: bool
    format: OneOrMore
    weights: Mapping[str, float]
    alpha: float | list[float] | None
    trainer: Trainer

    def plain(self) -> Options:
        return super().plain() | dict(self.weights) | {"alpha": self.alpha, "trainer": self.trainer.plain()}

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        settings = super()._read(values)
        model: ModelDeclaration = settings["model"]
        alpha = values.get("alpha")
        if model.name in MODELS:  # a stand-in has no rule for its alpha
            alpha = converted("alpha", alpha, model.alpha, f" with model={model.name}")
        weights = _checked(values, model.weights)
        return settings | {"weights": weights, "alpha": alpha, "trainer": Trainer.of_plain(values.get("trainer"))}


@dataclass(frozen=True, kw_only=True)
class ExplainingSettings(Settings):
    """Settings that stages `explain` and `evaluate` share: explainers by name, images, and target class."""

    explainers: Mapping[str, ExplainerDeclaration]
    select: SelectionDeclaration
    target: OneOrMore
    map: str

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        explainers = _named("explainers", values.get("explainers"))
        components = {name: EXPLAINERS.recorded(options) for name, options in explainers.items()}
        return super()._read(values) | {"explainers": components}


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(ExplainingSettings):
    """Settings of stage `explain`."""

    stage: ClassVar[str] = "explain"

    image: OwnImages
    layout: Literal["auto", "rows", "columns"]
    overlay: bool

    def plain(self) -> Options:
        explainers = {name: explainer.plain() for name, explainer in self.explainers.items()}
        return super().plain() | {"image": self.image.plain(), "explainers": explainers}

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        rules = {"path": maybe(_TEXTS), "invert": OWN_IMAGE["invert"], "sha256": _TEXTS}
        return super()._read(values) | {"image": OwnImages(**checked("image.", values["image"], rules))}


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(ExplainingSettings):
    """Settings of stage `evaluate`; `unmeasured` are the names of explainers that no metric measures."""

    stage: ClassVar[str] = "evaluate"

    metrics: Mapping[str, MetricDeclaration]
    controls: bool
    unmeasured: list[str]

    def plain(self) -> Options:
        metrics = {name: metric.plain() for name, metric in self.metrics.items()}
        explainers = {name: explainer.plain() for name, explainer in self.explainers.items()}
        return super().plain() | {"metrics": metrics, "explainers": explainers, "unmeasured": self.unmeasured}

    @classmethod
    def _read(cls, values: Options) -> dict[str, Any]:
        metrics = _named("metrics", values.get("metrics"))
        components = {name: METRICS.recorded(options) for name, options in metrics.items()}
        return super()._read(values) | {
            "metrics": components,
            "unmeasured": converted("unmeasured", values["unmeasured"], _TEXTS),
        }


_TEXTS = Rule(
    "a list of texts",
    lambda value: raise_unless(isinstance(value, list) and all(isinstance(text, str) for text in value), value),
)


def _checked(values: Options, rules: Mapping[str, Rule]) -> Options:
    return checked("", {key: values[key] for key in rules if key in values}, rules)


def _named(key: str, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise InputError(f"{key} must be a group of keys, got {values!r}")
    return values


KINDS: dict[str, type[StageSettings]] = {
    kind.stage: kind for kind in (Settings, ExportSettings, ExplainSettings, EvaluateSettings, ReportSettings)
}
"""Stage -> the class of its settings."""


@overload
def of_plain(stage: Literal["train"], values: Any) -> Settings: ...


@overload
def of_plain(stage: str, values: Any) -> Any: ...


def of_plain(stage: str, values: Any) -> Any:
    """Return the settings that a run directory of a stage holds as plain values.

    Raises:
        InputError: there is no such stage, a key is missing, or one holds what it must not.
    """
    if stage not in KINDS:
        raise InputError(f"no stage '{stage}'")
    return KINDS[stage].of_plain(values)


def training_settings(settings: Settings, **changed: Any) -> Settings:
    """Return the settings of stage `train` among those of a stage that trains networks, with some changed."""
    values = {setting.name: getattr(settings, setting.name) for setting in fields(Settings)}
    return Settings(**(values | changed))
