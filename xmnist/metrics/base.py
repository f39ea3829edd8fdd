"""What all metrics share: what they are given, and what they answer with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from xmnist.config.components import of_function
from xmnist.config.declarations import METRICS, Column, MetricDeclaration
from xmnist.metrics import panels
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, nn, np, pd, torch

if TYPE_CHECKING:
    from xmnist.data.base import Info
    from xmnist.explainers.configured import ConfiguredExplainer

Tables = dict[str, "pd.DataFrame"]
"""Rows by the table that they belong to."""


@dataclass(frozen=True)
class MapContext:
    """What a metric may look at beside the maps (K, 1, H, W) of an explainer.

    Attributes:
        network: what is explained, in eval mode.
        explainer: what made the maps.
        images, labels, targets: the chosen images (K, C, H, W), their true classes (K,), and the explained ones (K,).
        masks: (K, 1, H, W), true on the object; None where the data set has none.
        numbers: the images' numbers (K,) in the test set.
        seed: of everything that is drawn.
    """

    network: nn.Module
    explainer: ConfiguredExplainer
    images: Tensor
    labels: Tensor
    targets: Tensor
    masks: Tensor | None
    numbers: np.ndarray
    seed: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Metric(MetricDeclaration):
    """A metric with its rows and figures."""

    def check(self, info: Info, device: str) -> None:
        """Find out whether images of these can be measured.

        Raises:
            InputError: says why not.
        """

    @classmethod
    def scores(cls, rows: pd.DataFrame) -> pd.DataFrame:
        """One value an image and score, by name and image: the means over what else rows differ in."""
        name = "model" if "model" in rows else "explainer"
        own = [column.name for column in cls.columns if column.name in rows]
        return rows.groupby([name, "image"], sort=False)[own].mean()

    def details(self, rows: pd.DataFrame, names: Sequence[str], seed: int) -> dict[str, tuple[pd.DataFrame, str]]:
        """More tables that are summed up from the rows, each with its text for people."""
        return {}

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Its figures, by file name."""
        shown = [column.name for column in self.columns]
        return {self.name: panels.bars(summary, "explainer", shown, subject.chosen)}


@dataclass(frozen=True, kw_only=True, eq=False)
class MapMetric(Metric):
    """A metric of the maps of explainers."""

    measures: ClassVar = "maps"

    def check_chosen(self, masks: Tensor | None) -> None:
        """Find out whether the chosen images can be measured.

        Raises:
            InputError: none of them can.
        """

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        """Rows of maps (K, 1, H, W), by table."""
        raise TypeError(f"{type(self).__name__} measures nothing by itself")


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfFunction(MapMetric):
    """A metric that a function of what `MapContext` has, and of `maps`, computes: a value (K,) for each column."""

    function: ClassVar[Callable[..., dict[str, Tensor]]]

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        known = {**vars(context), "maps": maps, "context": context}
        wanted = [
            each.name
            for each in inspect.signature(self.function).parameters.values()
            if each.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        found = self.function(**{name: known[name] for name in wanted}, **self.options())
        declared = [column.name for column in self.columns]
        for name, values in found.items():
            if name not in declared:
                raise InputError(
                    f"metric {self.name} answers with '{name}', which is none of its columns: {', '.join(declared)}"
                )
            if not isinstance(values, torch.Tensor) or values.shape != (len(maps),):
                shape = tuple(getattr(values, "shape", ()))
                raise InputError(f"metric {self.name}: '{name}' has the shape {shape}, where it is one value a map")
        return {self.name: pd.DataFrame({"image": context.numbers} | {n: column_of(v) for n, v in found.items()})}


M = TypeVar("M")


def metric(name: str, *, columns: Sequence[Column | str], **about: Any) -> Callable[[M], M]:
    """Declare a class, or a function of maps and what else `MapContext` has, as the metric of this name.

    Args:
        columns: its scores, or their names.
        about: what else there is to say of it, as attributes of `MetricDeclaration`.

    Raises:
        InputError: there is a metric of this name already, a key has no type, or a function wants what there is not.
    """
    own = tuple(Column(each) if isinstance(each, str) else each for each in columns)

    def declare(declared: Any) -> Any:
        kind = declared if inspect.isclass(declared) else of_function(_OfFunction, declared)
        if kind is not declared:
            there = [*MapContext.__annotations__, "maps", "context"]
            for each in inspect.signature(declared).parameters.values():
                if each.kind is not inspect.Parameter.KEYWORD_ONLY and each.name not in there:
                    raise InputError(
                        f"metric '{name}': '{each.name}' is nothing that a metric is given ({', '.join(there)})"
                    )
        METRICS.declare(kind, name, **({"columns": own, "table": name} | about))  # type: ignore[arg-type]
        return declared

    return declare


def column_of(values: Tensor) -> np.ndarray:
    """A column of a table: values (N,) in float64."""
    return values.detach().cpu().double().numpy()
