"""Trainings that are done at the same time, side by side on the cores of one machine."""

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from logging.handlers import QueueHandler
from pathlib import Path

import torch

from xmnist.config.derived import phases, trained
from xmnist.config.settings import Settings
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title
from xmnist.runtime import devices, processes, progress
from xmnist.training import networks
from xmnist.training.workers import Worker, WorkerDied

log = logging.getLogger(__name__)

PAYS = 100_000
"""Training images, over all epochs and runs, from which on starting processes costs less than it saves."""

MEMORY = 3 * 2**29
"""Bytes that a process needs beside three times its images: PyTorch, and what is made of a batch."""


def train(members: Sequence[Settings]) -> list[Run[Settings]]:
    """The finished runs of these settings; those that are missing are trained side by side where that pays."""
    done = side_by_side(members)
    return [Run("train", each) if place in done else networks.train(each) for place, each in enumerate(members)]


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
        networks.found_or_trained(trained(each, "classifier"))
    log.info("training %d networks, %d at a time", len(missing), workers)
    with progress.activity(f"training {len(missing)} networks, {workers} at a time"):
        return _all(missing, workers)


def _workers(missing: Sequence[Settings]) -> int:
    """How many trainings to do at a time."""
    if len(missing) < 2 or processes.count() > 1 or devices.find_device(missing[0].device).type != "cpu":
        return 1
    if multiprocessing.current_process().daemon:  # such a one may not start others
        return 1
    images = networks.load_data(missing[0]).train.images
    if sum(phase.epochs for each in missing for phase in phases(each)) * len(images) < PAYS:
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


def _all(missing: Mapping[int, Settings], count: int) -> set[int]:
    """Have all of them trained; none is handed out before it can begin, so that an interrupt leaves none to begin."""
    waiting, done = list(missing.items()), set[int]()
    idle = [Worker(torch.set_num_threads, (torch.get_num_threads() // count,), _work) for _ in range(count)]
    busy = dict[Worker, int]()
    try:
        while busy or (waiting and idle):
            while waiting and idle:
                worker, (place, settings) = idle.pop(), waiting.pop(0)
                worker.give(settings)
                busy[worker] = place
            for worker, error in Worker.answers(list(busy)):
                place = busy.pop(worker)
                if isinstance(error, WorkerDied):
                    log.warning("a process died, perhaps for want of memory: its training is done later, alone")
                    continue
                idle.append(worker)
                if error:
                    log.warning("%s failed beside others: %s", network_title(missing[place]), error)
                else:
                    done.add(place)
                    progress.display.plan.finished += 1
    finally:
        for worker in (*idle, *busy):
            worker.end(worker in busy)
    return done


class _Named(logging.Formatter):
    """Puts the name of the network that is trained before a message that does not begin by saying it."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if text.startswith(f"training {self.title}:") else f"{self.title}: {text}"


def _work(settings: Settings) -> None:
    """Train one network; what it logs begins with its name."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, QueueHandler):
            handler.setFormatter(_Named(network_title(settings)))
    networks.train(settings)
