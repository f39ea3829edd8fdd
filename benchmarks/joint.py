"""One epoch of joint training against a bare loop of the same arithmetic on random tensors."""

import time
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Ratio, side_by_side
from benchmarks.train import CPU, OPTIONS, classifier, learning
from xmnist.data.base import Data, Info, Split
from xmnist.models import joint
from xmnist.models.layers import place
from xmnist.training import loop, objectives

BATCH = 64


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """Phases 2 (explainer alone) and 3 (both) of `vgg_small` with an explainer of width 16 and depth 2."""
    split = Split(torch.rand(images, 1, 28, 28), torch.randint(10, (images,)))
    for phase, frozen in ((2, ("classifier",)), (3, ())):

        def floor(frozen: tuple[str, ...] = frozen) -> float:
            return _bare(split.images, split.labels, frozen)

        def ours(frozen: tuple[str, ...] = frozen) -> float:
            return _program(split, frozen)

        yield side_by_side(f"train steps, joint phase {phase}, batch {BATCH}, fp32", floor, ours, rounds)


def _network() -> joint.Joint:
    model = joint.Joint(classifier(), joint.Explainer((1, 28, 28), 16, 2, 3.0))
    place(model, CPU)
    return model


def _program(split: Split, frozen: tuple[str, ...]) -> float:
    """Seconds of an epoch of `tasks.joint` in `trainer.fit`; looking at the validation images is not counted."""
    model, few = _network(), split[:10]
    data = Data(split, few, few, Info((1, 28, 28), tuple("0123456789")))
    task = objectives.joint.joint(model, data, frozen, 0.9, 0.9, 1.0, "unsupervised")
    task.prepare()
    rates = {"classifier": 1e-3, "explainer": 1e-3}
    own = learning({**OPTIONS, "batch_size": BATCH, "precision": "fp32", "lr": rates, "figures": task.figures})
    return loop.fit(model, task.loss, task.rows(), lambda: task.watch(few), **own)[0]["seconds"]


def _bare(images: Tensor, labels: Tensor, frozen: tuple[str, ...]) -> float:
    """Seconds of the same arithmetic: two networks, four products and sums, one optimiser."""
    model = _network()
    model.freeze(*frozen)
    model.train()
    own, explainer = model.classifier, model.explainer
    descent = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, fused=True)
    start = time.perf_counter()
    for rows in torch.randperm(len(images)).split(BATCH):
        x = images[rows]
        z = explainer(x)
        features = own.stem[3](own.stem[:3](own.normalize(x)) * z)
        features = own.conv[3](own.conv[:3](features) * F.avg_pool2d(z, 2))
        logits = own.logits(own.dense(own.dropout(own.flatten(features))))
        variation = z.diff(dim=2).abs().mean() + z.diff(dim=3).abs().mean()
        loss = 0.9 * F.cross_entropy(logits, labels[rows]) + 0.1 * (0.9 * z.abs().mean() + 0.1 * variation)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()
    return time.perf_counter() - start
