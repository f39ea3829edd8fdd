"""Base classes of all metrics: their inputs and their results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from xmnist.config.declarations import METRICS, Column, MetricDeclaration
from xmnist.config.groups import of_function
from xmnist.metrics import panels
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import Tensor, nn, np, pd, torch

if TYPE_CHECKING:
    from xmnist.data.base import Info
    from xmnist.explainers.configured import ConfiguredExplainer

Tables = dict[str, "pd.DataFrame"]
"""Rows of each table, by the table's name."""


@dataclass(frozen=True)
class MapContext:
    """The inputs of a metric beside the maps (K, 1, H, W) of an explainer.

    Attributes:
        network: the explained network, in eval mode.
        explainer: the explainer of the maps.
        images, labels, targets: the chosen images (K, C, H, W), their true classes (K,), and the explained ones (K,).
        masks: (K, 1, H, W), true on the object; None where the data set has none.
        numbers: the images' numbers (K,) in the test set.
        seed: seed of all random numbers.
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
    """A metric with its rows, scores and charts."""

    def check(self, info: Info, device: str) -> None:
        """Check that this metric can be computed for this data set on this device.

        Raises:
            InputError: says why not.
        """

    @classmethod
    def scores(cls, rows: pd.DataFrame) -> pd.DataFrame:
        """Return one value per image and score, by name and image: means over all other columns."""
        name = "model" if "model" in rows else "explainer"
        present = [column.name for column in cls.columns if column.name in rows]
        return rows.groupby([name, "image"], sort=False)[present].mean()

    def details(self, rows: pd.DataFrame, names: Sequence[str], seed: int) -> dict[str, tuple[pd.DataFrame, str]]:
        """Return further tables that summarise the rows, each with its text for people."""
        return {}

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Return its charts, by file name."""
        scores = [column.name for column in self.columns]
        return {self.name: panels.bars(summary, "explainer", scores, subject.chosen)}


@dataclass(frozen=True, kw_only=True, eq=False)
class MapMetric(Metric):
    """A metric of the maps of explainers."""

    measures: ClassVar = "maps"

    def check_chosen(self, masks: Tensor | None) -> None:
        """Check that this metric can be computed for the chosen images.

        Raises:
            InputError: none of them can.
        """

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        """Return the rows of maps (K, 1, H, W), by table."""
        raise TypeError(f"{type(self).__name__} measures nothing by itself")


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfFunction(MapMetric):
    """A metric computed by a function of `maps` and of attributes of `MapContext`: a value (K,) for each column."""

    function: ClassVar[Callable[..., dict[str, Tensor]]]

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        known = {**vars(context), "maps": maps, "context": context}
        # Keyword-only parameters are the metric's settings; the others are named after its inputs.
        wanted = [
            parameter.name
            for parameter in inspect.signature(self.function).parameters.values()
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
        ]
        scores = self.function(**{name: known[name] for name in wanted}, **self.options())
        declared = [column.name for column in self.columns]
        for name, values in scores.items():
            if name not in declared:
                raise InputError(
                    f"metric {self.name} answers with '{name}', which is none of its columns: {', '.join(declared)}"
                )
            if not isinstance(values, torch.Tensor) or values.shape != (len(maps),):
                shape = tuple(getattr(values, "shape", ()))
                raise InputError(f"metric {self.name}: '{name}' has the shape {shape}, where it is one value a map")
        return {self.name: pd.DataFrame({"image": context.numbers} | {n: column_of(v) for n, v in scores.items()})}


M = TypeVar("M")


def metric(name: str, *, columns: Sequence[Column | str], **about: Any) -> Callable[[M], M]:
    """Declare a class, or a function of maps and attributes of `MapContext`, as the metric of this name.

    Args:
        columns: its scores, or their names.
        about: more of its declaration, as attributes of `MetricDeclaration`.

    Raises:
        InputError: there is a metric of this name already, a key has no type, or a function has an unknown input.
    """
    as_columns = tuple(Column(column) if isinstance(column, str) else column for column in columns)

    def declare(declared: Any) -> Any:
        kind = declared if inspect.isclass(declared) else of_function(_OfFunction, declared)
        if kind is not declared:
            # A wrong name is reported when the metric is declared, not after maps have been computed.
            inputs = [*MapContext.__annotations__, "maps", "context"]
            for parameter in inspect.signature(declared).parameters.values():
                if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and parameter.name not in inputs:
                    raise InputError(
                        f"metric '{name}': '{parameter.name}' is nothing that a metric is given ({', '.join(inputs)})"
                    )
        METRICS.declare(kind, name, **({"columns": as_columns, "table": name} | about))  # type: ignore[arg-type]
        return declared

    return declare


def column_of(values: Tensor) -> np.ndarray:
    """Return values (N,) as a column of a table, in float64."""
    return values.detach().cpu().double().numpy()
