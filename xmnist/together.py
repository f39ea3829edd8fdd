"""Trainings that are done at the same time, side by side on the cores of one machine."""

import _thread
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from logging.handlers import QueueHandler, QueueListener
from multiprocessing.connection import wait as wait_for_any
from typing import Any

import torch

from xmnist import devices, training
from xmnist.derived import Settings, plain, trained
from xmnist.pictures import NAMES
from xmnist.runs import Run

log = logging.getLogger(__name__)

PAYS = 100_000
"""Training images, over all epochs and runs, from which on starting processes costs less than it saves."""

MEMORY = 2 * 2**30
"""Bytes that a process may need: PyTorch, the images, and the codes of them all."""


def train(members: Sequence[Settings]) -> list[Run]:
    """The finished runs of these settings; those that are missing are trained side by side where that pays."""
    done = side_by_side(members)
    return [Run("train", each) if place in done else training.train(each) for place, each in enumerate(members)]


def side_by_side(members: Sequence[Settings]) -> set[int]:
    """Train what is missing among these, if that pays; returns the places of the runs that it has trained.

    The runs explain or judge what is trained first; none stands on another. Each process has its share of the threads:
    two decoders on a thread each are done sooner than one after the other on two. On two threads a ClaDec's weights
    are those of a training alone, bit for bit (but for a spatial layer's with batches of 128 and more in float32): its
    gradients are then the same. Everything else differs by rounding, as always when the number of threads does. A
    training that fails is left to the caller.
    """
    missing = {place: each for place, each in enumerate(members) if not Run("train", each).reusable()}
    workers = _workers(list(missing.values()))
    if workers < 2:
        return set()
    for each in missing.values():
        training.found_or_trained(trained(each, "classifier"))
    log.info("training %d networks, %d at a time", len(missing), workers)
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    with _told(context.Queue()) as told:
        own = (told, logging.getLogger().level, torch.get_num_threads() // workers)
        with ProcessPoolExecutor(workers, context, _start, own) as pool:
            return _all(pool, missing, workers)


def _workers(missing: Sequence[Settings]) -> int:
    """How many trainings to do at a time."""
    if len(missing) < 2 or devices.find_device(missing[0]["device"]).type != "cpu":
        return 1
    epochs = sum(training.training(each)["epochs"] for each in missing)
    if epochs * len(training.load_data(missing[0]).train) < PAYS:
        return 1
    limits = [torch.get_num_threads(), len(missing)]
    if hasattr(os, "sysconf"):  # not on Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY)
    return min(limits)


def _all(pool: ProcessPoolExecutor, missing: Mapping[int, Settings], workers: int) -> set[int]:
    """Have all of them trained; none is handed out before it can begin, so that an interrupt leaves none to begin."""
    waiting, running, done = list(missing.items()), dict[Future[None], int](), set[int]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                place, settings = waiting.pop(0)
                running[pool.submit(_work, settings)] = place
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                place = running.pop(ended)
                if not ended.exception():
                    done.add(place)
    except BrokenProcessPool:
        log.warning("a process was killed, perhaps for want of memory: the rest is trained one after the other")
    except BaseException:
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    return done


@contextmanager
def _told(queue: Any) -> Iterator[Any]:
    """A queue, of which all log records of other processes go where this one's do."""
    listener = QueueListener(queue, *logging.getLogger().handlers, respect_handler_level=True)
    listener.start()
    try:
        yield queue
    finally:
        listener.stop()


def _start(told: Any, level: int, threads: int) -> None:
    """Make a new process ready; who wants to interrupt its work sends it SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent has it too, and sends the other
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(threads)
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(QueueHandler(told))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one; its death must not leave work behind that nobody sees."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    _thread.interrupt_main(signal.SIGTERM)
    time.sleep(10)  # for the run to be told interrupted
    os._exit(1)


def _work(settings: Settings) -> None:
    """Train one network; what it logs begins with its name."""
    alpha = settings["alpha"]
    name = NAMES[settings["model"]["name"]] if alpha is None else f"alpha={plain(alpha)}"
    for handler in logging.getLogger().handlers:
        if isinstance(handler, QueueHandler):
            handler.setFormatter(logging.Formatter(f"{name}: %(message)s"))
    training.train(settings)
