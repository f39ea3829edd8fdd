"""Trainings in parallel processes, side by side on the cores of one machine."""

import logging
import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from joblib.externals.loky import ProcessPoolExecutor

from xmnist.config.derived import phases
from xmnist.config.settings import Settings
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title
from xmnist.runtime import devices, interrupts, processes, progress
from xmnist.training import networks, workers

log = logging.getLogger(__name__)

PAYS = 100_000
"""Training images, over all epochs and runs, from which on parallel processes save more time than they cost."""

MEMORY = 3 * 2**29
"""Bytes that a process needs beside three times its images: PyTorch, and the activations of a batch."""

EVERY = 0.2
"""Seconds between two readings of the workers' logs."""


def train(members: Sequence[Settings]) -> list[Run[Settings]]:
    """Return the finished runs of these settings; missing ones are trained side by side where that saves time."""
    done = side_by_side(members)
    return [
        Run("train", settings) if index in done else networks.train(settings) for index, settings in enumerate(members)
    ]


def side_by_side(members: Sequence[Settings]) -> set[int]:
    """Train the missing runs side by side, if that saves time; returns the indices of the trained ones.

    None of the runs stands on another, and those that they stand on are finished. Each process has its share of
    the threads: two decoders on a thread each are done sooner than one after the other on two. On two threads a
    ClaDec's weights are those of a training alone, bit for bit (but for a spatial layer's with batches of 128 and more
    in float32): its gradients are then the same. Everything else differs by rounding, as always when the number of
    threads does. A training that fails is left to the caller.
    """
    missing = {index: settings for index, settings in enumerate(members) if not Run("train", settings).reusable()}
    count = _count(list(missing.values()))
    if count < 2:
        return set()
    log.info("training %d networks, %d at a time", len(missing), count)
    with progress.activity(f"training {len(missing)} networks, {count} at a time"):
        return _all(missing, count)


def _count(missing: Sequence[Settings]) -> int:
    """Return the number of trainings to run at a time; 1 where parallel processes are impossible or do not pay."""
    if len(missing) < 2 or processes.count() > 1 or devices.find_device(missing[0].device).type != "cpu":
        return 1
    if multiprocessing.current_process().daemon:  # a daemonic process may not start others
        return 1
    images = networks.load_data(missing[0]).train.images
    if sum(phase.epochs for settings in missing for phase in phases(settings)) * len(images) < PAYS:
        return 1
    room = _available() // (MEMORY + 3 * getattr(images, "nbytes", 0))
    return min(torch.get_num_threads(), len(missing), room, 61)  # Windows can wait for no more handles


def _available() -> int:
    """Return the available bytes of memory, as far as the system tells."""
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
    """Train all of them in worker processes; returns the indices of those that succeeded.

    Each worker is a pool of its own, because loky ends all processes of a pool in which one dies. A worker is
    given a training only when it can begin at once, so that an interrupt leaves none in a queue.
    """
    waiting, done, busy = list(missing.items()), set[int](), dict[Future[str], tuple[int, ProcessPoolExecutor]]()
    listened, held = Pipe(duplex=False)  # the workers end once `held` is closed, at the latest by this one's death
    with listened, held, TemporaryDirectory(prefix="xmnist-", ignore_cleanup_errors=True) as folder:
        arguments = Path(folder), listened, logging.getLogger().level, max(1, torch.get_num_threads() // count)
        journals = workers.Journals(Path(folder))
        earlier_children = set(multiprocessing.active_children())
        try:
            with workers.deaf():
                pools = [ProcessPoolExecutor(1, initializer=workers.begin, initargs=arguments) for _ in range(count)]
        except OSError as error:
            log.warning("one after the other: no semaphores can be made (%s)", error.strerror)
            return set()
        idle = list(pools)
        try:
            while busy or (waiting and idle):
                while waiting and idle:
                    (index, settings), pool = waiting[0], idle.pop()
                    with suppress(BrokenProcessPool), workers.deaf():  # it may have died while it was idle
                        busy[pool.submit(workers.train, settings)] = index, pool
                        del waiting[0]
                over = wait(busy, EVERY, FIRST_COMPLETED).done
                journals.tell()
                interrupts.raise_if_interrupted()
                for future in over:
                    index, pool = busy.pop(future)
                    try:
                        failed = future.result()
                    except BrokenProcessPool:
                        log.warning("a process died, perhaps for want of memory: its training is done later, alone")
                        continue  # its pool has ended with the process, and is not idle again
                    idle.append(pool)
                    if failed:
                        log.warning("%s failed beside others: %s", network_title(missing[index]), failed)
                    else:
                        done.add(index)
                        progress.display.plan.finished += 1
        except BaseException:
            for process in set(multiprocessing.active_children()) - earlier_children:
                process.terminate()
            wait(busy, 2 * workers.PATIENCE)  # until they have recorded that they were interrupted
            for pool in pools:
                pool.shutdown(kill_workers=True)
            raise
        for pool in pools:
            pool.shutdown()
    return done
