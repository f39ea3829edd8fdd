"""Two ways to do the same, timed in turn, so that a noisy machine is noisy for both."""

import time
from collections.abc import Callable
from dataclasses import dataclass

Seconds = Callable[[], float | None]
"""Does the work; answers how long what counts of it took, or None for all of it."""


@dataclass(frozen=True)
class Ratio:
    """How long the program takes (`ours`) for what takes `floor` by itself: seconds of each round."""

    name: str
    floor: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """Of the best rounds."""
        return min(self.ours) / min(self.floor)

    def __str__(self) -> str:
        rounds = " ".join(f"{a:.2f}/{b:.2f}" for a, b in zip(self.floor, self.ours, strict=True))
        return f"{self.name}: {self.ratio:.3f}  ({min(self.floor):.3f} s, {min(self.ours):.3f} s; rounds {rounds})"

    def row(self) -> dict[str, str | float]:
        """A line of a table."""
        best = {"floor": min(self.floor), "ours": min(self.ours)}
        most = {"floor_worst": max(self.floor), "ours_worst": max(self.ours)}
        return {"name": self.name, "ratio": self.ratio, **best, **most, "rounds": len(self.ours)}


def side_by_side(name: str, floor: Seconds, ours: Seconds, rounds: int) -> Ratio:
    """Time both in turn, after a round that does not count."""
    seconds: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for work, found in zip((floor, ours), seconds, strict=True):
            start = time.perf_counter()
            counted = work()
            if number:
                found.append(time.perf_counter() - start if counted is None else counted)
    return Ratio(name, *seconds)
