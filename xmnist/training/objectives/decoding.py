"""Common part of the objectives of decoders: the codes of a layer, and the scores of reconstructions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from xmnist.data.base import Columns, Data, Source, Split
from xmnist.models.layers import Encoder, batched, quick_gradient
from xmnist.models.vae import LatentSpace
from xmnist.training.objectives.base import Judge, Keep, Part, Reconstruct, Task, fit_in_memory


@dataclass(frozen=True)
class Codes:
    """The codes of a layer of a frozen classifier.

    Attributes:
        first: the code of the first training image; shape and precision of a code are known from one only.
        keep: may return the codes of all training images from the last time, instead of computing them.
    """

    encoder: Encoder
    train: Split
    first: Tensor
    keep: Keep

    @classmethod
    def of(cls, explained: nn.Module, data: Data, layer: str, keep: Keep, dtype: torch.dtype | None = None) -> Self:
        """Return the codes of this layer, in the network's precision or another one."""
        encoder = Encoder(quick_gradient(explained), layer)
        first = batched(encoder, data.train.images[:1])
        return cls(encoder, data.train, first.to(dtype or first.dtype), keep)

    def __call__(self, images: Tensor, kept: Tensor | None) -> Tensor:
        """Return the codes of a batch, computed now where they were not kept."""
        if kept is not None:
            return kept
        with torch.no_grad():
            return self.encoder(images)

    def rows(self) -> Source:
        """Return training images and labels, with their codes if these can be kept."""
        source = self.train.source("images", "labels")
        if isinstance(source, Columns) and fit_in_memory(self.first, len(self.train)):
            # A frozen encoder gives the same codes in every epoch.
            codes = self.keep(lambda: batched(lambda part: self.encoder(part).to(self.first.dtype), self.train.images))
            return Columns(*source.columns, codes)
        return source


def fresh_encoder(fresh: nn.Module, layer: str, data: Data) -> tuple[Encoder, Tensor]:
    """Return an encoder that is trained with its decoder, and the code of the first training image."""
    encoder = Encoder(fresh.eval(), layer)  # eval: the computation of a first code must not move BatchNorm statistics
    return encoder, batched(encoder, data.train.images[:1])


def decoding(
    model: nn.Module,
    loss: Callable[..., Tensor],
    rows: Callable[[], Source],
    reconstruct: Reconstruct,
    explained: nn.Module,
    judge: Judge,
    latent: LatentSpace | None = None,
    parts: Sequence[Part] = (),
) -> Task:
    """Return the task of a model that reconstructs images; its history has the total loss as `loss`."""

    def test(split: Split) -> dict[str, float]:
        total: dict[str, float] = {}
        for part in split.parts():
            _, scores = judge(part, batched(explained, part.images))
            total = {name: total.get(name, 0.0) + values.sum().item() / len(split) for name, values in scores.items()}
        return total

    def watch(split: Split) -> dict[str, float]:
        scores = test(split)
        return {"loss": scores.pop("total_loss"), **scores}

    return Task(model, loss, rows, test, watch, (), reconstruct, explained, judge, latent, parts=parts)
