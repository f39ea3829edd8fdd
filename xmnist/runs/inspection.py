"""Texts of `xmnist runs show`, one run in full, and `xmnist runs compare`, several side by side. No torch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xmnist.config.derived import dotted
from xmnist.config.schema import COMMON, INCIDENTAL
from xmnist.runs import index, similar
from xmnist.runs.index import Found
from xmnist.runs.query import flat, text_of
from xmnist.runs.store import EFFORT
from xmnist.runtime import reading
from xmnist.runtime.errors import InputError
from xmnist.runtime.progress import duration

UNTOLD = {*INCIDENTAL, "unmeasured"} - {"format"}
"""Settings that are left out of a comparison of runs."""

Scores = dict[str, float | str]


def scores(run: Found) -> Scores:
    """Return all scores of a run by name: of a training on the test images, or of the rows of an evaluation."""
    if run.stage == "evaluate":
        rows = reading.csv_rows(run.path / "summary.csv")
        cells = [(f"{row['name']} {key}", value) for row in rows for key, value in row.items() if _is_score(key)]
        return {key: _number(value) for key, value in cells if value}
    metrics, _ = reading.content(run.path / "metrics.json")
    return {key: _number(value) for key, value in dotted(metrics).items()}


def _is_score(key: str) -> bool:
    return key not in ("name", "kind") and not key.endswith(("_low", "_high", "_p", "_sd"))


def _number(value: Any) -> float | str:
    with suppress(TypeError, ValueError):
        return float(value)
    return str(value)


def names(runs: Sequence[Found]) -> list[str]:
    """Return the readable part of each run's name, with the settings that distinguish runs of the same name."""
    alike = defaultdict[Path, list[dict[str, Any]]](list)
    labels = [index.NAME.sub("", run.path.name) for run in runs]
    for run, label in zip(runs, labels, strict=True):
        alike[run.path.parent / label].append(flat(run))
    out = []
    for run, label in zip(runs, labels, strict=True):
        settings, peers = flat(run), alike[run.path.parent / label]
        keys = [key for key in settings if key not in COMMON and any(peer.get(key) != settings[key] for peer in peers)]
        keys = [key for key in keys if run.stage != "train" or similar.decides(str(run.model), key)]
        more = [f"{key}={text_of(settings[key])}" for key in keys[:3]] + ["…"] * (len(keys) > 3)
        out.append(",".join([label, *more]))
    return out


def show(run: Found) -> str:
    """Return everything that is known of a run as a readable text."""
    about = {"path": str(run.path), "state": run.state + (f": {run.error}" if run.error else "")}
    about |= {
        "command": run.command or "",
        "begun": f"{run.started}, took {duration(run.seconds)}" if run.seconds else "",
    }
    lines = _pairs(about)
    lines += [f"warning: {text}" for text in run.warnings]
    bases = _bases(run)
    lines += ["", "stands on:", *(f"  {name}" for name in bases)] if bases else []
    lines += ["", "settings:", *_pairs({key: text_of(value) for key, value in _settings(run).items()}, "  ")]
    if metrics := scores(run):
        lines += ["", "scores:", *_pairs({key: _text(value) for key, value in metrics.items()}, "  ")]
    drawn = sorted(path.name for path in run.path.glob("*.*") if path.suffix in (".png", ".pdf", ".svg"))
    lines += ["", "pictures:", *(f"  {run.path / name}" for name in drawn)] if drawn else []
    return "\n".join(lines) + "\n"


def _bases(run: Found) -> list[str]:
    with suppress(Exception):  # settings of another version may lack anything
        bases = index.as_run(run.path, run.stage, run.settings).bases()
        return [f"{base.id}  {base.path}" for base in bases]
    return []


def _settings(run: Found) -> dict[str, Any]:
    settings = {key: value for key, value in dotted(run.settings).items() if key.split(".")[0] not in UNTOLD}
    return {
        key: value for key, value in settings.items() if run.stage != "train" or similar.decides(str(run.model), key)
    }


def _pairs(values: Mapping[str, str], before: str = "") -> list[str]:
    nonempty = {key: value for key, value in values.items() if value}
    width = max(map(len, nonempty), default=0)
    return [f"{before}{key:<{width}}  {value}" for key, value in nonempty.items()]


def _text(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if value == int(value) and abs(value) >= 1 else f"{value:.4g}"


def compare(several: Sequence[Found]) -> str:
    """Return the settings that differ between runs, and their scores side by side with the differences to the first.

    Raises:
        InputError: there are fewer than two runs.
    """
    if len({run.path for run in several}) < 2:
        raise InputError("xmnist runs compare takes two or more runs: their hashes, folders, or last")
    settings, measured = [_settings(run) for run in several], [scores(run) for run in several]
    keys = list(dict.fromkeys(key for options in settings for key in options))
    table = [[key, *(text_of(options[key]) if key in options else "-" for options in settings)] for key in keys]
    different = [row for row in table if len(set(row[1:])) > 1]
    head = ["", *(run.id for run in several)]
    parts = [aligned([head, ["stage", *(run.stage for run in several)], *different])]
    if not different:
        parts.append("no setting differs")
    names = list(dict.fromkeys(key for metrics in measured for key in metrics))
    rows = [[name, *_beside([metrics.get(name) for metrics in measured])] for name in names if name not in EFFORT]
    effort = [[name, *_beside([metrics.get(name) for metrics in measured])] for name in names if name in EFFORT]
    if rows or effort:
        parts.append(aligned([["scores", *(run.id for run in several)], *rows, *effort]))
    return "\n\n".join(parts) + "\n"


def _beside(values: Sequence[float | str | None]) -> list[str]:
    """Return the values as texts, each but the first with its difference to the first."""
    first, out = values[0], []
    for column, value in enumerate(values):
        text = "-" if value is None else _text(value)
        if column and isinstance(value, float) and isinstance(first, float) and value != first:
            text += f" ({value - first:+.3g})".replace("-", "−")
        out.append(text)
    return out


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(padded)
