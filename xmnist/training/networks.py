"""Finished training runs: reused where they exist, trained where they are missing."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xmnist import data
from xmnist.config.derived import explained, judged, phases, trained
from xmnist.config.settings import Settings, Training
from xmnist.data.base import Data, Info
from xmnist.models import base, joint, summary
from xmnist.models.kinds.joint import JointModel
from xmnist.models.layers import Encoder, fit_normalisation, freeze, names_of, place
from xmnist.plots import figures, pictures
from xmnist.runs import store
from xmnist.runs.commands import words
from xmnist.runs.store import Run
from xmnist.runs.titles import network_title, title
from xmnist.runtime import devices, distributed, environment, processes, progress, reading
from xmnist.runtime.errors import InputError
from xmnist.runtime.seeds import derive_seed
from xmnist.training import diagnosis, loop, objectives, resuming

log = logging.getLogger(__name__)


def check(settings: Settings) -> None:
    """Check, before anything is written, whether this run can be done.

    Raises:
        InputError: no such device, layer, gate, data or trained weights; a decoder that does not fit; masks that are
            needed and missing; a classifier that is missing and may not be trained; files of this run or of the
            classifier's that another run wrote.
    """
    _precision(settings, devices.find_device(settings.device))
    run = Run("train", settings)
    if not run.reusable() and not settings.force:
        resuming.saved_state(run)
    info, model = data.info(settings.dataset), settings.model
    # Shapes are all that is needed: on the meta device, no weights are allocated and nothing is computed.
    with torch.device("meta"):
        network, example = new_explained(settings, info).eval(), torch.empty(1, *info.shape)
        if isinstance(network, joint.Joint):
            joint.check_gates(network, example)
        if model.decodes:
            _check_decoder(settings, tuple(Encoder(network, str(settings.layer))(example).shape[1:]), info)
    if model.needs_masks and not info.masks:
        raise InputError(f"model.loss=hybrid needs a data set with masks, which {settings.dataset.name} has not")
    if model.decodes:
        basis = check_needed(explained(settings))
        if not basis.finished():
            _check_beginning(basis.settings, info)
    _check_beginning(settings, info)
    if decoder := judged(settings):
        if settings.dataset.augmented:
            raise InputError(
                "a decoder's pictures are made once, and cannot be augmented: set dataset.aug_prob=0, or do without "
                "the fresh classifier: metrics.reconstruction.evaluation_accuracy=false"
            )
        if not check_needed(decoder).finished():
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
        base.made(settings.classifier).check_beginning(model)


def check_needed(settings: Settings) -> Run[Settings]:
    """Return the run of these settings, which another one needs.

    Raises:
        InputError: it is missing and may not be trained, or its files are not those that it wrote.
    """
    run = Run("train", settings)
    if not run.finished() and not settings.train_missing:
        raise InputError(
            f"the {settings.model.title} that this needs is not there and train_missing=false; it "
            f"would be trained by: {command(settings)}"
        )
    return run


def load_data(settings: Settings) -> Data:
    """Load the data set of these settings."""
    with progress.activity(f"reading {settings.dataset.name}"):
        return data.load(settings.dataset, settings.data_dir, settings.seed)


def train(settings: Settings, typed: str | None = None) -> Run[Settings]:
    """Return the finished run of these settings, trained now if missing; `typed` is the command that asked for it."""
    run = Run("train", settings)
    with distributed.claimed(lambda: store.claim(run, typed or command(settings))) as needed:
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
    settings = run.settings
    device = devices.find_device(settings.device)
    write_environment(run, device)
    images = _seen_in_training(settings, device)
    with progress.activity("setting up"):
        parts = _tasks(settings, images, device)
        _write_table(run, parts, images.info)
        run.write_json("data.json", images.description())
    history = resuming.fit(run, parts, images)
    _write_results(run, parts[-1][0], images, history)


def _seen_in_training(settings: Settings, device: torch.device) -> Data:
    """Return the training data: the data set, or a decoder's reconstructions of it for an evaluation classifier."""
    images = load_data(settings).to(device)
    decoder = judged(settings)
    if decoder is None:
        return images
    reconstruct = fitted(found_or_trained(decoder), images, device).reconstruct
    assert reconstruct is not None
    return images.mapped(reconstruct)


def load_explained(settings: Settings, images: Data, device: torch.device) -> nn.Module:
    """Return the trained network that these settings explain, frozen; it is trained now where it is missing."""
    run = found_or_trained(explained(settings))
    model = new_explained(settings, images.info)
    run.load_into(model, "model.pt")
    return freeze(place(model, device))


def found_or_trained(settings: Settings) -> Run[Settings]:
    """Return the finished run of these settings, which another one needs; it is trained now where it is missing."""
    run = check_needed(settings)
    if not distributed.agreed(run.finished()):
        train(settings)
    elif warnings := run.status().get("warnings"):
        store.log_once(logging.WARNING, f"run={run.id}, on which this stands: {warnings[0]}")
    return run


def kind(settings: Settings) -> str:
    """Return the kind of training; trainings of one kind take about as long for each image."""
    return f"{settings.model.name} of {settings.layer}"


def new_classifier(settings: Settings, info: Info) -> nn.Module:
    """Return the classifier of these settings, freshly initialised."""
    return base.made(settings.classifier).build(info.shape, len(info.classes))


def new_explained(settings: Settings, info: Info) -> nn.Module:
    """Return the untrained network that is explained: a joint network where that is the model, else the classifier."""
    network = settings.model.around(new_classifier(settings, info), info.shape)
    assert isinstance(network, nn.Module)
    return network


def command(settings: Settings) -> str:
    """Return the command that makes the run of these settings."""
    return store.command("train", words(settings))


def _tasks(settings: Settings, images: Data, device: torch.device) -> list[tuple[objectives.Task, Training]]:
    """Return the tasks to train, in order, with their training settings: one, or one per phase of a joint model."""
    if not isinstance(settings.model, JointModel):
        return [(_task(settings, images, device), phases(settings)[0])]
    # A seed of its own, so that the weights depend on nothing that was drawn before.
    torch.manual_seed(derive_seed(settings.seed, "initial weights of joint"))
    model = new_explained(settings, images.info)
    fit_normalisation(model, images.train.images)
    place(model, device)
    assert isinstance(model, joint.Joint) and isinstance(settings.alpha, list)
    out = []
    for alpha, options in zip(settings.alpha, phases(settings), strict=True):
        assert isinstance(options.lr, dict)
        frozen = tuple(part for part in joint.PARTS if not options.lr[part])
        task = objectives.joint(model, images, frozen, alpha, loss=settings.model.loss, **settings.weights)
        out.append((task, options))
    return out


def _task(settings: Settings, images: Data, device: torch.device) -> objectives.Task:
    name, alpha = settings.model.name, settings.alpha if isinstance(settings.alpha, float) else 0.0
    options = settings.model.options() | {
        "layer": settings.layer,
        "neurons": settings.neurons,
        "seed": settings.seed,
    }
    precision = _precision(settings, device)

    def fresh() -> nn.Module:
        model = new_classifier(settings, images.info)
        fit_normalisation(model, images.train.images)
        return place(model, device)

    build: dict[str, Callable[[Any], objectives.Task]] = {
        "classifier": lambda _: objectives.classifier(fresh(), images),
        "evaluation": lambda _: objectives.classifier(fresh(), images),
        "cladec": lambda explained: objectives.cladec(
            explained,
            images,
            alpha=alpha,
            precision=precision,
            keep=partial(_codes, settings, device, precision),
            **options,
        ),
        "refae": lambda explained: objectives.refae(explained, fresh(), images, **options),
        "cladec_vae": lambda explained: objectives.cladec_vae(
            explained, images, alpha=alpha, keep=partial(_codes, settings, device, "fp32"), **options
        ),
        "refvae": lambda explained: objectives.refvae(explained, fresh(), images, **options),
    }
    # Seeded after the explained network is there: it may have to be trained first, which draws random numbers.
    basis = load_explained(settings, images, device) if settings.model.decodes else None
    torch.manual_seed(derive_seed(settings.seed, f"initial weights of {name}"))
    return build[name](basis)


def _precision(settings: Settings, device: torch.device) -> str:
    return devices.find_precision(phases(settings)[0].precision, device)


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


def write_environment(run: Run[Any], device: torch.device) -> None:
    """Write the environment that a run is made in."""
    found = environment.describe(device, torch.get_num_threads(), run.settings.seed)
    if run.stage == "train":
        found["precision"] = _precision(run.settings, device)
    run.write_json("environment.json", found)


def _write_results(run: Run[Settings], task: objectives.Task, images: Data, history: list[loop.Row]) -> None:
    seconds = sum(row["seconds"] for row in history)
    speed = len(history) * len(images.train) / seconds
    effort = {"epochs": len(history), "seconds": seconds, "images_per_second": speed}
    with progress.activity("testing"):
        scores = distributed.measured(task.test, images.test)
        run.write_json("metrics.json", scores | effort)
    run.write_csv("history.csv", history)
    run.save("model.pt", task.model.state_dict())
    if processes.rank():
        return
    # The other processes have returned: nothing from here on may wait for them.
    diagnosis.warn(run.settings, scores, history, images)
    with progress.activity("drawing"), distributed.alone():
        draw(run, task, images, history)


def draw(run: Run[Settings], task: objectives.Task, images: Data, history: Sequence[Mapping[str, float]]) -> None:
    """Draw a training's curves and, where its network reconstructs images, examples and its latent space."""
    run.draw("curves", lambda file: figures.curves(history, title(run.settings), file))
    if task.reconstruct is not None:
        draw_examples(run, images, [(run, task)])
        if task.latent is not None:
            pictures.latent(run, task.latent, images)


def _draw_again(run: Run[Settings]) -> None:
    """Draw a finished run's pictures in formats that they were not drawn in."""
    rows = reading.csv_rows(run.path / "history.csv")
    history = [{key: float(value) for key, value in row.items()} for row in rows]
    device = devices.find_device(run.settings.device)
    with progress.activity("drawing"):
        images = load_data(run.settings).to(device)
        draw(run, fitted(run, images, device), images, history)


def _write_table(run: Run[Settings], parts: list[tuple[objectives.Task, Training]], info: Info) -> None:
    """Write a table of the trained network, layer by layer."""
    if processes.rank():
        return
    task, pixels = parts[0][0], torch.zeros(1, *info.shape, device=next(parts[0][0].model.parameters()).device)
    head = f"{title(run.settings)}\nimages {summary.shape(pixels)}, {len(info.classes)} classes"
    if task.explained is not None:
        with torch.no_grad():
            code = Encoder(task.explained, str(run.settings.layer))(pixels)
        head += f"; a code, which is the output of layer {run.settings.layer}: {summary.shape(code)}"
    head += f"\n{summary.count(task.model.parameters()):,} parameters in all" if task.parts else ""
    seen = summary.trace(task.model, lambda: (task.reconstruct or task.model)(pixels))
    several = (task.model, *task.parts.values())
    classifies = any(names_of(network, what) for network in several for what in ("layers", "gates"))
    legend = [*([summary.MARKS] if classifies else []), summary.LEGEND]
    tables = []
    for name, network in (task.parts or {"": task.model}).items():
        marked = {"layer": names_of(network, "layers"), "gate": () if name else names_of(network, "gates")}
        if isinstance(task.model, joint.Joint):
            marked["gate"] = task.model.gates if name == joint.PARTS[0] else ()
            rates = [options.lr for _, options in parts]
            learns = [str(phase) for phase, lr in enumerate(rates, 1) if isinstance(lr, dict) and lr[name]]
            name += f": learns in phase {' and '.join(learns)}" if learns else ": does not learn"
        tables.append(summary.table(name, network, seen, marked))
    with store.atomic(run.path / "model.txt") as file:
        file.write_text("\n\n\n".join([head, *tables, "\n".join(legend)]) + "\n", encoding="utf-8")


def fitted(run: Run[Settings], images: Data, device: torch.device) -> objectives.Task:
    """Return the task of a finished run, with its trained weights in the network."""
    task = _tasks(run.settings, images, device)[-1][0]
    run.load_into(task.model, "model.pt")
    task.model.eval()
    return task


def draw_examples(run: Run[Settings], images: Data, models: list[tuple[Run[Settings], objectives.Task]]) -> None:
    """Draw a few test images and each model's reconstructions; a RefAE comes first where there is a finished one."""
    # By path, so that a reference that several models share is drawn once.
    shown = dict[Path, tuple[Run[Settings], objectives.Task]]()
    for model in models:
        shown |= {member.path: (member, task) for member, task in (*_reference(model[0], images), model)}
    basis = models[0][1].explained
    assert basis is not None
    rows = [(member.settings, task) for member, task in shown.values()]
    pictures.examples(run, basis, rows, images.test, images.info.classes)


def _reference(run: Run[Settings], images: Data) -> list[tuple[Run[Settings], objectives.Task]]:
    """Return the finished RefAE or RefVAE that belongs to a ClaDec's run, if there is one that can be read."""
    settings = run.settings
    if not settings.model.reference:
        return []
    reference = Run("train", trained(settings, settings.model.reference))
    try:
        if not reference.finished():
            return []
        return [(reference, fitted(reference, images, images.test.images.device))]
    except InputError as error:
        # A damaged reference must not fail the run whose picture it only completes.
        log.warning("the picture is drawn without a %s: %s", reference.settings.model.title, error)
        return []
