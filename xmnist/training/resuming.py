"""Training of a run's network: initialised from trained weights, resumed, or from the start."""

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn

from xmnist.config.derived import phases
from xmnist.config.settings import Settings
from xmnist.config.trainer import Training
from xmnist.data.base import Data
from xmnist.models import base
from xmnist.plots import pictures
from xmnist.runs import store, titles
from xmnist.runs.store import Run
from xmnist.runtime import devices, distributed, interrupts, processes
from xmnist.runtime.seeds import derive_seed
from xmnist.runtime.storage import digest
from xmnist.training import loop
from xmnist.training.objectives import Task

log = logging.getLogger(__name__)


def begins(settings: Settings) -> bool:
    """Return whether a training's classifier is initialised from trained weights.

    The encoder of a RefAE and an evaluation classifier must be fresh.
    """
    return settings.model.explained and base.made(settings.classifier).begins()


def _begin(settings: Settings, task: Task) -> None:
    """Initialise a fresh classifier, or that of a joint model, from the trained weights that its settings name."""
    if begins(settings) and task.classifier is not None:
        log.info("the training begins with %s", base.made(settings.classifier).begin(task.classifier))


def fit(run: Run[Settings], tasks: Sequence[Task], images: Data) -> list[loop.Row]:
    """Train one phase after the other, resumed where a run was stopped; returns all rows of the history."""
    model, several = tasks[0].model, len(tasks) > 1
    state, sources = _resumed(run, model), run.sources()
    first, before = (state["phase"], state["before"]) if state else (1, [])
    if state is None:
        _begin(run.settings, tasks[0])
    if distributed.normalises_apart(model):
        log.warning(
            "BatchNorm has the statistics of each process's own rows on a CPU: %d processes train another network than "
            "one",
            processes.count(),
        )
    for phase, (task, options) in enumerate(zip(tasks, phases(run.settings), strict=True), 1):
        if phase < first:
            continue
        before = before + _fit_phase(run, task, options, images, phase, before, len(tasks), state, sources)
        state = None  # the phases after the resumed one start afresh
        if several:
            run.save(f"phase{phase}.pt", task.model.state_dict())
        if several and task.maps and not processes.rank():
            pictures.maps(run, task.model, task.maps, images.validation, images.info.classes, phase)
    return before


def _resumed(run: Run[Settings], model: nn.Module) -> dict[str, Any] | None:
    """Return the state to resume from, if any; in a later phase of a joint model, also load the phase before.

    Raises:
        InputError: the files that it would resume from were not written by this run.
    """
    state = saved_state(run)
    if state and state["phase"] > 1:  # maps that are computed once, before the loop restores its state, need these
        for name, checksum in state["weights"].items():
            if not (run.path / name).is_file() or digest(run.path / name) != checksum:
                raise run.refused(name, "last.pt goes on from another one")
        run.load_into(model, f"phase{state['phase'] - 1}.pt")
    return state


def _fit_phase(
    run: Run[Settings],
    task: Task,
    options: Training,
    images: Data,
    phase: int,
    before: list[loop.Row],
    count: int,
    state: dict[str, Any] | None,
    sources: dict[str, Any],
) -> list[loop.Row]:
    def numbered(rows: list[loop.Row]) -> list[loop.Row]:
        return rows if count == 1 else [{"phase": phase, **row} for row in rows]

    def save(state: dict[str, Any]) -> None:
        if processes.rank():
            return
        # Checksums of the earlier phases, so that a resumed run notices files of another training.
        weights = {name: digest(run.path / name) for name in (f"phase{done}.pt" for done in range(1, phase))}
        position = {"run": run.path.name, "sources": sources, "phase": phase, "before": before, "weights": weights}
        run.save("last.pt", position | state)
        run.write_csv("history.csv", before + numbered(state["history"]))
        interrupts.raise_if_interrupted()  # only now: the state to resume from is complete

    def watch() -> dict[str, float]:
        return distributed.measured(task.watch, images.validation)

    seed = run.settings.seed
    if count > 1:
        log.info("phase %d of %d: %s", phase, count, titles.phase_title(run.settings, phase))
        seed = derive_seed(seed, f"phase {phase}")
    task.prepare()
    precision = devices.find_precision(options.precision, images.train.labels.device)
    arguments = {"precision": precision, "seed": seed, "figures": task.figures, "state": state, "save": save}
    try:
        rows = loop.fit(task.model, task.loss, task.rows(), watch, **(vars(options) | arguments))
    except loop.StateError as error:
        raise run.refused("last.pt", str(error)) from None
    return numbered(rows)


def saved_state(run: Run[Settings]) -> dict[str, Any] | None:
    """Return the saved state of a run that was stopped, or None if there is none to resume from.

    Raises:
        InputError: there is a `last.pt`, but this run did not write it.
    """
    state = run.load("last.pt")
    if state is not None and state.get("run") != run.path.name:
        raise run.refused("last.pt", f"it was saved by {state.get('run', 'something else')}")
    if state is not None and not {"phase", "before", "weights"} <= state.keys():
        raise run.refused("last.pt", "it is not complete")
    if state is not None and (changed := run.changed(state.get("sources") or {"stands_on": {}})):
        store.log_once(logging.WARNING, f"{run.path} begins anew, and does not go on from its last epoch: {changed}")
        return None
    return state
