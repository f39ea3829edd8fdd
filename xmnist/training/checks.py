"""Checks of a training before anything is written."""

import torch

from xmnist import data
from xmnist.config.derived import explained, judged
from xmnist.config.settings import Settings
from xmnist.data.base import Info
from xmnist.models.base import made, new_classifier, new_explained
from xmnist.models.layers import Encoder
from xmnist.runs.commands import train_command
from xmnist.runs.store import Run
from xmnist.runtime import devices
from xmnist.runtime.errors import InputError
from xmnist.training import objectives, resuming
from xmnist.training.networks import load_data
from xmnist.training.objectives.base import find_precision


def check(settings: Settings) -> None:
    """Check, before anything is written, whether this run can be done.

    Raises:
        InputError: no such device, layer, gate, data or trained weights; a decoder that does not fit; masks that are
            needed and missing; a classifier that is missing and may not be trained; files of this run or of the
            classifier's that another run wrote.
    """
    objectives.check(settings.model)
    find_precision(settings, devices.find_device(settings.device))
    run = Run("train", settings)
    if not run.reusable() and not settings.force:
        resuming.saved_state(run)
    info, model = data.info(settings.dataset), settings.model
    # Shapes are all that is needed: on the meta device, no weights are allocated and nothing is computed.
    with torch.device("meta"):
        network, example = new_explained(settings, info).eval(), torch.empty(1, *info.shape)
        model.check_network(network, example)
        if model.decodes:
            _check_decoder(settings, tuple(Encoder(network, str(settings.layer))(example).shape[1:]), info)
    if model.needs_masks and not info.masks:
        raise InputError(f"{model.needs_masks} needs a data set with masks, which {settings.dataset.name} has not")
    if model.decodes:
        basis = explained(settings)
        if not check_needed(basis):
            _check_beginning(basis, info)
    _check_beginning(settings, info)
    if decoder := judged(settings):
        if settings.dataset.augmented:
            raise InputError(
                "a decoder's pictures are made once, and cannot be augmented: set dataset.aug_prob=0, or do without "
                "the fresh classifier: metrics.reconstruction.evaluation_accuracy=false"
            )
        if not check_needed(decoder):
            check(decoder)
    if not settings.dataset.drawn:  # those cannot be missing or damaged
        load_data(settings)


def _check_decoder(settings: Settings, code: tuple[int, ...], info: Info) -> None:
    try:
        settings.model.check_code(code, info.shape, settings.neurons)
    except InputError as error:
        raise InputError(f"layer={settings.layer}: {error}") from None


def _check_beginning(settings: Settings, info: Info) -> None:
    begins = resuming.begins(settings)
    if begins and (settings.force or resuming.saved_state(Run("train", settings)) is None):  # else it goes on
        with torch.device("meta"):
            model = new_classifier(settings, info)
        made(settings.classifier).check_beginning(model)


def check_needed(settings: Settings) -> bool:
    """Return whether the run of these settings, which another one needs, is finished.

    Raises:
        InputError: it is missing and may not be trained.
        DamageError: a file of it has changed.
    """
    finished = Run("train", settings).finished()
    if not finished and not settings.train_missing:
        raise InputError(
            f"the {settings.model.title} that this needs is not there and train_missing=false; it "
            f"would be trained by: {train_command(settings)}"
        )
    return finished
