"""The figures of stage `evaluate`: what of its tables is drawn, and how."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from xmnist.config.declarations import controls
from xmnist.metrics.classification import Curve, Report, corners
from xmnist.metrics.tables import MEANING
from xmnist.plots import figures
from xmnist.plots.figures import Panel, Series

Chart = Callable[[Path], None]
"""Draws into a file."""


def aopc(curves: pd.DataFrame, title: str) -> dict[str, Chart]:
    """AOPC(L) and mean f(x_k): rows are patch sizes, columns fills, lines explainers; by file name."""
    out: dict[str, Chart] = {}
    kinds = list(dict.fromkeys(curves["map"])) if "map" in curves else [""]
    for kind in kinds:
        rows = curves[(curves["order"] == "morf") & (curves["map"] == kind if kind else True)]
        for column, name, y in (
            ("aopc", "aopc", "AOPC(L) (higher is better)"),
            ("f", "mean_f", "mean f(x) (lower is better)"),
        ):
            panels = [
                [
                    Panel(
                        f"{side}x{side} patches, {str(fill).replace('_', ' ')}",
                        "patches covered, most relevant first",
                        y,
                        [_line(str(n), p["step"], p[column]) for n, p in part.groupby("explainer", sort=False)],
                        methods=True,
                    )
                    for fill, part in of_side.groupby("fill", sort=False)
                ]
                for side, of_side in rows.groupby("patch", sort=False)
            ]
            full = f"{title}\njoint model's map {kind}" if kind else title
            out[f"{name}_{kind}" if kind == "recomputed" else name] = _lines(panels, full)
    return out


def reset(rows: pd.DataFrame, title: str) -> Chart:
    """How similar maps stay to the original ones under cascading parameter randomisation."""
    layers = list(dict.fromkeys(rows.loc[rows["axiom"] == "reset_ssim", "layer"]))
    panels = []
    for axiom, y in (("reset_rank_correlation", "rank correlation"), ("reset_ssim", "SSIM")):
        part = rows[rows["axiom"] == axiom]
        means = part.groupby(["explainer", "layer"], sort=False)["value"].mean()
        names = list(dict.fromkeys(part["explainer"]))
        series = [
            _line(name, list(range(len(layers) + 1)), [1.0, *(means[name, layer] for layer in layers)])
            for name in names
        ]
        panels.append(
            Panel(
                f"{y} with the map of the trained network",
                "randomised layers, from the top",
                f"{y} (near 0 is better)",
                series,
                ["none", *layers],
                methods=True,
            )
        )
    return _lines([panels], title, markers=True)


def scores(summary: pd.DataFrame, kind: str, columns: Sequence[str], title: str) -> Chart:
    """Bars of scores with their intervals, a bar an explainer or model."""
    rows = summary[summary["kind"] == kind]
    columns = [column for column in columns if column in rows]
    numbers = rows[columns].apply(pd.to_numeric, errors="coerce")
    rows = rows.assign(**numbers)[numbers.notna().any(axis=1)]
    panels = []
    for column in columns:
        told = MEANING[column].split("; ")[-1]
        below = told if told.endswith("better") else ""
        wide = bool(rows[column].max() > 20 * rows[column].median())
        names = [str(name) for name in rows["name"]]
        panels.append(
            Panel(column.replace("_", " "), below, "", _bars(rows, column), names, logarithmic=wide, methods=True)
        )
    return lambda path: figures.bars(panels, title, path)


def ladder(summary: pd.DataFrame, layers: Sequence[str], columns: Sequence[str], title: str, x: str) -> Chart:
    """What decoders of each layer keep; `x` says in which order these are. The classifier itself is a level line."""
    series: dict[str, list[tuple[int, pd.Series]]] = {}
    for _, row in summary[summary["kind"] == "model"].iterrows():
        parts = str(row["name"]).split(",")
        where = [part.removeprefix("layer=") for part in parts if part.startswith("layer=")]
        name = ",".join(part for part in parts if not part.startswith("layer="))
        places = [layers.index(where[0])] if where else range(len(layers))
        series.setdefault(name, []).extend((place, row) for place in places)
    panels = []
    for column in (column for column in columns if column in summary):
        lines = []
        for name, rows in series.items():
            shown = [(place, row) for place, row in rows if isinstance(row[column], float) and pd.notna(row[column])]
            bounds = [row[f"{column}_low"] for _, row in shown], [row[f"{column}_high"] for _, row in shown]
            values = [row[column] for _, row in shown]
            lines.append(Series(name, [place for place, _ in shown], values, bounds, name == "classifier"))
        better = next((each for each in ("higher", "lower") if f"{each} is better" in MEANING[column]), "")
        title_ = column.replace("_", " ") + (f" ({better} is better)" if better else "")
        panels.append(Panel(title_, x, "", lines, layers, methods=True))
    return _lines([panels[:2], panels[2:]] if len(panels) > 2 else [panels], title, markers=True)


def _bars(rows: pd.DataFrame, column: str) -> list[Series]:
    """One series of what is measured and one of what it is compared with, which keep their places."""
    out = []
    for quiet in (False, True):
        places = [p for p, name in enumerate(rows["name"]) if (name in (*controls(), "classifier")) == quiet]
        own = rows.iloc[places]
        bounds = list(own[f"{column}_low"]), list(own[f"{column}_high"])
        out.append(Series("", places, list(own[column]), bounds, quiet))
    return out


def classification(report: Report, classes: Sequence[str], title: str) -> dict[str, Chart]:
    """Confusion matrix, figures by class, ROC and precision-recall curves; by file name."""
    rows = pd.DataFrame(report.rows).set_index("class")
    places = list(range(len(rows)))
    by_class = [
        Panel(
            score,
            "higher is better",
            "",
            [Series(score, places, list(rows[column]))],
            [str(name) for name in rows.index],
        )
        for column, score in (
            ("precision", "precision"),
            ("recall", "recall"),
            ("f1", "F1"),
            ("ap", "average precision"),
        )
    ]
    roc = Panel("ROC", "false positive rate", "true positive rate", _curves(report.roc, "AUC"), square=True)
    pr = Panel("precision and recall", "recall", "precision", _curves(report.precision_recall, "AP"), square=True)
    return {
        "confusion": lambda path: figures.confusion(report.confusion.numpy(), classes, title, path),
        "classes": lambda path: figures.bars(by_class, title, path),
        "roc": _lines([[roc]], title),
        "precision_recall": _lines([[pr]], title),
    }


def points(report: Report, classes: Sequence[str]) -> dict[str, pd.DataFrame]:
    """What the same figures show, as tables by name: the confusion matrix, and points of the curves."""
    confusion = pd.DataFrame(report.confusion.numpy(), columns=list(classes))
    confusion.insert(0, "true", list(classes), allow_duplicates=True)
    parts = [
        pd.DataFrame(
            {"curve": kind, "class": c.name, "mean": place == len(classes), "area": c.area}
            | {"x": c.x.numpy(), "y": c.y.numpy()}
        )
        for kind, curves in (("roc", report.roc), ("precision_recall", report.precision_recall))
        for place, c in enumerate(map(corners, curves))
    ]
    return {"confusion": confusion, "classification_curves": pd.concat(parts)}


def _curves(curves: Sequence[Curve], area: str) -> list[Series]:
    """A line a class; of more than twenty only the mean of all."""
    shown = [c for c in curves if len(c.x)] if len(curves) <= 21 else [curves[-1]]
    return [
        Series(f"{c.name}: {area} {c.area:.4f}", c.x.tolist(), c.y.tolist(), None, c.name == "micro" and len(shown) > 1)
        for c in shown
    ]


def _line(name: str, x: Sequence[float], y: Sequence[float]) -> Series:
    return Series(name, list(x), list(y), None, name in controls())


def _lines(panels: Sequence[Sequence[Panel]], title: str, markers: bool = False) -> Chart:
    return lambda path: figures.lines(panels, title, path, markers)
