"""Scores of a classifier, computed with torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from xmnist.config.declarations import Column
from xmnist.metrics import panels
from xmnist.metrics.base import Metric, Tables, column_of, metric
from xmnist.metrics.panels import Bars, Confusion, Lines, Panel, Series
from xmnist.runtime.lazy import F, Tensor, pd, torch


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return accuracy and mean cross-entropy of logits (N, K) for true labels (N,)."""
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
"""Largest number of points that are kept of a curve."""


def corners(curve: Curve) -> Curve:
    """Return the curve without points on a straight line between others; of more than `POINTS` corners, evenly many.

    The area remains that of all points.
    """
    steps = torch.stack([curve.x, curve.y], 1).double().diff(dim=0)
    # The cross product of two steps is 0 where their three points are on a line.
    turns = (steps[1:, 0] * steps[:-1, 1] - steps[1:, 1] * steps[:-1, 0]).abs() > 1e-12
    kept = torch.cat([torch.ones(1, dtype=torch.bool), turns, torch.ones(1, dtype=torch.bool)])
    kept = kept.nonzero()[:, 0] if len(steps) > 1 else torch.arange(len(curve.x))
    if len(kept) > POINTS:
        kept = kept[torch.linspace(0, len(kept) - 1, POINTS).round().long()]
    return replace(curve, x=curve.x[kept], y=curve.y[kept])


@dataclass(frozen=True)
class Report:
    """Scores of a classifier, class by class.

    `rows` has, for each class and for `micro`, `macro` and `weighted` means: precision, recall, f1, support, auc (area
    under the ROC curve) and ap (average precision). `confusion` (K, K) counts images, a row for each true class. The
    curves are one for each class and the `micro` mean, which takes every image and class as one decision.
    """

    rows: list[dict[str, Any]]
    confusion: Tensor
    roc: list[Curve]
    precision_recall: list[Curve]


def report(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Report:
    """Return the report of logits (N, K) for true labels (N,); scores of a class without an image are NaN."""
    from torchmetrics.functional import classification as tm

    logits, labels, count = logits.detach().cpu(), labels.cpu(), len(classes)
    # In float64, since float32 rounds many confident probabilities to 1, which a curve could not rank.
    scores, one_hot = logits.double().softmax(1), F.one_hot(labels, count)
    predicted, support = logits.argmax(1), one_hot.sum(0)
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    measures = {
        "precision": tm.multiclass_precision,
        "recall": tm.multiclass_recall,
        "f1": tm.multiclass_f1_score,
    }
    table = {
        n: f(predicted, labels, count, average="none").double().where(support > 0, nan) for n, f in measures.items()
    }
    table["support"] = support.double()
    roc = [_roc(name, scores[:, k], one_hot[:, k]) for k, name in enumerate(classes)]
    pr = [_precision_recall(name, scores[:, k], one_hot[:, k]) for k, name in enumerate(classes)]
    table["auc"] = torch.tensor([curve.area for curve in roc], dtype=torch.float64)
    table["ap"] = torch.tensor([curve.area for curve in pr], dtype=torch.float64)
    roc.append(_roc("micro", scores.flatten(), one_hot.flatten()))
    pr.append(_precision_recall("micro", scores.flatten(), one_hot.flatten()))
    # With one class an image, precision, recall and F1 are the same.
    right = (predicted == labels).double().mean().item()
    micro = {"precision": right, "recall": right, "f1": right, "auc": roc[-1].area, "ap": pr[-1].area}
    macro = {name: column.nanmean().item() for name, column in table.items()}
    shares = support / support.sum()
    # A class without an image has weight 0, with which a NaN would still spoil the sum.
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
    return Report(rows, tm.multiclass_confusion_matrix(predicted, labels, count), roc, pr)


def _roc(name: str, scores: Tensor, positive: Tensor) -> Curve:
    from torchmetrics.functional import classification as tm
    from torchmetrics.utilities.compute import auc

    # Its two rates are shares of the images of the class and of the others: there must be both.
    if not 0 < positive.sum() < len(positive):
        return Curve(name, torch.empty(0), torch.empty(0), float("nan"))
    false, true, _ = tm.binary_roc(scores, positive)
    return Curve(name, false, true, auc(false, true).item())


def _precision_recall(name: str, scores: Tensor, positive: Tensor) -> Curve:
    from torchmetrics.functional import classification as tm

    if not positive.any():
        return Curve(name, torch.empty(0), torch.empty(0), float("nan"))
    precision, recall, _ = tm.binary_precision_recall_curve(scores, positive)
    return Curve(name, recall, precision, tm.binary_average_precision(scores, positive).item())


@metric(
    "classification",
    columns=[Column("accuracy", better="higher"), Column("loss", better="lower")],
    help="the classifier itself: confusion matrix, precision, recall, F1, ROC, average precision",
    measures="classifier",
    table="classifier",
)
class Classification(Metric):
    """Scores of the classifier, class by class, on all test images."""

    measures: ClassVar = "classifier"

    def measure(self, logits: Tensor, labels: Tensor, classes: Sequence[str]) -> Tables:
        """Return rows by image (`classifier`) and class (`classification`), the confusion matrix, and points of curves.

        Args:
            logits, labels: (N, K) and (N,).
            classes: names (K,).
        """
        result = report(logits, labels, classes)
        losses = F.cross_entropy(logits, labels, reduction="none")
        by_image = {"accuracy": column_of((logits.argmax(1) == labels).float()), "loss": column_of(losses)}
        confusion = pd.DataFrame(result.confusion.numpy(), columns=list(classes))
        confusion.insert(0, "true", list(classes), allow_duplicates=True)
        return {
            "classification": pd.DataFrame(result.rows),
            "classifier": pd.DataFrame({"model": "classifier", "image": range(len(labels)), **by_image}),
            "confusion": confusion,
            "classification_curves": pd.concat(
                pd.DataFrame(
                    {"curve": kind, "class": c.name, "mean": index == len(classes), "area": c.area}
                    | {"x": c.x.numpy(), "y": c.y.numpy()}
                )
                for kind, curves in (("roc", result.roc), ("precision_recall", result.precision_recall))
                for index, c in enumerate(map(corners, curves))
            ),
        }

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Return charts: confusion matrix, scores by class, ROC and precision-recall curves."""
        rows, title = tables["classification"].set_index("class"), subject.title
        places, names = list(range(len(rows))), [str(name) for name in rows.index]
        by_class = [
            Panel(score, "higher is better", "", [Series(score, places, list(rows[column]))], names)
            for column, score in (
                ("precision", "precision"),
                ("recall", "recall"),
                ("f1", "F1"),
                ("ap", "average precision"),
            )
        ]
        curves = tables["classification_curves"]
        roc, pr = (_lines(curves[curves["curve"] == kind], area) for kind, area in _AREAS.items())
        counts = tables["confusion"].drop(columns="true")
        return {
            "confusion": Confusion(counts.to_numpy(), [str(name) for name in counts], title),
            "classes": Bars(by_class, title),
            "roc": Lines([[Panel("ROC", "false positive rate", "true positive rate", roc, square=True)]], title),
            "precision_recall": Lines([[Panel("precision and recall", "recall", "precision", pr, square=True)]], title),
        }


_AREAS = {"roc": "AUC", "precision_recall": "AP"}
"""Name of the area under each curve."""


def _lines(rows: pd.DataFrame, area: str) -> list[Series]:
    """Return one line per class and their mean; only the mean for more than twenty classes."""
    groups = [
        (str(name), bool(part["mean"].iloc[0]), part) for name, part in rows.groupby(["class", "mean"], sort=False)
    ]
    drawn = groups if len(groups) <= 21 else [one for one in groups if one[1]]
    return [
        Series(
            f"{part['class'].iloc[0]}: {area} {part['area'].iloc[0]:.4f}",
            part["x"].tolist(),
            part["y"].tolist(),
            None,
            mean and len(drawn) > 1,
        )
        for _, mean, part in drawn
    ]
