"""Lines of the page's charts: training curves, AOPC by patch size and fill, ROC, precision and recall."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from xmnist.plots.styles import Style, styles
from xmnist.reporting.collected import each, read, told_apart
from xmnist.runs import titles
from xmnist.runs.index import Found

POINTS = 100
"""Maximum number of points of a line: a chart on the page is not wider than a few hundred pixels."""

AOPC = (
    ("AOPC(L), most relevant patches first", "morf", "aopc"),
    ("mean f(x), most relevant patches first", "morf", "f"),
    ("mean f(x), least relevant patches first", "lerf", "f"),
)
CLASSES = (("roc", "ROC", "false positive rate", "true positive rate"),
           ("precision_recall", "precision and recall", "recall", "precision"))  # fmt: skip


def charts(several: Sequence[Found]) -> list[dict[str, Any]]:
    """Return all charts, each with its kind, its run, and panels of lines, as the page's script reads them."""
    out = [chart for group in each("the curves of", several, _of) for chart in group]
    more, labels = told_apart(several), [(chart["kind"], chart["label"]) for chart in out]
    for chart, label in zip(out, labels, strict=True):
        if labels.count(label) > 1:
            chart["label"] += f" ({more[chart['run']]})"
    return out


def _of(run: Found) -> list[dict[str, Any]]:
    out = []
    if run.stage == "train" and (run.path / "history.csv").is_file():
        out.append(_training(run))
    if run.stage == "evaluate" and (run.path / "aopc_curves.csv").is_file():
        out += _aopc(run)
    if run.stage == "evaluate" and (run.path / "classification_curves.csv").is_file():
        out.append(_classification(run))
    return out


def _chart(run: Found, kind: str, label: str, panels: list[dict[str, Any]]) -> dict[str, Any]:
    name = f"{kind.split()[0].lower()}-{run.id}"
    return {"id": name, "kind": kind, "label": label, "run": run.id, "panels": panels}


def _panel(title: str, x: str, lines: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"title": title, "x": x, "lines": lines, **more}


def _line(name: str, x: Sequence[float], y: Sequence[float], quiet: bool = False) -> dict[str, Any]:
    """Return a line with at most `POINTS` points, including the first and the last; a missing value is null."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).round().astype(int))
    both = [[_short(values[index]) for index in kept] for values in (np.asarray(x), np.asarray(y))]
    return {"name": name, "x": both[0], "y": both[1], **({"quiet": True} if quiet else {})}


def _method(style: Style, x: Sequence[float], y: Sequence[float]) -> dict[str, Any]:
    """Return the line of an explainer, with the name, colour and dashes that it has in pictures."""
    dash = "" if isinstance(style.dash, str) else " ".join(f"{1.4 * part:g}" for part in style.dash[1])
    return _line(style.title, x, y, style.quiet) | {"colour": style.colour, "dash": dash}


def _short(value: float) -> float | int | None:
    number = float(f"{value:.5g}")
    return None if not np.isfinite(number) else int(number) if number.is_integer() else number


def _training(run: Found) -> dict[str, Any]:
    """Return the chart of each metric by epoch, in training and validation, with marks where a new phase begins."""
    history = read(run.path / "history.csv")
    epochs, phases = range(1, len(history) + 1), history.get("phase", pd.Series([1] * len(history)))
    marks = [epoch + 0.5 for epoch, (a, b) in enumerate(pairwise(phases), 1) if a != b]
    panels = []
    for figure in (column.removeprefix("val_") for column in history if column.startswith("val_")):
        both = (("training", f"train_{figure}"), ("validation", f"val_{figure}"))
        lines = [_line(name, epochs, history[column]) for name, column in both if column in history]
        panels.append(_panel(figure.replace("_", " "), "epoch", lines, marks=marks))
    return _chart(run, "Training", titles.title(run.own), panels)


def _aopc(run: Found) -> list[dict[str, Any]]:
    curves = read(run.path / "aopc_curves.csv")
    where = [column for column in ("map", "patch", "fill") if column in curves]
    looks = styles([str(name) for name in curves["explainer"].unique()])
    out, label = [], titles.explained_title(run.own, decoded=False)
    for number, (name, order, column) in enumerate(AOPC):
        panels = []
        for key, part in curves[curves["order"] == order].groupby(where, sort=False):
            *kind, patch, fill = key
            title = ", ".join(
                [*(f"map {name}" for name in kind), f"{patch}x{patch} patches", str(fill).replace("_", " ")]
            )
            lines = [
                _method(looks[str(explainer)], rows["step"], rows[column])
                for explainer, rows in ((n, r.reset_index()) for n, r in part.groupby("explainer", sort=False))
            ]
            panels.append(_panel(title, "patches covered", lines))
        chart = _chart(run, "AOPC", f"{name}: {label}", panels)
        out.append(chart | {"id": f"{chart['id']}-{number}"})
    return out


def _classification(run: Found) -> dict[str, Any]:
    curves = read(run.path / "classification_curves.csv")
    panels = []
    for kind, title, x, y in CLASSES:
        part = curves[curves["curve"] == kind]
        lines = [
            _line(f"all ({name})" if mean else str(name), rows["x"].array, rows["y"].array, mean)
            | {"area": _short(rows["area"].iloc[0])}
            for (mean, name), rows in part.groupby(["mean", "class"], sort=False)
        ]
        area = {"area": "AUC" if kind == "roc" else "AP"}
        panels.append(_panel(title, x, lines, y=y, square=True, **area))
    return _chart(run, "ROC and PR", titles.explained_title(run.own, decoded=False), panels)
