"""How well a classifier does; torchmetrics does the work."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and mean cross-entropy of logits (N, K) for true labels (N,)."""
    return {
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "loss": F.cross_entropy(logits, labels).item(),
    }


@dataclass(frozen=True)
class Curve:
    """Points (P,) of a curve from threshold to threshold, and the area under it."""

    name: str
    x: Tensor
    y: Tensor
    area: float


POINTS = 300
"""How many points of a curve are kept at most."""


def corners(curve: Curve) -> Curve:
    """The same curve without the points on a straight line between others; of very many corners, evenly many.

    The area stays that of all points.
    """
    steps = torch.stack([curve.x, curve.y], 1).double().diff(dim=0)
    turns = (steps[1:, 0] * steps[:-1, 1] - steps[1:, 1] * steps[:-1, 0]).abs() > 1e-12
    kept = torch.cat([torch.ones(1, dtype=torch.bool), turns, torch.ones(1, dtype=torch.bool)])
    kept = kept.nonzero()[:, 0] if len(steps) > 1 else torch.arange(len(curve.x))
    if len(kept) > POINTS:
        kept = kept[torch.linspace(0, len(kept) - 1, POINTS).round().long()]
    return replace(curve, x=curve.x[kept], y=curve.y[kept])


@dataclass(frozen=True)
class Report:
    """What a classifier gets right and wrong, class by class.

    `rows` has, for each class and for `micro`, `macro` and `weighted` means: precision, recall, f1, support, auc (area
    under the ROC curve) and ap (average precision). `confusion` (K, K) counts images, a row for each true class. The
    curves are one for each class and the `micro` mean, which takes every image and class as one decision.
    """

    rows: list[dict[str, Any]]
    confusion: Tensor
    roc: list[Curve]
    precision_recall: list[Curve]


def report(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Report:
    """The report of logits (N, K) for true labels (N,); figures of a class without an image are NaN."""
    from torchmetrics.functional import classification as tm

    logits, labels, count = logits.detach().cpu(), labels.cpu(), len(classes)
    scores, there = logits.double().softmax(1), F.one_hot(labels, count)
    seen, support = logits.argmax(1), there.sum(0)
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    measures = {
        "precision": tm.multiclass_precision,
        "recall": tm.multiclass_recall,
        "f1": tm.multiclass_f1_score,
    }
    table = {n: f(seen, labels, count, average="none").double().where(support > 0, nan) for n, f in measures.items()}
    table["support"] = support.double()
    roc = [_roc(name, scores[:, k], there[:, k]) for k, name in enumerate(classes)]
    pr = [_precision_recall(name, scores[:, k], there[:, k]) for k, name in enumerate(classes)]
    table["auc"] = torch.tensor([curve.area for curve in roc], dtype=torch.float64)
    table["ap"] = torch.tensor([curve.area for curve in pr], dtype=torch.float64)
    roc.append(_roc("micro", scores.flatten(), there.flatten()))
    pr.append(_precision_recall("micro", scores.flatten(), there.flatten()))
    right = (seen == labels).double().mean().item()  # with one class an image, precision, recall and F1 are the same
    micro = {"precision": right, "recall": right, "f1": right, "auc": roc[-1].area, "ap": pr[-1].area}
    macro = {name: column.nanmean().item() for name, column in table.items()}
    shares = support / support.sum()
    weighted = {name: (column.nan_to_num() * shares).sum().item() for name, column in table.items()}
    rows = [
        {"class": name} | {column: values[k].item() for column, values in table.items()}
        for k, name in enumerate(classes)
    ]
    rows += [
        {"class": name} | means | {"support": float(len(labels))}
        for name, means in (("micro", micro), ("macro", macro), ("weighted", weighted))
    ]
    rows = [{name: row[name] for name in ("class", *table)} for row in rows]
    return Report(rows, tm.multiclass_confusion_matrix(seen, labels, count), roc, pr)


def _roc(name: str, scores: Tensor, there: Tensor) -> Curve:
    from torchmetrics.functional import classification as tm
    from torchmetrics.utilities.compute import auc

    if not 0 < there.sum() < len(there):
        return Curve(name, torch.empty(0), torch.empty(0), float("nan"))
    false, true, _ = tm.binary_roc(scores, there)
    return Curve(name, false, true, auc(false, true).item())


def _precision_recall(name: str, scores: Tensor, there: Tensor) -> Curve:
    from torchmetrics.functional import classification as tm

    if not there.any():
        return Curve(name, torch.empty(0), torch.empty(0), float("nan"))
    precision, recall, _ = tm.binary_precision_recall_curve(scores, there)
    return Curve(name, recall, precision, tm.binary_average_precision(scores, there).item())
