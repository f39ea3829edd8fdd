"""Progress of a command: one line on the terminal, repainted while the command works."""

import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from xmnist.runtime import processes

WIDTH = 100
"""The maximum width of the line, in columns."""

EVERY = 0.5
"""Seconds between two paintings."""


class Handler(logging.StreamHandler):
    """Handler that logs to the terminal, above the progress line."""

    def format(self, record: logging.LogRecord) -> str:
        return ("warning: " if record.levelno >= logging.WARNING else "") + super().format(record)

    def emit(self, record: logging.LogRecord) -> None:
        # Clears the progress line first, and paints it again below the record.
        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


@dataclass
class Activity:
    """One step of the work; `total` is 0 where it is unknown."""

    text: str
    total: float
    network: bool = False
    done: float = 0.0
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    told: float = 0.0


@dataclass
class Plan:
    """The trainings of a command: images to train on, over all epochs, by kind of network, and the seconds of each.

    The seconds may be estimates: the measured time corrects them during the work.
    """

    networks: int = 0
    finished: int = 0
    left: dict[str, float] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    worked: float = 0.0
    since: float | None = None

    def expect(self, kind: str, images: float, seconds: float) -> None:
        """Add a training of so many images, at `seconds` an image."""
        self.networks += 1
        self.left[kind] = self.left.get(kind, 0.0) + images
        self.cost[kind] = seconds

    def advance(self, kind: str, images: float) -> None:
        """Count images that were trained on."""
        self.since = self.since or time.monotonic()
        self.left[kind] = self.left.get(kind, 0.0) - images
        self.worked += images * self.cost.get(kind, 1.0)

    def seconds_left(self) -> float | None:
        """Return the seconds until the last training is done; None until enough is known."""
        took = time.monotonic() - (self.since or time.monotonic())
        if took < 2 or not self.worked:
            return None
        # Only ratios of the costs matter: measured time over estimated work scales them to this machine.
        ahead = sum(max(0.0, images) * self.cost.get(kind, 1.0) for kind, images in self.left.items())
        return took * ahead / self.worked


@dataclass(frozen=True)
class Trained:
    """A message from a worker process: the number of images that were trained on."""

    kind: str
    images: float


class Display:
    """The progress line: the current work, from the whole to the part, and the remaining time of the trainings."""

    def __init__(self) -> None:
        self.stack: list[Activity] = []
        self.plan = Plan()
        self.kind = ""
        self.send: Callable[[Trained], None] | None = None  # in a process that works for another one
        self._unsent, self._sent = 0.0, 0.0
        self._bar: Any = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def shown(self) -> bool:
        """Whether there is a terminal, and this process is the one that writes to it."""
        return not (multiprocessing.parent_process() or processes.rank()) and sys.stderr.isatty()

    def push(self, activity: Activity) -> None:
        """Show one more activity."""
        self.stack.append(activity)
        if self.shown:
            self._bar = self._bar if self._bar is not None else self._open()
            self.paint()
            if self._thread is None:
                self._thread = threading.Thread(target=self._repaint, daemon=True)
                self._thread.start()
            self._wake.set()

    def pop(self, activity: Activity) -> None:
        """Remove an activity and those that are a part of it."""
        del self.stack[self.stack.index(activity) :]
        if self._bar is not None and not self.stack:
            self._wake.clear()  # the thread waits without cost until the next activity
            self._bar.close()
            self._bar = None
        elif self._bar is not None:
            self.paint()

    def advance(self, activity: Activity, count: float, note: str) -> bool:
        """Count completed work; return whether it is time to show it, at most once every `EVERY` seconds."""
        activity.done, activity.note, now = activity.done + count, note or activity.note, time.monotonic()
        if self._bar is None or now - activity.told < EVERY:
            return False
        activity.told = now
        return True

    def trained(self, images: float) -> None:
        """Count images that the current network was trained on; a worker process sends the count to its parent."""
        if self.send is None:
            self.plan.advance(self.kind, images)
            return
        self._unsent, now = self._unsent + images, time.monotonic()
        if now - self._sent > EVERY:
            self.send(Trained(self.kind, self._unsent))
            self._unsent, self._sent = 0.0, now

    def paint(self) -> None:
        """Paint the line as it is now."""
        with tqdm.get_lock():
            bar, stack = self._bar, list(self.stack)
            if bar is None or not stack:
                return
            bar.set_description_str(self.text(stack), refresh=False)
            bar.refresh()

    def text(self, stack: list[Activity]) -> str:
        """Return the line: the current network and its activities; a long text is cut, the progress after it is not."""
        last = stack[-1]
        inner = max((index for index, step in enumerate(stack) if step.network), default=0)
        text = ": ".join(step.text for step in stack[inner:])
        if stack[inner].network and self.plan.finished < self.plan.networks > 1:
            text = f"network {self.plan.finished + 1} of {self.plan.networks}: {text}"
        end = f" {min(last.done / last.total, 1):.0%}" if last.total else ""
        end += f", {last.note}" if last.note else ""
        seconds, took = self.plan.seconds_left(), time.monotonic() - last.started
        if seconds is not None and seconds > 1:
            end += f", about {duration(seconds)} left"
        elif took > 2:
            end += f", {duration(took)}"
        room = _width() - 1 - len(end)
        whole = (text if len(text) <= room else text[: max(room - 1, 0)] + "…") + end
        return whole[: _width() - 1]  # of a terminal that is narrower than the end

    def _open(self) -> Any:
        return tqdm(bar_format="{desc}", file=sys.stderr, leave=False, ncols=WIDTH)

    def _repaint(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(EVERY)
            self.paint()


def _width() -> int:
    """Return the number of columns of the line."""
    try:
        return min(WIDTH, os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH)
    except (OSError, ValueError):
        return WIDTH


display = Display()
"""The line of this process."""


@contextmanager
def activity(text: str, total: float = 0) -> Iterator[Callable[..., bool]]:
    """Show the block as an activity; yield a function that counts completed work, of `total`.

    The function takes a number and a note to show beside it; it returns true from time to time, when these are shown.
    """
    step = Activity(text, total)
    display.push(step)
    try:
        yield lambda count=1.0, note="": display.advance(step, count, note)
    finally:
        display.pop(step)


@contextmanager
def network(kind: str, text: str) -> Iterator[None]:
    """Show that a network is being trained, its number among all, and the progress of all trainings."""
    before, display.kind = display.kind, kind
    step = Activity(text, 0, network=True)
    display.push(step)
    try:
        yield
    finally:
        display.pop(step)
        display.kind = before
        display.plan.finished += 1


def duration(seconds: float) -> str:
    """Return a time in a short form: 45 s, 5 min, 2.5 h."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
