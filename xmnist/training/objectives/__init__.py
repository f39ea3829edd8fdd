"""Training objectives: network, loss, data and scores of each kind of model, in one module a family."""

from importlib import import_module
from pkgutil import iter_modules

import torch

from xmnist.config.kinds import ModelDeclaration
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed
from xmnist.training.objectives.base import OBJECTIVES, Task, TrainingContext

__all__ = ["Task", "TrainingContext", "tasks"]

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def check(model: ModelDeclaration) -> None:
    """Check that a kind of model can be trained.

    Raises:
        InputError: it has no objective.
    """
    if model.name not in OBJECTIVES:
        raise InputError(f"model={model.name} has no training objective: a function declared by @xmnist.objective")


def tasks(context: TrainingContext) -> list[Task]:
    """Return the tasks of a training, with freshly initialised weights: one for each phase of its model."""
    model = context.settings.model
    # A seed of its own, so that the weights depend on nothing that was drawn before.
    torch.manual_seed(derive_seed(context.settings.seed, f"initial weights of {model.name}"))
    return OBJECTIVES[model.name](model, context)
