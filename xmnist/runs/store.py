"""Storage of runs: directories named by their settings, status, locks, checksums and reuse."""

import csv
import json
import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from xmnist import data
from xmnist.config.components import listed
from xmnist.config.derived import stands_on
from xmnist.config.settings import ExportSettings, Settings, StageSettings, of_plain
from xmnist.runs.identity import place, run_id
from xmnist.runtime import interrupts, processes, reading
from xmnist.runtime.errors import DamageError, InputError, one_line
from xmnist.runtime.storage import (
    FULL,
    PARTIAL,
    atomic,
    digest,
    first_line,
    load_checkpoint,
    save_checkpoint,
    write_yaml,
)

log = logging.getLogger(__name__)

CHECKSUMMED = ("*.pt", "*.json", "*.csv", "*.md", "*.npz", "grid.*")
"""Patterns of the files whose checksums the status of a finished run holds."""

WEIGHTS = "model.pt"
"""File with the weights of a trained network."""

EFFORT = ("epochs", "seconds", "images_per_second")
"""Entries of `metrics.json` that measure the cost of a run, not its quality."""


FIRST = ("grid", "examples", "aopc.", "depth", "reconstruction", "confusion")
"""Beginnings of the names of main pictures; such a picture is listed before the others of its run."""


S = TypeVar("S", bound=StageSettings)


@dataclass(frozen=True)
class Run(Generic[S]):
    """One stage with its settings, in its own directory."""

    stage: str
    settings: S

    @property
    def path(self) -> Path:
        """The run's directory: OUT/STAGE/DATASET/MODEL/ID."""
        return Path(self.settings.out_dir, self.stage, place(self.stage, self.settings))

    @property
    def id(self) -> str:
        """The hash of the run: the eight hexadecimal digits that end its name."""
        return self.path.name[-8:]

    def status(self) -> dict[str, Any]:
        """Return the content of status.json; empty if it is missing, or not as this run wrote it."""
        status, reason = reading.status(self.path)
        return {} if reason else status

    def write_status(self, status: dict[str, Any]) -> None:
        """Write status.json, even if the disk has no room for another file."""
        status = {**status, "run": self.path.name}
        text = json.dumps({**status, "checksum": reading.checksum(status)}, indent=2) + "\n"
        try:
            with atomic(self.path / "status.json") as file:
                file.write_text(text, encoding="utf-8")
        except OSError as error:
            if error.errno not in FULL or not (self.path / "status.json").is_file():
                raise
            with (self.path / "status.json").open("r+", encoding="utf-8") as file:  # reuses its space
                file.write(text)
                file.truncate()

    def metrics(self) -> dict[str, Any]:
        """Return the scores in the run's metrics.json."""
        return reading.content(self.path / "metrics.json")[0]

    def finished(self) -> bool:
        """Return whether the run is done, not stale, and its files are those that it wrote.

        Raises:
            DamageError: one of its files has changed.
        """
        status = self.status()
        if not status and (self.path / "status.json").is_file():
            log.warning("%s was damaged: this run is done again", self.path / "status.json")
        if stale := self.stale():
            log_once(logging.WARNING, f"{self.path} is stale, and done again: {stale}")
            return False
        return status.get("state") == "done" and self.intact()

    def bases(self) -> list["Run[Settings]"]:
        """Return the `train` runs that this run depends on."""
        return [Run("train", each) for each in stands_on(self.settings)]

    def sources(self) -> dict[str, Any]:
        """Return the digests of what the run is made from, as far as present: weights (`stands_on`) and `data`."""
        weights = {base.key: base.status()["files"][WEIGHTS] for base in self.bases() if base.sound()}
        data = self.data()
        return {"stands_on": weights} | ({"data": data} if data else {})

    def sound(self) -> bool:
        """Return whether the run is done, not stale, and has saved weights; its files are not read."""
        status = self.status()
        return status.get("state") == "done" and WEIGHTS in status.get("files", {}) and not self.stale()

    def stale(self) -> str:
        """Return why the finished run no longer matches its networks and data; empty if it does, or if this is unknown.

        A run without recorded sources is stale if a network that it depends on was begun after the run's end.
        """
        status = self.status()
        return self.changed(status, status["ended"]) if status.get("state") == "done" else ""

    def changed(self, sources: dict[str, Any], ended: str = "") -> str:
        """Return which of these `sources` has changed; empty if none has, or if it is gone and cannot be compared."""
        weights = sources.get("stands_on")
        for base in self.bases():
            status, name = base.status(), base.settings.model.name
            if status.get("state") != "done":
                continue
            if base.stale():
                return f"the {name} that it stands on is stale"
            now = status.get("files", {}).get(WEIGHTS)
            if status["started"] > ended if weights is None else weights.get(base.key, now) != now:
                return f"the {name} that it stands on was trained again"
        data = sources.get("data")
        if data and isinstance(self.settings, Settings | ExportSettings) and self.data() not in (None, data):
            return f"the files of {self.settings.dataset.name} are others now"
        return ""

    def data(self) -> str | None:
        """Return the digest of the data set's files; None if it has no files, or they are missing."""
        if not isinstance(self.settings, Settings | ExportSettings):  # a report has no data set
            return None
        dataset = data.recorded(self.settings.dataset)
        if dataset is None or dataset.stated_digest():  # else the run's name says what the files are
            return None
        return dataset.digest(self.settings.data_dir)

    @property
    def key(self) -> str:
        """The run's path below OUT, the same for any OUT and on any system."""
        return f"{self.stage}/{place(self.stage, self.settings)}"

    def intact(self) -> bool:
        """Return whether all files that the run has written, done or failed, are present.

        Raises:
            DamageError: one of the files has changed.
        """
        for name, checksum in self.status().get("files", {}).items():
            file = self.path / name
            if not file.is_file():
                log.warning("%s is gone: this run is done again", file)
                return False
            if digest(file) != checksum:
                raise DamageError(
                    f"{file} is not the file that this run wrote: it was damaged, or comes from another model; put the "
                    f"right one back, or redo the run with force=true"
                )
        return True

    def reusable(self) -> bool:
        """Return whether the finished run can be used as it is, without force=true.

        A config.yaml that no longer matches the run is written again.
        """
        if self.settings.force or not self.finished():
            return False
        try:
            described(self.path, self.stage)
        except ValueError as error:
            log.warning("%s: it is written again", error)
            write_yaml(self.path / "config.yaml", self.settings.plain())
        return True

    def log_summary(self, what: str) -> None:
        """Log the run's folder, its scores on the test images, its warnings, and its pictures."""
        if processes.rank():
            return

        def line(scores: dict[str, Any]) -> str:
            own = {name.replace("_", " "): value for name, value in scores.items() if name not in EFFORT}
            return ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in own.items())

        metrics = self.metrics()
        nested = all(isinstance(value, dict) for value in metrics.values())
        rows = [f"{name}: {line(row)}" for name, row in metrics.items()] if nested else [f"test: {line(metrics)}"]
        rows += [f"warning: {text}" for text in self.status().get("warnings") or []] if what != "done" else []
        drawn = [path.name for path in self.path.iterdir() if path.suffix in (".png", ".pdf", ".svg")]
        drawn = sorted(drawn, key=lambda name: (not name.startswith(FIRST), name))
        rows += [f"picture: {self.path / drawn[0]}"] if drawn else []
        rows += [f"beside it: {', '.join(drawn[1:])}"] if drawn[1:] else []
        summary = self.path / "summary.md"
        table = f"\n\n{summary.read_text(encoding='utf-8')}" if summary.is_file() else ""
        log.info("%s%s", "\n  ".join([f"{what}: {self.path}", *rows]), table)

    def draw(self, name: str, draw: Callable[[Path], None]) -> None:
        """Draw a picture in every format of the settings; `draw` gets a file with the format's suffix."""
        for kind in self.formats:
            with atomic(self.path / f"{name}.{kind}") as file:
                draw(file)

    def drawn(self) -> bool:
        """Return whether the run has pictures in all formats of the settings, or no pictures at all."""
        there = {path.suffix[1:] for path in self.path.glob("*.*")} & {"png", "pdf", "svg"}
        return not there or there.issuperset(self.formats)

    @property
    def formats(self) -> list[str]:
        """The formats of the run's pictures; empty if it draws none."""
        return listed(self.settings.format) if isinstance(self.settings, Settings) else []

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; if several processes train a model, the first one writes all files."""
        if processes.rank():
            return
        with atomic(self.path / name) as file:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def write_csv(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a CSV file with one line for each row; the first row's keys are the columns."""
        if processes.rank():
            return
        with atomic(self.path / name) as file, file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint: tensors and plain values."""
        if not processes.rank():
            save_checkpoint(self.path / name, state)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read a checkpoint of tensors and plain values; None if there is none.

        Raises:
            InputError: it is damaged, or contains anything else.
        """
        try:
            return load_checkpoint(self.path / name) if (self.path / name).is_file() else None
        except ValueError as error:
            raise self.refused(name, str(error)) from None

    def load_into(self, model: Any, name: str) -> None:
        """Load the weights of checkpoint `name` into a network.

        Raises:
            InputError: it is missing, damaged or of another network.
        """
        state = self.load(name)
        if state is None:
            raise self.refused(name, "it is missing")
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise self.refused(name, str(error)) from None

    def refused(self, name: str, reason: str) -> InputError:
        """Return the error that states why checkpoint `name` is not used."""
        return InputError(
            f"{self.path / name} is no checkpoint of this run: {first_line(reason)}; remove it, or redo the run with "
            f"force=true"
        )


@contextmanager
def claim(run: Run, command: str) -> Iterator[bool]:
    """Lock a run for this process, and yield whether there is work to do.

    If another process has locked the run, this one waits. The status is `running` inside, and `done`, `failed` or
    `interrupted` afterwards; bad input leaves it as it was. During the work, the log also goes to the run's own file.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is at work on %s: waiting for it", run.path)
        lock.acquire()
    try:
        for folder in (run.path, run.path / ".hydra"):
            for left in folder.glob(f"{PARTIAL}*"):  # from a process that was killed while it wrote
                left.unlink()
        # Checked only under the lock: the process that held it may just have finished this run.
        if run.reusable():
            yield False
        else:
            with _logged(run) as handler, _collected() as warnings, _recorded(run, command, handler, warnings):
                yield True
    finally:
        lock.release()


@contextmanager
def _logged(run: Run) -> Iterator[logging.Handler]:
    handler = logging.FileHandler(run.path / f"{run.stage}.log", encoding="utf-8")
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # a full disk must not hide what happens
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        with suppress(OSError):
            handler.close()


class _Warnings(logging.Handler):
    """Handler that collects the lasting warnings of a run, but not those of a run that is made within it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "lasting", False):
            innermost = next(each for each in reversed(logging.getLogger().handlers) if isinstance(each, _Warnings))
            if innermost is self:
                self.texts.append(record.getMessage())


@contextmanager
def _collected() -> Iterator[list[str]]:
    handler = _Warnings()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.texts
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def _recorded(run: Run, command: str, handler: logging.Handler, warnings: list[str]) -> Iterator[None]:
    """Keep the run's status up to date while the block works on it."""
    before, start = run.status(), time.monotonic()
    forced = run.settings.force
    if forced and not (before.get("forced") and before.get("state") != "done"):  # else it resumes
        (run.path / "last.pt").unlink(missing_ok=True)
    _write_config(run, command)
    status: dict[str, Any] = {"state": "running", "command": command, "started": _now()}
    status |= {"host": socket.gethostname(), "pid": os.getpid(), "forced": forced}
    sources = run.sources()
    try:
        run.write_status(status)
        yield
        interrupts.raise_if_interrupted()
        made = run.sources()  # sources that were missing before are those that this block made
        sources = made | sources | {"stands_on": made["stands_on"] | sources["stands_on"]}
        status |= {"warnings": warnings} if warnings else {}
        run.write_status({**status, **sources, "state": "done", **_ended(start), "files": _checksums(run)})
    except InputError:
        # Bad input is no result: an earlier status, such as `done`, must not be lost to a typing mistake.
        run.write_status(before) if before else (run.path / "status.json").unlink(missing_ok=True)
        raise
    except BaseException as error:
        status |= {"state": "failed", **_ended(start)}
        if interrupts.asked() or not isinstance(error, Exception):  # a library may have changed its class
            status["state"] = "interrupted"
        else:  # the terminal gets one line, the run's own log the whole story
            status["error"] = one_line(error)[:1000]
            handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "failed", (), sys.exc_info()))
            status["files"] = _checksums(run)  # a measurement that has failed in part has tables, too
        run.write_status(status)
        raise
    (run.path / "last.pt").unlink(missing_ok=True)


@lru_cache
def log_once(level: int, text: str) -> None:
    """Log a text only once, although a command, or each job of a sweep, would repeat it."""
    log.log(level, "%s", text)


def _ended(start: float) -> dict[str, Any]:
    return {"ended": _now(), "seconds": round(time.monotonic() - start, 3)}


def _checksums(run: Run) -> dict[str, str]:
    """Return the checksums of the files that a run has written."""
    written = {path.name for kind in CHECKSUMMED for path in run.path.glob(kind)} - {"status.json", "last.pt"}
    return {name: digest(run.path / name) for name in sorted(written)}


def mark_killed(run: Run, state: str) -> None:
    """Record the end of a run whose process was killed; a run that is locked by a process is left unchanged."""
    status = run.status()
    if status.get("state") != "running":
        return
    # A lock that is free proves that the process is gone; the status is read again, as it may have ended meanwhile.
    with suppress(Timeout), FileLock(run.path / ".lock", timeout=0):
        status = run.status()
        if status.get("state") == "running":
            run.write_status({**status, "state": state, "error": "its process was killed", "ended": _now()})


def described(folder: Path, stage: str) -> Any:
    """Return the settings in a run's config.yaml.

    Raises:
        ValueError: the file cannot be read, or is not that of this run; the message is one line.
    """
    path = folder / "config.yaml"
    content, reason = reading.content(path)
    try:
        settings: Any = None if reason else of_plain(stage, content)
        name = "" if reason else run_id(stage, settings)
    except Exception as error:  # keys may be missing, or hold anything
        reason = one_line(error)[:100]
    if reason:
        raise ValueError(f"{path} cannot be read ({reason})")
    if name != folder.name:
        raise ValueError(f"{path} was changed: it would be the config of {name}")
    return settings


def _write_config(run: Run, command: str) -> None:
    """Write the settings, and the overrides where Hydra's tools look for them.

    Hydra would write the overrides itself, but before the run is locked, and not for runs that another run needs.
    """
    (run.path / ".hydra").mkdir(exist_ok=True)
    for name, content in (
        ("config.yaml", run.settings.plain()),
        (".hydra/config.yaml", run.settings.plain()),
        (".hydra/overrides.yaml", shlex.split(command)[2:]),
    ):
        write_yaml(run.path / name, content)


UNTOLD = ("force=", "train_missing=", "fail_fast=")
"""Overrides that a run's command leaves out: they change no result."""


def command(stage: str, overrides: Sequence[str]) -> str:
    """Return the command line that makes a run, without the overrides that change no result."""
    return shlex.join(["xmnist", stage, *(word for word in overrides if not word.startswith(UNTOLD))])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
