"""The other end of trainings side by side: what a worker process does, and how what it logs comes to the first one.

A worker writes lines to a file of its own, which the process that started it reads as it grows: whenever one of them
is killed, no other can wait for it.
"""

import _thread
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from xmnist.config.settings import Settings
from xmnist.runs.titles import network_title
from xmnist.runtime import interrupts, machine, progress
from xmnist.runtime.errors import one_line
from xmnist.training import networks

SIGNALS = {getattr(signal, name) for name in ("SIGINT", "SIGHUP") if hasattr(signal, name)}
"""What a terminal sends to all of a command's processes; there is no SIGHUP on Windows."""

PATIENCE = 5.0
"""Seconds that a worker has to write down that its training was interrupted."""


class _Journal(logging.Handler):
    """What a worker tells, as lines of JSON in a file; a message begins with the name of the network."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.title, self._lines = "", threading.Lock()

    def write(self, **told: Any) -> None:
        """Write a line; where there is no room for it, the training goes on."""
        with self._lines, suppress(OSError):
            self.file.write(json.dumps(told) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        named = text if text.startswith(f"training {self.title}:") else f"{self.title}: {text}"
        self.write(logger=record.name, level=record.levelno, text=named)


class Journals:
    """The files that workers write, one after the other or at the same time, in a folder; read as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def tell(self) -> None:
        """Log what was logged since the last time, and count the images that were trained on."""
        for path in sorted(self.folder.iterdir()):
            for told in self._lines(path):
                if "text" in told:
                    logger = logging.getLogger(told["logger"])
                    logger.handle(logging.LogRecord(logger.name, told["level"], "", 0, told["text"], None, None))
                else:
                    progress.display.plan.advance(told["kind"], told["images"])

    def _lines(self, path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):  # the rest comes later, or never
                    return
                self._read[path] = self._read.get(path, 0) + len(line)
                yield json.loads(line)


@contextmanager
def deaf() -> Iterator[None]:
    """Start workers in this block, which the terminal does not interrupt while they load; here, signals wait."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # else it would be started in the block, and unblock a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_journal: _Journal | None = None
"""What this process tells; None where it is no worker."""

_working = False
"""Whether this process is in the middle of a training."""


def begin(folder: Path, parent: Connection, level: int, threads: int) -> None:
    """Be a worker: the first thing that its process does.

    Args:
        folder: of its journal.
        parent: ends when this process is to end: the one that started it closes its own end, or dies.
        level: of what is logged.
        threads: its share.
    """
    global _journal
    machine.prepare()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent has it too, and sends SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    journal = _journal = _Journal(folder / str(os.getpid()))
    logging.getLogger().setLevel(level)
    logging.getLogger().addHandler(journal)
    progress.display.send = lambda trained: journal.write(kind=trained.kind, images=trained.images)
    torch.set_num_threads(threads)


def train(settings: Settings) -> str:
    """Train a network in a worker; returns in one line why that failed, or nothing."""
    global _working
    assert _journal is not None
    _journal.title = network_title(settings)
    _working = True
    try:
        networks.train(settings)
    except KeyboardInterrupt:  # its run says so by now
        os._exit(1)
    except Exception as error:
        return one_line(str(error))
    finally:
        _working = False
    return ""


def _stop(*_: Any) -> None:
    """Interrupt this process: in a moment, if it is at work."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb what the first one asks for
    if not _working:
        os._exit(1)
    threading.Thread(target=_end_soon, daemon=True).start()  # what is raised now can be lost in a callback
    interrupts.interrupt()


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is sent
    if _working:
        _thread.interrupt_main(signal.SIGTERM)
        _end_soon()
    os._exit(1)


def _end_soon() -> None:
    time.sleep(PATIENCE)  # for the run to be told interrupted
    os._exit(1)
