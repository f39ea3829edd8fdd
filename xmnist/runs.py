"""Runs on disk: directories named by content, status, atomic files, locks, checkpoints, reuse."""

import csv
import hashlib
import json
import logging
import os
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from xmnist import config, processes
from xmnist.errors import InputError
from xmnist.identity import identity, label

log = logging.getLogger(__name__)

SEALED = ("model.pt", "metrics.json", "explanations.npz", "grid.png", "grid.pdf", "grid.svg", "summary.csv")
"""Files whose checksums a finished run's status holds."""

EFFORT = ("epochs", "seconds", "images_per_second")
"""Figures of `metrics.json` that say what a run cost, not what it is worth."""


PARTIAL = ".partial-"
"""How the names of files begin that are being written."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary file that takes the name `path` when the block ends well, and is removed when it does not."""
    handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def place(stage: str, settings: config.Settings) -> str:
    """Where a run lies below OUT/STAGE: DATASET/MODEL/ID, or DATASET/ID where no model has a part in it."""
    model = [settings["model"]["name"]] if "model" in settings else []
    return "/".join((settings["dataset"]["name"], *model, run_id(stage, settings)))


def run_id(stage: str, settings: config.Settings) -> str:
    """A run's name: readable settings and 8 hex digits over everything that can change its result."""
    text = json.dumps({"stage": stage, **identity(settings, stage)}, sort_keys=True)
    return f"{label(settings, stage)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Run:
    """One stage on one resolved config, in its own directory."""

    stage: str
    settings: config.Settings

    @property
    def path(self) -> Path:
        """The run's directory: OUT/STAGE/DATASET/MODEL/ID."""
        return Path(self.settings["out_dir"], self.stage, place(self.stage, self.settings))

    def status(self) -> dict[str, Any]:
        """What status.json says; empty where there is none that can be read."""
        return self._read("status.json")

    def metrics(self) -> dict[str, Any]:
        """The run's figures."""
        return self._read("metrics.json")

    def _read(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads((self.path / name).read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def finished(self) -> bool:
        """Whether the run is done and its files are those that it wrote.

        Raises:
            InputError: one of them is another file now.
        """
        status = self.status()
        if status.get("state") != "done":
            return False
        for name, digest in dict(status.get("files", {})).items():
            file = self.path / name
            if not file.is_file():
                log.warning("%s is gone: this run is done again", file)
                return False
            if _digest(file) != digest:
                raise InputError(
                    f"{file} is not the file that this run wrote: it was damaged, or comes from another model; put the "
                    f"right one back, or redo the run with force=true"
                )
        return True

    def reusable(self) -> bool:
        """Whether the finished run answers this command, which must not ask to do it again."""
        return not self.settings["force"] and self.finished()

    def tell(self, what: str) -> None:
        """Log where the run is, what its figures are and which pictures it has drawn."""
        if processes.rank():
            return

        def line(figures: dict[str, Any]) -> str:
            told = {name: value for name, value in figures.items() if name not in EFFORT}
            return "  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in told.items())

        metrics = self.metrics()
        nested = all(isinstance(value, dict) for value in metrics.values())
        rows = [f"{name}: {line(row)}" for name, row in metrics.items()] if nested else [f"test: {line(metrics)}"]
        drawn = sorted(path.name for path in self.path.iterdir() if path.suffix in (".png", ".pdf", ".svg"))
        rows += [f"pictures: {', '.join(drawn)}"] if drawn else []
        summary = self.path / "summary.md"
        table = f"\n\n{summary.read_text()}" if summary.is_file() else ""
        log.info("%s%s", "\n  ".join([f"{what}: {self.path}", *rows]), table)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; of several processes that train a model, the first does so, as with all files."""
        if processes.rank():
            return
        with atomic(self.path / name) as file:
            file.write_text(json.dumps(content, indent=2) + "\n")

    def write_csv(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a CSV file with a line a row; the first row's keys are the columns."""
        if processes.rank():
            return
        with atomic(self.path / name) as file, file.open("w", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint: tensors and plain values."""
        if processes.rank():
            return
        import torch

        # An open file, not a path: torch writes the path's name into the file, and equal states must give equal files.
        with atomic(self.path / name) as file, file.open("wb") as out:
            torch.save(state, out)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read a checkpoint, nothing but tensors and plain values; None where there is none.

        Raises:
            InputError: it is damaged, or holds anything else.
        """
        import torch

        path = self.path / name
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            if isinstance(state, dict):
                return state
            reason = f"it holds a {type(state).__name__}"
        except Exception as error:  # a damaged file makes torch raise almost anything
            reason = str(error) or type(error).__name__
        raise self.refused(name, reason)

    def load_into(self, model: Any, name: str) -> None:
        """Put the weights of checkpoint `name` into a network.

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
        """The error that says why checkpoint `name` is not used."""
        lines = [line.strip() for line in reason.splitlines() if line.strip()]
        reason = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
        return InputError(
            f"{self.path / name} is no checkpoint of this run: {reason[:150].rstrip('. ')}; remove it, or redo the run "
            f"with force=true"
        )


@contextmanager
def claim(run: Run, command: str) -> Iterator[bool]:
    """Hold a run for this process; yields whether there is work to do.

    Another process that holds it is waited for. The status is `running` inside, `done`, `failed` or `interrupted`
    afterwards; bad input leaves it as it was. While it is held, the log also goes to the run's own file.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is at work on %s: waiting for it", run.path)
        lock.acquire()
    try:
        for left in run.path.glob(f"{PARTIAL}*"):  # by a process that was killed while it wrote
            left.unlink()
        if run.reusable():
            yield False
        else:
            with _logged(run) as handler, _recorded(run, command, handler):
                yield True
    finally:
        lock.release()


@contextmanager
def _logged(run: Run) -> Iterator[logging.Handler]:
    handler = logging.FileHandler(run.path / f"{run.stage}.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


@contextmanager
def _recorded(run: Run, command: str, handler: logging.Handler) -> Iterator[None]:
    """Keep the run's status while the block works on it."""
    before, start = run.status(), time.monotonic()
    forced = run.settings["force"]
    if forced and not (before.get("forced") and before.get("state") != "done"):  # else it goes on
        (run.path / "last.pt").unlink(missing_ok=True)
    _write_config(run, command)
    status: dict[str, Any] = {"state": "running", "command": command, "started": _now()}
    status |= {"host": socket.gethostname(), "pid": os.getpid(), "forced": forced}
    run.write_json("status.json", status)
    try:
        yield
    except InputError:
        run.write_json("status.json", before) if before else (run.path / "status.json").unlink()
        raise
    except BaseException as error:
        status |= {"state": "failed" if isinstance(error, Exception) else "interrupted", "ended": _now()}
        if isinstance(error, Exception):  # the terminal gets one line, the run's own log the whole story
            status["error"] = f"{type(error).__name__}: {error}"
            handler.emit(log.makeRecord(log.name, logging.ERROR, __file__, 0, "failed", (), sys.exc_info()))
        run.write_json("status.json", status)
        raise
    status |= {"state": "done", "ended": _now(), "seconds": round(time.monotonic() - start, 3)}
    status["files"] = {name: _digest(run.path / name) for name in SEALED if (run.path / name).is_file()}
    run.write_json("status.json", status)
    (run.path / "last.pt").unlink(missing_ok=True)


def _write_config(run: Run, command: str) -> None:
    """Write the settings, and the overrides where Hydra's tools look for them.

    Hydra would write the latter itself, but before the run is locked, and not for runs that another one needs.
    """
    (run.path / ".hydra").mkdir(exist_ok=True)
    overrides = OmegaConf.create(shlex.split(command)[2:])
    settings = OmegaConf.create(run.settings)
    for name, content in (
        ("config.yaml", settings),
        (".hydra/config.yaml", settings),
        (".hydra/overrides.yaml", overrides),
    ):
        with atomic(run.path / name) as file:
            OmegaConf.save(content, file)


def command(stage: str, overrides: Sequence[str]) -> str:
    """A command line that makes a run; it neither forces nor forbids anything that would change no result."""
    return shlex.join(["xmnist", stage, *(o for o in overrides if not o.startswith(("force=", "train_missing=")))])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
