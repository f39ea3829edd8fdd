"""Train and explain image classifiers, and measure how faithful the explanations are.

What declares components of one's own (docs/extending.md) is here, and imported when it is asked for: without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmnist.config.declarations import Column as Column
    from xmnist.config.rules import choice as choice
    from xmnist.config.rules import number as number
    from xmnist.config.rules import whole as whole
    from xmnist.data.base import Split as Split
    from xmnist.data.dataset import dataset as dataset
    from xmnist.explainers.base import Heatmap as Heatmap
    from xmnist.explainers.base import explainer as explainer
    from xmnist.metrics.base import metric as metric
    from xmnist.models.base import classifier as classifier
    from xmnist.models.kinds.base import model as model
    from xmnist.training.objectives.base import objective as objective

__version__ = "0.1.0"

_PLACES = {
    "Column": "config.declarations",
    **dict.fromkeys(("choice", "number", "whole"), "config.rules"),
    "Split": "data.base",
    "dataset": "data.dataset",
    **dict.fromkeys(("Heatmap", "explainer"), "explainers.base"),
    "metric": "metrics.base",
    "classifier": "models.base",
    "model": "models.kinds.base",
    "objective": "training.objectives.base",
}
"""Public name -> the module that has it."""

__all__ = [*_PLACES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'xmnist' has no attribute {name!r}")
    return getattr(import_module(f"xmnist.{_PLACES[name]}"), name)
