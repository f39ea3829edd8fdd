"""Libraries that take long to import, imported when one of their names is first used.

Modules that declare components import them from here, so that declarations are read in milliseconds:

    from xmnist.runtime.lazy import F, Tensor, torch

`Tensor` is for annotations; classes that derive from one of a library belong into modules that import it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from captum import attr
    from torch import Tensor, fx, nn
    from torch.nn import functional as F
else:
    # Not the libraries themselves: each attribute imports its library when it is first read.
    class _Library:
        def __init__(self, name: str) -> None:
            self.__name__ = name

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self.__name__), name)

    np, pd, torch = map(_Library, ("numpy", "pandas", "torch"))
    attr, fx, nn, F = map(_Library, ("captum.attr", "torch.fx", "torch.nn", "torch.nn.functional"))
    Tensor = "torch.Tensor"

__all__ = ["F", "Tensor", "attr", "fx", "nn", "np", "pd", "torch"]
