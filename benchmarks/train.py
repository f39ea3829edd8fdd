"""Training steps, and whole epochs, against a bare loop of the same arithmetic on random tensors."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Ratio, side_by_side
from xmnist.config.schema import TRAINING
from xmnist.config.trainer import Training
from xmnist.data.base import Data, Info, Split
from xmnist.models import base, decoders
from xmnist.models.layers import freeze, place
from xmnist.runtime import devices
from xmnist.training import loop, objectives

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {
    **{"seed": 0, "epochs": 1, "optimizer": "adamw", "weight_decay": 0.01, "eps": 1e-8, "momentum": 0.9},
    **{"schedule": "one_cycle", "warmup": 0.3, "step_epochs": 1, "factor": 0.1, "patience": 2, "keep": "best"},
    **{"stop_patience": None, "stop_delta": 0.0, "min_lr": 0.0, "lr": 1e-3},
}


def learning(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `loop.fit` from keys of `trainer`, with others beside them."""
    return {key: value for key, value in options.items() if key not in TRAINING} | vars(Training.of(options))


CODES = {"dense": (128,), "conv": (64, 7, 7)}


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """Classifier, RefAE and ClaDec with the batches of `trainer=default`, in both precisions."""
    data = _data(images)
    for precision in ("fp32", "bf16"):
        for name, batch in (("classifier", 128), ("refae dense", 32), ("cladec dense", 32), ("cladec conv", 32)):
            for whole in (False, True):
                floor = _bare(name, data, batch, precision, whole)
                ours = program(name, data, batch, precision, whole)
                what = f"train {'epoch' if whole else 'steps'}, {name}, batch {batch}, {precision}"
                yield side_by_side(what, floor, ours, rounds)


def _data(images: int) -> Data:
    def split(count: int) -> Split:
        return Split(torch.rand(count, 1, 28, 28), torch.randint(10, (count,)))

    return Data(split(images), split(images // 20), split(10), Info((1, 28, 28), tuple("0123456789")))


def classifier() -> nn.Module:
    """A fresh `vgg_small`."""
    torch.manual_seed(0)
    return place(base.made({"name": "vgg_small", "dropout": 0.5}).build((1, 28, 28), 10), CPU)


def _task(name: str, data: Data, precision: str) -> objectives.Task:
    kind, _, layer = name.partition(" ")
    if kind == "classifier":
        return objectives.classifier.classifier(classifier(), data)
    options = {"layer": layer, "decoder": "published", "reconstruction": "sse"}
    if kind == "refae":
        return objectives.cladec.refae(freeze(classifier()), classifier(), data, **options)
    return objectives.cladec.cladec(freeze(classifier()), data, alpha=0.25, precision=precision, **options)


def program(name: str, data: Data, batch: int, precision: str, whole: bool) -> Callable[[], float | None]:
    """One epoch of a `classifier`, `refae LAYER` or `cladec LAYER` in the program; answers how long its steps took.

    With `whole` everything counts: the codes, the validation and the state that is saved, too.
    """
    task = _task(name, data, precision)

    def run() -> float | None:
        own = learning({**OPTIONS, "batch_size": batch, "precision": precision, "figures": task.figures})
        history = loop.fit(task.model, task.loss, task.rows(), lambda: task.watch(data.validation), **own)
        return None if whole else history[0]["seconds"]

    return run


def _bare(name: str, data: Data, batch: int, precision: str, whole: bool) -> Callable[[], float | None]:
    """The same products and sums: forward, backward, update; with `whole` also the forward passes of the validation."""
    kind, _, layer = name.partition(" ")
    explained, train, held = freeze(classifier()), data.train, data.validation.images
    codes = torch.rand(len(train), *CODES[layer]) if kind == "cladec" else train.images
    model: nn.Module = classifier() if kind == "classifier" else place(_decoder(layer), CPU)
    if kind == "refae":
        model = nn.Sequential(place(_encoder(), CPU), model)
    descent = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)

    def loss(code: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        answer = model(code)
        if kind == "classifier":
            return F.cross_entropy(answer, labels)
        error = (answer - images).square().sum((1, 2, 3)).mean()
        return error if kind == "refae" else 0.75 * error + 0.25 * F.cross_entropy(explained(answer), labels)

    def run() -> float | None:
        model.train()
        if whole and kind == "cladec":
            _forwards(explained, train.images)
        for rows in torch.randperm(len(train)).split(batch):
            with devices.autocast(precision, CPU):
                value = loss(codes[rows], train.images[rows], train.labels[rows])
            descent.zero_grad(set_to_none=True)
            value.backward()
            descent.step()
        if whole:
            model.eval()
            for _ in range(1 if kind == "classifier" else 3):  # a decoder's code, and both images' logits
                _forwards(explained, held)
        return None

    return run


@torch.no_grad()
def _forwards(network: nn.Module, images: Tensor) -> None:
    for part in images.split(250):
        network(part)


def _decoder(layer: str) -> nn.Module:
    return decoders.build("published", CODES[layer], (1, 28, 28))


def _encoder() -> nn.Module:
    whole = classifier()
    assert isinstance(whole, nn.Sequential)
    return nn.Sequential(*list(whole.children())[:-1])
