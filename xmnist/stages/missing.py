"""Networks that a command needs and that are not there yet: announced, and trained in order."""

import logging
from collections.abc import Sequence

from xmnist.config.settings import Settings
from xmnist.runs import graph, similar, store
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title
from xmnist.runtime import distributed, processes, progress
from xmnist.training import checks, networks, side_by_side

log = logging.getLogger(__name__)


COST = 1e-3
"""Assumed seconds for one training image, if none were measured: only the ratio to other costs matters."""


def train(needed: Sequence[Settings], typed: str = "", trainings: Sequence[Settings] = ()) -> None:
    """Train these networks and those that they stand on, as far as they are missing, in order.

    Args:
        needed: the networks that a command stands on.
        typed: the command.
        trainings: its own trainings, which come later: the progress display expects them.

    Raises:
        InputError: one is missing and may not be trained.
        DamageError: a file of one of them has changed.
    """
    runs = [Run("train", settings) for settings in needed]
    for run in runs:
        if run.sound() and (warnings := run.status().get("warnings")):
            store.log_once(logging.WARNING, f"run={run.id}, on which this stands: {warnings[0]}")
    groups, trained = graph.missing(runs), set[str]()
    first = [run.settings for group in groups for run in group]
    for settings in first:
        checks.check_needed(settings)
    if not processes.rank():
        _announce(first, trainings, typed)
    while group := distributed.agreed(
        [run.settings for ready in groups[:1] for run in ready if run.key not in trained]
    ):
        side_by_side.train(group)
        trained |= {Run("train", settings).key for settings in group}
        groups = graph.missing(runs)  # again: what stands on a network that was trained again may be stale now


def _announce(first: Sequence[Settings], trainings: Sequence[Settings], typed: str) -> None:
    """Log which networks will be trained first, and add all trainings to the progress display's plan."""
    to_do = [*first, *(settings for settings in trainings if not Run("train", settings).reusable())]
    if not to_do:
        return
    images, took, known = len(networks.load_data(to_do[0]).train), 0.0, True
    for settings in to_do:
        near = similar.alike(settings)
        guess, units = similar.seconds(settings, images, near), images * similar.epochs(settings)
        if settings is to_do[0] and (message := similar.told(settings, images, typed, near)):
            store.log_once(logging.INFO, message)
        known, took = known and guess is not None, took + (guess[0] if guess else 0.0)
        progress.display.plan.expect(networks.kind(settings), units, guess[0] / units if guess else COST)
    about = f" (about {progress.duration(took)} in all)" if known and took > similar.LONG and len(to_do) > 1 else ""
    if len(first) == 1:
        log.info("the %s that this needs is not there yet: it is trained first%s", network_title(first[0]), about)
    elif first:
        names = ", ".join(map(network_title, first[:4])) + (", ..." if len(first) > 4 else "")
        log.info("%d networks that this needs are not there yet, and trained first: %s%s", len(first), names, about)
