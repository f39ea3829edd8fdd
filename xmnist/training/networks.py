"""Networks of `train` runs: trained where they are missing, and loaded again."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from xmnist import data
from xmnist.config.derived import explained, judged, trained
from xmnist.config.settings import Settings
from xmnist.data.base import Data
from xmnist.models.base import new_explained
from xmnist.models.layers import freeze, place
from xmnist.plots import pictures
from xmnist.runs import claims
from xmnist.runs.commands import train_command
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title
from xmnist.runtime import devices, distributed, processes, progress, reading
from xmnist.runtime.errors import InputError
from xmnist.training import objectives, results, resuming
from xmnist.training.objectives import Task, TrainingContext

log = logging.getLogger(__name__)


def kind(settings: Settings) -> str:
    """Return the kind of training; trainings of one kind take about as long for each image."""
    return f"{settings.model.name} of {settings.layer}"


def load_data(settings: Settings) -> Data:
    """Load the data set of these settings."""
    with progress.activity(f"reading {settings.dataset.name}"):
        return data.load(settings.dataset, settings.data_dir, settings.seed)


def train(settings: Settings, typed: str | None = None) -> Run[Settings]:
    """Return the finished run of these settings, trained now if missing; the runs that it stands on are finished.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: one of those runs is not there.
    """
    run = Run("train", settings)
    with distributed.claimed(lambda: claims.claim(run, typed or train_command(settings))) as needed:
        if needed:
            log.info("training %s: %s", network_title(settings), run.path)
            with progress.network(kind(settings), network_title(settings)):
                _train(run)
        elif not run.drawn() and not processes.rank():
            _draw_again(run)  # a finished run may lack formats that are asked for now
        run.log_summary("done" if needed else "already done")
    return run


def _train(run: Run[Settings]) -> None:
    """Train a run's network, and write its results."""
    device = devices.find_device(run.settings.device)
    results.write_environment(run, device)
    images = _seen_in_training(run.settings, device)
    with progress.activity("setting up"):
        phases = tasks(run.settings, images, device)
        task = phases[0]  # all phases train one network
        results.write_table(run, task, images.info)
        run.write_json("data.json", images.description())
    history = resuming.fit(run, phases, images)
    results.write(run, task, images, history)
    if processes.rank():
        return
    # The other processes have returned: nothing from here on may wait for them.
    with progress.activity("drawing"), distributed.alone():
        results.draw(run, task, images, history, references(run, images))


def _seen_in_training(settings: Settings, device: torch.device) -> Data:
    """Return the training data: the data set, or a decoder's reconstructions of it for an evaluation classifier."""
    images = load_data(settings).to(device)
    decoder = judged(settings)
    if decoder is None:
        return images
    reconstruct = fitted(Run("train", decoder), images, device).reconstruct
    assert reconstruct is not None
    return images.mapped(reconstruct)


def load_explained(settings: Settings, images: Data, device: torch.device) -> nn.Module:
    """Return the trained network that these settings explain, frozen.

    Raises:
        InputError: it is not there.
    """
    run, model = Run("train", explained(settings)), new_explained(settings, images.info)
    if not run.sound():  # that its files are as it wrote them has been checked before the first training
        raise InputError(f"the {run.settings.model.title} is not there: {train_command(run.settings)}")
    run.load_into(model, "model.pt")
    return freeze(place(model, device))


def fitted(run: Run[Settings], images: Data, device: torch.device) -> Task:
    """Return the task of a finished run, with its trained weights in the network.

    Raises:
        InputError: they are not there, or damaged.
    """
    task = tasks(run.settings, images, device)[-1]
    run.load_into(task.model, "model.pt")
    task.model.eval()
    return task


def _draw_again(run: Run[Settings]) -> None:
    """Draw a finished run's pictures in formats that they were not drawn in."""
    rows = reading.csv_rows(run.path / "history.csv")
    history = [{key: float(value) for key, value in row.items()} for row in rows]
    device = devices.find_device(run.settings.device)
    with progress.activity("drawing"):
        images = load_data(run.settings).to(device)
        results.draw(run, fitted(run, images, device), images, history, references(run, images))


def references(run: Run[Settings], images: Data) -> list[pictures.Reconstructor]:
    """Return the finished reference autoencoder that belongs to a ClaDec's run, if there is one that can be read."""
    settings = run.settings
    if not settings.model.reference:
        return []
    reference = Run("train", trained(settings, settings.model.reference))
    try:
        if not reference.finished():
            return []
        task = fitted(reference, images, images.test.images.device)
        return [results.reconstructor(reference, task)]
    except InputError as error:
        # A damaged reference must not fail the run whose picture it only completes.
        log.warning("the picture is drawn without a %s: %s", reference.settings.model.title, error)
        return []


def tasks(settings: Settings, images: Data, device: torch.device) -> list[Task]:
    """Return the tasks of a run's training, one for each phase, given the finished network that it explains."""
    if not settings.model.decodes:
        return objectives.tasks(TrainingContext(settings, images))
    basis = load_explained(settings, images, device)
    return objectives.tasks(TrainingContext(settings, images, basis, partial(_codes, settings, device)))


_last_codes: dict[str, Tensor] = {}
"""Codes of the last trained ClaDec, kept because the next one of a sweep over alphas has the same."""


def _codes(settings: Settings, device: torch.device, precision: str, make: Callable[[], Tensor]) -> Tensor:
    """Return the codes of all training images, made once for the ClaDecs that a process trains one after the other."""
    basis = Run("train", explained(settings))
    weights = basis.status().get("files")  # another training of the same classifier has other codes
    key = repr((basis.path, weights, settings.layer, settings.data_dir, str(device), precision))
    if key not in _last_codes:
        _last_codes.clear()  # first, so that memory never holds the old and the new ones
        _last_codes[key] = make()
    return _last_codes[key]
