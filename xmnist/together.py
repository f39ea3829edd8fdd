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
from logging.handlers import QueueHandler
from multiprocessing.connection import wait as wait_for_any
from pathlib import Path
from typing import Any

import torch

from xmnist import devices, interrupts, processes, training
from xmnist.derived import Settings, plain, trained
from xmnist.errors import one_line
from xmnist.runs import Run
from xmnist.titles import NAMES

log = logging.getLogger(__name__)

PAYS = 100_000
"""Training images, over all epochs and runs, from which on starting processes costs less than it saves."""

MEMORY = 3 * 2**29
"""Bytes that a process needs beside three times its images: PyTorch, and what is made of a batch."""


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
    if len(missing) < 2 or processes.count() > 1 or devices.find_device(missing[0]["device"]).type != "cpu":
        return 1
    if multiprocessing.current_process().daemon:  # such a one may not start others
        return 1
    images = training.load_data(missing[0]).train.images
    if sum(training.training(each)["epochs"] for each in missing) * len(images) < PAYS:
        return 1
    room = _available() // (MEMORY + 3 * getattr(images, "nbytes", 0))
    return min(torch.get_num_threads(), len(missing), room, 61)  # Windows waits for no more


def _available() -> int:
    """Bytes of memory that can be had, as far as the system tells."""
    limits = [2**63]
    for file, name in (("/proc/meminfo", "MemAvailable:"), ("/sys/fs/cgroup/memory.max", "")):
        try:
            lines = [
                line.removeprefix(name).split()
                for line in Path(file).read_text(encoding="utf-8").splitlines()
                if name in line
            ]
            limits += [int(words[0]) * (1024 if name else 1) for words in lines]
        except (OSError, ValueError):  # another system, or no limit
            continue
    return min(limits)


def _all(pool: ProcessPoolExecutor, missing: Mapping[int, Settings], workers: int) -> set[int]:
    """Have all of them trained; none is handed out before it can begin, so that an interrupt leaves none to begin."""
    waiting, running, done = list(missing.items()), dict[Future[None], int](), set[int]()
    others, most = multiprocessing.active_children(), 0
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                place, settings = waiting.pop(0)
                running[pool.submit(_work, settings)] = place
            over = wait(running, 1, return_when=FIRST_COMPLETED).done
            living = len([process for process in multiprocessing.active_children() if process not in others])
            most = max(most, living)
            if not over and living < most:  # a pool does not watch the process that it has started last
                raise BrokenProcessPool
            for ended in over:
                place, error = running.pop(ended), ended.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                if error:
                    log.warning("%s failed beside others: %s", _name(missing[place]), one_line(str(error)))
                else:
                    done.add(place)
    except BrokenProcessPool:
        log.warning("a process died, perhaps for want of memory: what is left is trained one after the other")
    finally:
        if running:  # interrupted, or broken
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
    return done


def _name(settings: Settings) -> str:
    alpha = "" if settings["alpha"] is None else f" alpha={plain(settings['alpha'])}"
    layer = f" {settings['layer']}" if settings["model"]["name"] in training.DECODERS else ""
    return NAMES[settings["model"]["name"]] + layer + alpha


@contextmanager
def _told(queue: Any) -> Iterator[Any]:
    """A queue, of which all log records of other processes go where this one's do."""

    def tell() -> None:
        while (record := queue.get()) is not None:
            logging.getLogger(record.name).handle(record)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield queue
    finally:
        queue.put(None)
        thread.join(5)  # a process that was killed while it wrote would keep it waiting for ever
        queue.cancel_join_thread()


_working = False
"""Whether this process, started by another one, trains."""


def _start(told: Any, level: int, threads: int) -> None:
    """Make a new process ready; who wants to interrupt its work sends it SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: the parent has it too, and sends the other
    signal.signal(signal.SIGTERM, _stop)
    torch.set_num_threads(threads)
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(QueueHandler(told))
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not disturb what the first one asks for
    if not _working:
        os._exit(1)
    threading.Thread(target=_end_soon, daemon=True).start()  # what is raised now can be lost in a callback
    interrupts.interrupt()


def _end_soon() -> None:
    time.sleep(5)  # for the run to be told interrupted
    os._exit(1)


def _end_with_parent() -> None:
    """Wait for the end of the process that started this one; its death must not leave work behind that nobody sees."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_any([parent.sentinel])
    _thread.interrupt_main(signal.SIGTERM)
    _end_soon()


def _work(settings: Settings) -> None:
    """Train one network; what it logs begins with its name."""
    global _working
    for handler in logging.getLogger().handlers:
        if isinstance(handler, QueueHandler):
            handler.setFormatter(logging.Formatter(f"{_name(settings)}: %(message)s"))
    _working = True
    try:
        training.train(settings)
    except KeyboardInterrupt:  # its run says so by now; a pool would ask for more work
        os._exit(1)
    finally:
        _working = False
