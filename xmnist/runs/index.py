"""Index of the runs on disk; a damaged file is reported in its run's entry and stops nothing."""

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from xmnist.config import plugins
from xmnist.config.components import Options
from xmnist.config.declarations import columns, controls
from xmnist.config.kinds import MODELS, reference_of
from xmnist.config.schema import RUNS
from xmnist.config.settings import of_plain
from xmnist.runs import store
from xmnist.runtime import reading
from xmnist.runtime.errors import InputError, one_line, unknown
from xmnist.runtime.storage import digest

STATES = (*reading.STATES, "killed", "stale", "damaged")
"""States of a run. `killed`: it was running, but its process is gone; `stale`: it is done, but its networks or data
have changed since; `damaged`: its status.json cannot be read."""

FIGURES = ("metrics.json", "summary.csv", "selection.csv")
"""Files from which the main scores of a run are read."""

NAME = re.compile(r"-[0-9a-f]{8}$")
"""Pattern of the end of a run's name: its hash."""


@dataclass(frozen=True)
class Found:
    """A run on disk; its fields have the names that `xmnist runs --json` uses."""

    path: Path
    stage: str
    state: str
    dataset: str
    model: str | None
    settings: Options
    edited: bool
    figures: dict[str, float]
    started: str | None
    seconds: float | None
    age_seconds: float
    bytes: int
    error: str | None
    command: str | None
    warnings: list[str]

    @property
    def id(self) -> str:
        """The hash of the run: the eight hexadecimal digits that end its name."""
        return self.path.name[-8:]

    @property
    def own(self) -> Any:
        """The settings of the run, checked, as an object of its stage.

        Raises:
            InputError: they are not valid.
        """
        return of_plain(self.stage, self.settings)


def below(out_dir: Path) -> list[Found]:
    """Return all runs below a folder, newest last."""
    return sorted(map(read, folders(out_dir)), key=lambda run: (_began(run.path, run.started), run.path))


def folders(out_dir: Path) -> list[Path]:
    """Return the folders of all runs below a folder."""
    places = [path for stage in RUNS for path in (out_dir / stage).glob("*/*" if stage == "export" else "*/*/*")]
    folders = [path for path in places if NAME.search(path.name)]
    return [path for path in folders if (path / "status.json").exists() or (path / "config.yaml").exists()]


LAST = "last"
"""Word that names the newest finished run."""


def named(word: str, out_dir: Path, suits: Callable[[Path], bool] = lambda path: True) -> Found:
    """Return the run that a word names: its folder, the beginning of its hash, its name, or `last`.

    Args:
        suits: whether `last` may be the finished run in a folder.

    Raises:
        InputError: there is no such run, or there are several.
    """
    paths = folders(out_dir)
    if word == LAST:
        return _last(paths, out_dir, suits)
    # A folder may lie anywhere, also outside out_dir, so it is not looked up among the hashes there.
    if any((Path(word) / name).exists() for name in ("status.json", "config.yaml")):
        return read(Path(word).resolve())
    fitting = [path for path in paths if word and (path.name[-8:].startswith(word) or path.name == word)]
    if len(fitting) > 1:
        these = ", ".join(f"{path.name[-8:]} ({path.relative_to(out_dir).parent.as_posix()})" for path in fitting[:5])
        raise InputError(f"several runs begin with {word}: {these}{', ...' if len(fitting) > 5 else ''}")
    if not fitting:
        newest = sorted(paths, key=lambda path: _began(path, reading.status(path)[0].get("started")))[::-1]
        known = [path.name[-8:] for path in newest]
        if not known:
            raise InputError(f"there is no run '{word}': there are no runs below {out_dir}{os.sep} yet")
        raise unknown(
            "run", word, [*known[:8], *(["..."] if len(known) > 8 else [])], f"newest below {out_dir}{os.sep}"
        )
    return read(fitting[0])


def hashes(out_dir: Path) -> list[str]:
    """Return the words that name a run: `last`, and the hashes of all runs, newest first."""
    began = {path: _began(path, reading.status(path)[0].get("started")) for path in folders(out_dir)}
    return [LAST, *(path.name[-8:] for path in sorted(began, key=lambda path: began[path], reverse=True))]


def _last(paths: Iterable[Path], out_dir: Path, suits: Callable[[Path], bool]) -> Found:
    began = {path: _began(path, status.get("started")) for path in paths
             if suits(path) and (status := reading.status(path)[0]).get("state") == "done"}  # fmt: skip
    for path in sorted(began, key=lambda path: began[path], reverse=True):
        # The full read can still find the run stale, or its config edited.
        if (run := read(path)).state == "done" and not run.edited:
            return run
    raise InputError(f"run=last: there is no finished run below {out_dir}{os.sep} that this could work on")


def is_locked(path: Path) -> bool:
    """Return whether a process is working on a run, as far as its lock shows; the check leaves no file behind."""
    lock = FileLock(path / ".lock")
    with suppress(OSError):  # somebody holds it, or may: it cannot be opened
        # Without the file nobody holds the lock, and acquiring it would create the file.
        if (path / ".lock").exists():
            lock.acquire(timeout=0)
        lock.release()
        return False
    return True


def main_figure(path: Path) -> tuple[str, float] | None:
    """Return the name and value of a run's main score, such as ("accuracy", 0.98); None if there is none."""
    stage, _, model = _path_parts(path)
    return next(iter(figures(path, stage, model).items()), None)


def figures(path: Path, stage: str, model: str | None) -> dict[str, float]:
    """Return the scores that sum up a run, by name, the main one first; of a list of alphas, those of the best."""
    if stage == "evaluate":
        return _best_score(path / "summary.csv")
    if stage == "explain":
        return {"images": len(rows)} if (rows := reading.csv_rows(path / "selection.csv")) else {}
    metrics, _ = reading.content(path / "metrics.json")
    nested = [_numbers(value) for value in metrics.values() if isinstance(value, dict)]
    if stage == "export":
        return {"images": sum(nested[0].values())} if nested else {}
    declared = MODELS.get(model or "")
    names = declared.main if declared else ("accuracy",)
    best = min(nested or [_numbers(metrics)], key=lambda row: row.get(names[0], math.inf))
    return {name: best[name] for name in names if name in best and names[0] in best}


def _best_score(path: Path) -> dict[str, float]:
    """Return the best explainer's AOPC in a summary, or the best value of its first score if it has no AOPC."""
    rows = {row.get("name") or "": _numbers(row) for row in reading.csv_rows(path)}
    headers = [column for row in rows.values() for column in row]
    column = "aopc" if "aopc" in headers else next(iter(headers), "")  # names of columns and rows, not of components
    scores = {name: row[column] for name, row in rows.items() if column in row}
    known, compared = columns().get(column), (*controls(), "classifier", *reference_of().values())
    # Controls and references are rows for comparison: they sum up a run only if it has nothing else.
    kept = {name: score for name, score in scores.items() if name.split(",")[0] not in compared} or scores
    best = (min if known and known.better == "lower" else max)(kept, key=lambda name: kept[name], default="")
    return {column if best == "classifier" else f"{column} of {best}": kept[best]} if kept else {}


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the finite numbers among some values; a text that is a number counts."""
    out = {}
    for name, value in row.items():
        with suppress(TypeError, ValueError, OverflowError):
            number = value if isinstance(value, int) else float(value)
            if math.isfinite(number) and not isinstance(value, bool):
                out[name] = number
    return out


def _path_parts(path: Path) -> tuple[str, str, str | None]:
    """Return stage, data set and model of a run, from its path."""
    *_, stage, dataset, model, _ = ("", "", "", *path.absolute().parts)
    return ("export", model, None) if dataset == "export" else (stage, dataset, model)


def read(path: Path) -> Found:
    """Read the run in a folder."""
    stage, dataset, model = _path_parts(path)
    status, state, reason = _status(path)
    settings, unread = reading.content(path / "config.yaml")
    plugins.remember(settings)
    edited, altered = unread or _renamed(path, stage, settings), _altered(path, status["files"])
    # Edited settings lead to the wrong networks, so nothing can be compared with them.
    stale = _stale(path, stage, settings) if state == "done" and not edited else ""
    reasons = [status.get("error"), reason, stale, altered, edited]
    return Found(
        path=path,
        stage=stage,
        state="stale" if stale else state,
        dataset=dataset,
        model=model,
        settings=settings,
        # Scores of a changed file are not shown as the run's own.
        figures={} if altered else figures(path, stage, model),
        edited=bool(edited),
        age_seconds=round(max(0.0, time.time() - _began(path, status.get("started"))), 1),
        bytes=_size(path),
        error="; ".join(one_line(text) for text in reasons if text) or None,
        **{key: status.get(key) for key in ("started", "seconds", "command")},
        warnings=status.get("warnings") or [],
    )


def _status(path: Path) -> tuple[dict[str, Any], str, str]:
    """Return the content of status.json, the run's state, and the reason if it is damaged, else ""."""
    status, reason = reading.status(path)
    state = "damaged" if reason else status["state"]
    # The status alone cannot say so: a killed process leaves `running` behind, and a new one has no status yet.
    if state == "running" or not (path / "status.json").exists():
        state, reason = ("running", "") if is_locked(path) else ("killed" if state == "running" else state, reason)
    return {**status, "files": status.get("files") or {} if not reason else {}}, state, reason


def _stale(path: Path, stage: str, settings: Options) -> str:
    """Return why a finished run no longer matches its networks and data; empty if it does, or if this is unknown."""
    with suppress(Exception):  # settings of another version may lack anything
        return as_run(path, stage, settings).stale()
    return ""


def as_run(path: Path, stage: str, settings: Options) -> store.Run:
    """Return the run in a folder with the checked settings of its stage, wherever the folder lies now.

    Raises:
        InputError: its settings are not valid.
    """
    out_dir = str(path.parents[2 if stage == "export" else 3])
    return store.Run(stage, of_plain(stage, {**settings, "out_dir": out_dir}))


def altered(path: Path) -> str:
    """Return why the files of a run, except its weights, must not be shown; empty if they are as the run wrote them."""
    status, _, reason = _status(path)
    names = [name for name in status["files"] if not name.endswith(".pt")]
    gone = next((f"{name} is gone" for name in names if not (path / name).is_file()), "")
    return reason or gone or _altered(path, status["files"], names)


def _altered(path: Path, files: Mapping[str, Any], names: Iterable[str] = FIGURES) -> str:
    """Return why a run's scores are not reliable; empty if their files are as the run wrote them."""
    for name in names:
        with suppress(OSError):
            if name in files and digest(path / name) != files[name]:
                return f"{name} is not the file that this run wrote"
    return ""


def _renamed(path: Path, stage: str, settings: Options) -> str:
    """Return why a run's settings do not lead to its name; empty if they do."""
    edited = "config.yaml was edited, or another version made it"
    try:
        name = store.run_id(stage, of_plain(stage, settings))
    except Exception:  # a key may be missing, or hold anything
        return f"{edited}: it is not what this one writes"
    return "" if name == path.name else f"{edited}: this run would be called {name}"


def _began(path: Path, started: Any) -> float:
    """Return the time at which a run was begun, or, if none is recorded, at which its folder was last written."""
    began = reading.seconds(started)
    with suppress(OSError):  # it went away meanwhile
        return path.stat().st_mtime if began is None else began
    return time.time()


def _size(folder: Path) -> int:
    """Return the size in bytes of all files below a folder."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it went away meanwhile
                size += os.lstat(os.path.join(parent, name)).st_size
    return size
