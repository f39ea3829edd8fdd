"""Order of the runs that a command stands on."""

from collections.abc import Iterable

from xmnist.config.settings import Settings
from xmnist.runs.store import Run


def missing(needed: Iterable[Run[Settings]]) -> list[list[Run[Settings]]]:
    """Return these `train` runs and all that they stand on, as far as they are not finished, in groups.

    The runs of a group stand on those of earlier groups only, so that they can be made side by side. What a finished
    run stands on is not looked at.

    Raises:
        DamageError: a file of one of them has changed.
    """
    numbered: dict[str, tuple[int, Run[Settings]]] = {}

    def visit(run: Run[Settings]) -> int:
        """Return the number of groups up to that of this run; 0 if it is finished."""
        if run.key not in numbered:
            numbered[run.key] = 0 if run.finished() else 1 + max(map(visit, run.bases()), default=0), run
        return numbered[run.key][0]

    count = max(map(visit, needed), default=0)
    return [[run for number, run in numbered.values() if number == group] for group in range(1, count + 1)]
