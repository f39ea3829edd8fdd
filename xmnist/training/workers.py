"""Worker processes of trainings side by side, and the transfer of their log to the process that started them.

A worker writes lines to a file of its own, which the process that started it reads as it grows. A worker that is
killed can therefore never block another process.
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
"""Signals that a terminal sends to all of a command's processes; there is no SIGHUP on Windows."""

PATIENCE = 5.0
"""Seconds that a worker has to record that its training was interrupted."""


class _Journal(logging.Handler):
    """A log handler that writes lines of JSON to a worker's file; a message begins with the name of the network."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        # Line buffering: the reader sees each line at once, and a worker that is killed loses none.
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.title, self._lines = "", threading.Lock()

    def write(self, **entry: Any) -> None:
        """Write a line; the training continues where the disk has no room for it."""
        with self._lines, suppress(OSError):
            self.file.write(json.dumps(entry) + "\n")

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        named = text if text.startswith(f"training {self.title}:") else f"{self.title}: {text}"
        self.write(logger=record.name, level=record.levelno, text=named)


class Journals:
    """The workers' log files in a folder, read as they grow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, int] = {}

    def tell(self) -> None:
        """Log the workers' new messages since the last call, and count the images that were trained on."""
        for path in sorted(self.folder.iterdir()):
            for entry in self._lines(path):
                if "text" in entry:
                    logger = logging.getLogger(entry["logger"])
                    logger.handle(logging.LogRecord(logger.name, entry["level"], "", 0, entry["text"], None, None))
                else:
                    progress.display.plan.advance(entry["kind"], entry["images"])

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
    """Start workers in this block: the terminal does not interrupt them while they load; here, signals wait."""
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
"""This process's log file; None where it is no worker."""

_working = False
"""True while this process is in the middle of a training."""


def begin(folder: Path, parent: Connection, level: int, threads: int) -> None:
    """Set up this process as a worker; its pool calls this first.

    Args:
        folder: folder of its log file.
        parent: pipe that closes when this process is to end: the one that started it closes its own end, or dies.
        level: lowest level of the messages that are logged.
        threads: its share of the threads.
    """
    global _journal
    machine.prepare()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the parent has it too, and sends SIGTERM
    signal.signal(signal.SIGTERM, _stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # One file per process, named by its id: workers then never share a file.
    journal = _journal = _Journal(folder / str(os.getpid()))
    logging.getLogger().setLevel(level)
    logging.getLogger().addHandler(journal)
    progress.display.send = lambda trained: journal.write(kind=trained.kind, images=trained.images)
    torch.set_num_threads(threads)


def train(settings: Settings) -> str:
    """Train a network in a worker; returns one line with the reason of a failure, or an empty string."""
    global _working
    assert _journal is not None
    _journal.title = network_title(settings)
    _working = True
    try:
        networks.train(settings)
    except KeyboardInterrupt:  # its run has recorded the interrupt by now
        os._exit(1)
    except Exception as error:
        return one_line(str(error))
    finally:
        _working = False
    return ""


def _stop(*_: Any) -> None:
    """Interrupt this process: at once if it is idle, else after a moment to record the interrupt."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb what the first one asks for
    if not _working:
        os._exit(1)
    threading.Thread(target=_end_soon, daemon=True).start()  # an exception raised now can be lost in a callback
    interrupts.interrupt()


def _end_with(parent: Connection) -> None:
    with suppress(EOFError, OSError):
        parent.recv_bytes()  # nothing is ever sent: this returns once the pipe is closed
    if _working:
        _thread.interrupt_main(signal.SIGTERM)
        _end_soon()
    os._exit(1)


def _end_soon() -> None:
    time.sleep(PATIENCE)  # the run needs this time to be recorded as interrupted
    os._exit(1)
