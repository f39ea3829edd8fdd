"""Common part of all training objectives: what they are given, what they return, and their table by kind of model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from xmnist.config.derived import phases
from xmnist.config.kinds import MODELS, ModelDeclaration
from xmnist.config.settings import Settings
from xmnist.data.base import Data, Source, Split
from xmnist.models.base import new_classifier
from xmnist.models.layers import fit_normalisation, place
from xmnist.models.vae import LatentSpace
from xmnist.runtime import devices
from xmnist.runtime.errors import InputError

CODES_AT_MOST = 2**30
"""Bytes that the codes or maps of all training images may take; above this limit, each batch computes its own."""


Reconstruct = Callable[[Tensor], Tensor]
"""Images (N, C, H, W) to images of the same shape."""


Figures = Callable[[Split], dict[str, float]]
"""A split to its scores, by name."""


Judge = Callable[[Split, Tensor], tuple[Tensor, dict[str, Tensor]]]
"""A few images and the explained classifier's logits on them to their reconstructions, and the scores (N,) of each."""


Keep = Callable[[Callable[[], Tensor]], Tensor]
"""Returns a function's result, from the last time where it is still there."""


@dataclass(frozen=True)
class Part:
    """A part of a model with a table of its own: its name, and the dotted names of the modules in it that are gates."""

    name: str
    network: nn.Module
    gates: Sequence[str] = ()


@dataclass(frozen=True)
class Task:
    """A network and all that the loop needs to train it.

    Attributes:
        rows: returns the rows that batches are cut from.
        loss: the mean loss of such a batch and, after it, the mean `figures`.
        test: the figures on a split that a finished run reports.
        watch: the figures on a split that its history has, with the `loss`.
        reconstruct: its reconstructions, for a model that reconstructs images.
        explained: the classifier that judges reconstructions.
        judge: the scores of reconstructions.
        latent: the latent space of a variational model.
        maps: the attribution maps (N, 1, H, W) of images, for a model that computes them itself.
        classifier: the network in it that trained weights can initialise.
        prepare: called before the training.
        parts: the parts that its table lists one by one.
    """

    model: nn.Module
    loss: Callable[..., Tensor]
    rows: Callable[[], Source]
    test: Figures
    watch: Figures
    figures: tuple[str, ...] = ()
    reconstruct: Reconstruct | None = None
    explained: nn.Module | None = None
    judge: Judge | None = None
    latent: LatentSpace | None = None
    maps: Callable[[Tensor], Tensor] | None = None
    classifier: nn.Module | None = None
    prepare: Callable[[], None] = lambda: None
    parts: Sequence[Part] = ()


@dataclass(frozen=True)
class TrainingContext:
    """The inputs of a training.

    Attributes:
        settings: of its run.
        images: the data, on the device.
        explained: the finished network of which it decodes a layer, frozen; None for other models.
        keep: may return the codes of all training images in a precision from the last time, instead of computing them.
    """

    settings: Settings
    images: Data
    explained: nn.Module | None = None
    keep: Callable[[str, Callable[[], Tensor]], Tensor] = lambda precision, make: make()

    @property
    def basis(self) -> nn.Module:
        """The finished network of which it decodes a layer.

        Raises:
            TypeError: it decodes none.
        """
        if self.explained is None:
            raise TypeError(f"{self.settings.model.name} stands on no network")
        return self.explained

    @property
    def alpha(self) -> float:
        """The weight of the classification loss; 0 for a model that has none."""
        return self.settings.alpha if isinstance(self.settings.alpha, float) else 0.0

    @property
    def precision(self) -> str:
        """The precision of its training on this device."""
        return find_precision(self.settings, self.images.train.labels.device)

    @property
    def decoding(self) -> dict[str, Any]:
        """The layer that it decodes, with what chooses the units in it."""
        settings = self.settings
        return {"layer": settings.layer, "neurons": settings.neurons, "seed": settings.seed}

    def fresh(self, network: nn.Module | None = None) -> nn.Module:
        """Return a fresh network, by default the classifier of the settings, normalised to the training images."""
        model = new_classifier(self.settings, self.images.info) if network is None else network
        fit_normalisation(model, self.images.train.images)
        return place(model, self.images.train.labels.device)


def find_precision(settings: Settings, device: torch.device) -> str:
    """Return the precision of a training on a device.

    Raises:
        InputError: the device does not support it.
    """
    return devices.find_precision(phases(settings)[0].precision, device)


K = TypeVar("K", bound=ModelDeclaration)
Make = Callable[[K, TrainingContext], list[Task]]
"""A kind of model with its options, and the inputs of its training, to its tasks: one for each phase."""

OBJECTIVES: dict[str, Make[Any]] = {}
"""The training objectives, by the name of the kind of model."""


def objective(*kinds: type[K]) -> Callable[[Make[K]], Make[K]]:
    """Declare a function as the training objective of kinds of model of the same package, or plug-in file.

    Raises:
        InputError: a class is no declared kind of model, is declared elsewhere, or has an objective already.
    """

    def declare(make: Make[K]) -> Make[K]:
        for kind in kinds:
            # An objective from elsewhere would change the results of runs whose names do not tell of it.
            same = kind.__module__.split(".")[0] == make.__module__.split(".")[0]
            if not same or MODELS.get(kind.name) is not kind or kind.name in OBJECTIVES:
                raise InputError(f"objective of {kind.__name__}: it must be declared by @xmnist.model in the same file")
            OBJECTIVES[kind.name] = make
        return make

    return declare


def fit_in_memory(row: Tensor, count: int) -> bool:
    """Return whether `count` such rows may be kept in memory."""
    return row.numel() * row.element_size() * count <= CODES_AT_MOST
