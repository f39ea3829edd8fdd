"""Announcement of the networks that a command needs and has to train first, with the duration of their training."""

import logging
from collections.abc import Sequence

from xmnist.config.settings import Settings
from xmnist.runs import similar, store
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title
from xmnist.runtime import processes, progress
from xmnist.training import networks

log = logging.getLogger(__name__)


COST = 1e-3
"""Assumed seconds for one training image, if none were measured: only the ratio to other costs matters."""


def announce(needed: Sequence[Settings], typed: str, own: bool = False) -> None:
    """Log which networks will be trained, before the first training, and add them to the progress display's plan.

    Args:
        needed: the `train` runs that the command depends on, explained networks first.
        typed: the command.
        own: whether the last of them is the command's own training, which is not announced.
    """
    if processes.rank():
        return
    by_path = {Run("train", each).path: each for each in needed}
    missing = [each for each in by_path.values() if each.force or not Run("train", each).finished()]
    if not missing:
        return
    images, took, known = len(networks.load_data(missing[0]).train), 0.0, True
    for each in missing:
        near = similar.alike(each)
        guess, units = similar.seconds(each, images, near), images * similar.epochs(each)
        if each is missing[0] and (told := similar.told(each, images, typed, near)):
            store.log_once(logging.INFO, told)
        known, took = known and guess is not None, took + (guess[0] if guess else 0.0)
        progress.display.plan.expect(networks.kind(each), units, guess[0] / units if guess else COST)
    first = missing[:-1] if own else missing
    about = f" (about {progress.duration(took)} in all)" if known and took > similar.LONG and len(missing) > 1 else ""
    if len(first) == 1:
        log.info("the %s that this needs is not there yet: it is trained first%s", network_title(first[0]), about)
    elif first:
        names = ", ".join(map(network_title, first[:4])) + (", ..." if len(first) > 4 else "")
        log.info("%d networks that this needs are not there yet, and trained first: %s%s", len(first), names, about)
