"""Stage `train`: fits one network, or one ClaDec for each of several alphas, and writes down all about it."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from xmnist import classifiers, data, decoders, environment, figures, runs, tasks, trainer
from xmnist.config import Settings, explained_classifier, plain, training
from xmnist.data.base import Data, Info, Split
from xmnist.data.files import BUILT_IN
from xmnist.errors import InputError
from xmnist.layers import Encoder, batched, derive_seed, fit_normalisation, freeze, place
from xmnist.runs import Run

log = logging.getLogger(__name__)

EXAMPLES = 8
"""How many test images of different classes the first picture shows, with up to half as many misclassified ones."""


def check(settings: Settings, overrides: Sequence[str] = ()) -> None:
    """Find out, before anything is written, whether this run can be done.

    Raises:
        InputError: no such device, layer or data; a decoder that does not fit; a classifier that is not there and may
            not be trained; files of this run or of the classifier's that another run wrote.
    """
    find_device(settings["device"])
    for member in _members(settings):
        run = Run("train", member)
        if not run.reusable() and not settings["force"]:
            _saved_state(run)
    info = data.info(settings["dataset"])
    with torch.device("meta"):
        encoder = Encoder(_new_classifier(settings, info).eval(), settings["layer"])
        if settings["model"]["name"] != "classifier":
            code = encoder(torch.empty(1, *info.shape))
            decoders.build(settings["model"]["decoder"], tuple(code.shape[1:]), info.shape)
    if settings["model"]["name"] != "classifier":
        _needed_classifier(settings, overrides)
    if settings["dataset"]["name"] not in BUILT_IN:  # those cannot be missing or damaged
        data.load(settings["dataset"], settings["data_dir"], settings["seed"])


def main(settings: Settings, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train what the settings describe, unless that is done already; returns its figures.

    Args:
        overrides: what was typed, from which the commands to repeat this run and those it needs are made.
    """
    make = _train_each if isinstance(settings["alpha"], list) else train
    return make(settings, overrides).metrics()


def train(settings: Settings, overrides: Sequence[str] = ()) -> Run:
    """The finished run of these settings, trained now if it was not there."""
    run = Run("train", settings)
    with runs.claim(run, _command(settings, overrides)) as needed:
        if needed:
            log.info("training %s: %s", settings["model"]["name"], run.path)
            device = find_device(settings["device"])
            _write_environment(run, device)
            images = data.load(settings["dataset"], settings["data_dir"], settings["seed"]).to(device)
            task = _task(settings, images, device, overrides)
            history = _fit(run, task, images.validation)
            _write_results(run, task, images, history)
        run.tell("done" if needed else "already done")
    return run


def load_classifier(settings: Settings, images: Data, device: torch.device, overrides: Sequence[str]) -> nn.Module:
    """The trained classifier that these settings explain, frozen; trained now where it is missing."""
    run = _needed_classifier(settings, overrides)
    if not run.finished():
        log.info("this needs a classifier that is not there yet: it is trained first")
        train(run.settings, overrides)
    model = _new_classifier(settings, images.info)
    run.load_into(model, "model.pt")
    return freeze(place(model, device))


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first of cuda, mps, cpu that is there.

    Raises:
        InputError: this machine has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind in there if there[kind]))
    device = torch.device(name)
    if not there[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + [k for k in ("mps", "cpu") if there[k]]
        raise InputError(f"device={name}: there is none here (there is {', '.join(found)}; auto takes the first)")
    return device


def _new_classifier(settings: Settings, info: Info) -> nn.Module:
    return classifiers.build(shape=info.shape, classes=len(info.classes), **settings["classifier"])


def _needed_classifier(settings: Settings, overrides: Sequence[str]) -> Run:
    run = Run("train", explained_classifier(settings))
    if not run.finished() and not settings["train_missing"]:
        raise InputError(
            f"the classifier to explain is not there and train_missing=false; it would be trained by: "
            f"{_command(run.settings, overrides)}"
        )
    return run


def _command(settings: Settings, overrides: Sequence[str]) -> str:
    """The command that makes the run of these settings, from what was typed for it or for a run that needs it."""
    alpha = settings["alpha"]
    changes: dict[str, Any] = {"force": None, "train_missing": None}
    if settings["model"]["name"] == "classifier":
        changes |= {"model": "classifier", "layer": None, "alpha": "null"}
    elif alpha is not None:
        changes |= {"alpha": str(alpha).replace(" ", "")}
    if not any(o.startswith("dataset=") for o in overrides):
        overrides = [f"dataset={settings['dataset']['name']}", *overrides]
    return runs.command("train", overrides, **changes)


def _task(settings: Settings, images: Data, device: torch.device, overrides: Sequence[str]) -> tasks.Task:
    name = settings["model"]["name"]
    options = {k: v for k, v in settings["model"].items() if k != "name"} | {"layer": settings["layer"]}

    def fresh() -> nn.Module:
        model = _new_classifier(settings, images.info)
        fit_normalisation(model, images.train.images)
        return place(model, device)

    build: dict[str, Callable[[Any], tasks.Task]] = {
        "classifier": lambda _: tasks.classifier(fresh(), images),
        "cladec": lambda explained: tasks.cladec(explained, images, alpha=settings["alpha"], **options),
        "refae": lambda explained: tasks.refae(explained, fresh(), images, **options),
    }
    explained = None if name == "classifier" else load_classifier(settings, images, device, overrides)
    torch.manual_seed(derive_seed(settings["seed"], f"initial weights of {name}"))
    return build[name](explained)


def _fit(run: Run, task: tasks.Task, validation: Split) -> list[trainer.Row]:
    def validate() -> dict[str, float]:
        figures = task.test(validation)
        return {"loss": figures.pop(task.monitor), **figures}

    def save(state: dict[str, Any]) -> None:
        run.save("last.pt", {"run": run.path.name, **state})
        run.write_csv("history.csv", state["history"])

    state = _saved_state(run)
    options = {"seed": run.settings["seed"], **training(run.settings)}
    try:
        return trainer.fit(task.model, task.loss, task.rows(), validate, state=state, save=save, **options)
    except trainer.StateError as error:
        raise run.refused("last.pt", str(error)) from None


def _saved_state(run: Run) -> dict[str, Any] | None:
    """Where a run that was stopped can go on, if it can.

    Raises:
        InputError: there is a `last.pt`, but this run did not write it.
    """
    state = run.load("last.pt")
    if state is not None and state.get("run") != run.path.name:
        raise run.refused("last.pt", f"it was saved by {state.get('run', 'something else')}")
    return state


def _members(settings: Settings) -> list[Settings]:
    """The settings of each run that a list of alphas stands for."""
    alpha = settings["alpha"]
    return [{**settings, "alpha": each} for each in alpha] if isinstance(alpha, list) else [settings]


def _write_environment(run: Run, device: torch.device) -> None:
    run.write_json("environment.json", environment.describe(device, torch.get_num_threads(), run.settings["seed"]))


def _write_results(run: Run, task: tasks.Task, images: Data, history: list[trainer.Row]) -> None:
    seconds = sum(row["seconds"] for row in history)
    speed = len(history) * len(images.train) / seconds
    effort = {"epochs": len(history), "seconds": seconds, "images_per_second": speed}
    run.write_json("metrics.json", task.test(images.test) | effort)
    run.write_csv("history.csv", history)
    run.save("model.pt", task.model.state_dict())
    with runs.atomic(run.path / "curves.png") as file:
        figures.curves(history, _title(run.settings), file)
    if task.reconstruct is not None:
        _draw_examples(run, images, [(run, task)])


def _train_each(settings: Settings, overrides: Sequence[str]) -> Run:
    """Train one ClaDec for each alpha, each in its own run; this run holds the table and the picture of them all."""
    run = Run("train", settings)
    with runs.claim(run, _command(settings, overrides)) as needed:
        if needed:
            members = [train(member, overrides) for member in _members(settings)]
            device = find_device(settings["device"])
            _write_environment(run, device)
            table = {f"alpha={plain(member.settings['alpha'])}": member.metrics() for member in members}
            run.write_json("metrics.json", table)
            run.write_csv("metrics.csv", [{"run": name, **row} for name, row in table.items()])
            images = data.load(settings["dataset"], settings["data_dir"], settings["seed"]).to(device)
            _draw_examples(run, images, [(member, _trained(member, images, device, overrides)) for member in members])
        run.tell("done" if needed else "already done")
    return run


def _trained(run: Run, images: Data, device: torch.device, overrides: Sequence[str] = ()) -> tasks.Task:
    """The task of a finished run, with its trained weights in the network."""
    task = _task(run.settings, images, device, overrides)
    run.load_into(task.model, "model.pt")
    task.model.eval()
    return task


def _draw_examples(run: Run, images: Data, models: list[tuple[Run, tasks.Task]]) -> None:
    """Draw a few test images and what each model makes of them; a RefAE comes first where there is a finished one."""
    explained, test = models[0][1].explained, images.test
    assert explained is not None
    seen = batched(explained, test.images).argmax(1)
    shown = _choose(test.labels, seen)
    made = [("original", test.images[shown])]
    for member, task in [*_reference(run, images), *models]:
        assert task.reconstruct is not None
        made.append((_row_title(member.settings), task.reconstruct(test.images[shown])))
    classes = images.info.classes
    rows = []
    for name, pictures in made:
        predicted = [classes[i] for i in batched(explained, pictures).argmax(1).tolist()]
        rows.append((name, pictures.cpu().numpy(), predicted))
    truth = [classes[i] for i in test.labels[shown].tolist()]
    with runs.atomic(run.path / "examples.png") as file:
        figures.examples(rows, truth, _title(run.settings), file)


def _choose(labels: Tensor, predicted: Tensor) -> Tensor:
    """Rows of the first correct test image of each of `EXAMPLES` classes, then of some misclassified ones."""
    right = [((labels == k) & (predicted == k)).nonzero()[:1].flatten() for k in labels.unique()[:EXAMPLES]]
    wrong = (predicted != labels).nonzero().flatten()[: EXAMPLES // 2]
    return torch.cat([*right, wrong])


def _reference(run: Run, images: Data) -> list[tuple[Run, tasks.Task]]:
    """The finished RefAE to a ClaDec's run, if there is one that can be read."""
    settings = run.settings
    if settings["model"]["name"] == "refae":
        return []
    reference = Run("train", {**settings, "model": {**settings["model"], "name": "refae"}, "alpha": None})
    try:
        if not reference.finished():
            return []
        return [(reference, _trained(reference, images, images.test.images.device))]
    except InputError as error:
        log.warning("the picture is drawn without a RefAE: %s", error)
        return []


NAMES = {"classifier": "Classifier", "cladec": "ClaDec", "refae": "RefAE"}


def _title(settings: Settings) -> str:
    title = NAMES[settings["model"]["name"]]
    if settings["model"]["name"] != "classifier":
        title += f" of layer {settings['layer']}"
    if isinstance(settings["alpha"], float):
        title += f", alpha {plain(settings['alpha'])}"
    return f"{title}: {settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"


def _row_title(settings: Settings) -> str:
    alpha = f"\nalpha {plain(settings['alpha'])}" if settings["alpha"] is not None else ""
    return NAMES[settings["model"]["name"]] + alpha
