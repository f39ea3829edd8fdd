"""Work on runs: a lock that one process holds, the status as the work goes on, and the run's own log."""

import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout

from xmnist.runs.store import CHECKSUMMED, Run
from xmnist.runtime import interrupts
from xmnist.runtime.errors import InputError, one_line
from xmnist.runtime.storage import PARTIAL, digest, write_yaml

log = logging.getLogger(__name__)


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
            for partial in folder.glob(f"{PARTIAL}*"):  # from a process that was killed while it wrote
                partial.unlink()
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
            innermost = next(
                handler for handler in reversed(logging.getLogger().handlers) if isinstance(handler, _Warnings)
            )
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
        current = run.sources()  # sources that were missing before are those that this block made
        sources = current | sources | {"stands_on": current["stands_on"] | sources["stands_on"]}
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


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
