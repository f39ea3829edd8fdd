"""Processes that do one piece of work after another, each with a pipe of its own.

They share no lock or queue: whenever one of them dies, the others and the process that started them go on.
"""

import _thread
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection, wait
from typing import Any

from xmnist.runtime import interrupts, machine, progress
from xmnist.runtime.errors import one_line

PATIENCE = 5.0
"""Seconds that a process has to write down that it was interrupted."""


class WorkerDied(Exception):
    """A process ended in the middle of its work: it was killed, perhaps for want of memory."""


class WorkFailed(Exception):
    """What a process was given raised an error; the message is that error, in one line."""


class Worker:
    """A process that does work; what it logs is logged by the process that started it.

    Args:
        prepare: called once in the new process, with `given`.
        work: called there for each piece of work; it must be importable, as everything that is passed on.
    """

    def __init__(self, prepare: Callable[..., None], given: Sequence[Any], work: Callable[[Any], None]) -> None:
        context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
        self.pipe, theirs = context.Pipe()
        level = logging.getLogger().level
        self.process = context.Process(target=_serve, args=(theirs, level, prepare, given, work))
        self.process.start()
        theirs.close()

    def give(self, piece: Any) -> None:
        """Let the process begin a piece of work."""
        with suppress(OSError):  # it has died meanwhile, which `answers` finds out
            self.pipe.send(piece)

    @staticmethod
    def answers(busy: Sequence["Worker"]) -> list[tuple["Worker", Exception | None]]:
        """Wait until some of the processes are done, and how each of these ended: None is well."""
        by_end: dict[Any, Worker] = {end: each for each in busy for end in (each.pipe, each.process.sentinel)}
        while True:
            ready = dict.fromkeys(by_end[end] for end in wait(list(by_end)))
            over = [(each, answer) for each in ready for answer in each._read()]
            if over:
                return over

    def _read(self) -> list[Exception | None]:
        """What the process has said by now, but for what it logged, which is logged."""
        try:
            while self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, progress.Trained):
                    progress.display.plan.advance(said.kind, said.images)
                elif isinstance(said, logging.LogRecord):
                    logging.getLogger(said.name).handle(said)
                else:
                    return [said]
        except Exception:  # it died, perhaps in the middle of a word
            self.process.join(1)
            return [WorkerDied()]
        return [] if self.process.is_alive() else [WorkerDied()]

    def end(self, busy: bool) -> None:
        """End the process: at once if it is idle, else after it has written down that it was interrupted."""
        self.pipe.close()
        if busy:
            self.process.terminate()
        self.process.join(2 * PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class _Teller(QueueHandler):
    """Sends log records through a pipe; several threads may log."""

    def __init__(self, pipe: Connection, lock: Any) -> None:
        super().__init__(pipe)  # type: ignore[arg-type]
        self.own = lock

    def enqueue(self, record: logging.LogRecord) -> None:
        with self.own:
            self.queue.send(record)  # type: ignore[attr-defined]

    def handleError(self, record: logging.LogRecord) -> None:
        """Nobody listens any more, and the work will end in a moment."""


_working = False
"""Whether this process, started by another one, is in the middle of a piece of work."""


def _serve(pipe: Connection, level: int, prepare: Callable[..., None], given: Sequence[Any], work: Any) -> None:
    """Be a worker; who wants to interrupt its work sends it SIGTERM."""
    global _working
    machine.prepare()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent has it too, and sends the other
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    root, lock = logging.getLogger(), threading.Lock()
    root.setLevel(level)
    root.addHandler(_Teller(pipe, lock))

    def send(said: progress.Trained) -> None:
        with lock, suppress(OSError):  # nobody listens any more, and the work will end in a moment
            pipe.send(said)

    progress.display.send = send
    prepare(*given)
    while True:
        try:
            piece = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Exception | None = None
        _working = True
        try:
            work(piece)
        except KeyboardInterrupt:  # its run says so by now
            os._exit(1)
        except Exception as error:
            answer = WorkFailed(one_line(str(error)))
        finally:
            _working = False
        with lock:
            pipe.send(answer)


def _stop(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb what the first one asks for
    if not _working:
        os._exit(1)
    threading.Thread(target=_end_soon, daemon=True).start()  # what is raised now can be lost in a callback
    interrupts.interrupt()


def _end_soon() -> None:
    time.sleep(PATIENCE)  # for the run to be told interrupted
    os._exit(1)


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one; its death must not leave work behind that nobody sees."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    _thread.interrupt_main(signal.SIGTERM)
    _end_soon()
