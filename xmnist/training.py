"""Finished training runs: found where they are, made where they are missing."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from xmnist import classifiers, data, decoders, environment, figures, runs, tasks, trainer
from xmnist.config import Settings, plain, trained, training, words
from xmnist.data.base import Data, Info, Split
from xmnist.data.files import BUILT_IN
from xmnist.errors import InputError
from xmnist.layers import Encoder, batched, derive_seed, fit_normalisation, freeze, place
from xmnist.runs import Run

log = logging.getLogger(__name__)

NAMES = {"classifier": "classifier", "cladec": "ClaDec", "refae": "RefAE"}

EXAMPLES = 8
"""How many test images of different classes the first picture shows, with up to half as many misclassified ones."""


def check(settings: Settings) -> None:
    """Find out, before anything is written, whether this run can be done.

    Raises:
        InputError: no such device, layer or data; a decoder that does not fit; a classifier that is not there and may
            not be trained; files of this run or of the classifier's that another run wrote.
    """
    find_device(settings["device"])
    run = Run("train", settings)
    if not run.reusable() and not settings["force"]:
        _saved_state(run)
    info = data.info(settings["dataset"])
    with torch.device("meta"):
        classifier = new_classifier(settings, info).eval()
        if settings["model"]["name"] != "classifier":
            code = Encoder(classifier, settings["layer"])(torch.empty(1, *info.shape))
            decoders.build(settings["model"]["decoder"], tuple(code.shape[1:]), info.shape)
    if settings["model"]["name"] != "classifier":
        check_needed(trained(settings, "classifier"))
    if settings["dataset"]["name"] not in BUILT_IN:  # those cannot be missing or damaged
        load_data(settings)


def check_needed(settings: Settings) -> Run:
    """The run of these settings, which another one needs.

    Raises:
        InputError: it is not there and may not be trained, or its files are not those that it wrote.
    """
    run = Run("train", settings)
    if not run.finished() and not settings["train_missing"]:
        raise InputError(
            f"the {NAMES[settings['model']['name']]} that this needs is not there and train_missing=false; it would be "
            f"trained by: {command(settings)}"
        )
    return run


def load_data(settings: Settings) -> Data:
    """The data set of these settings."""
    return data.load(settings["dataset"], settings["data_dir"], settings["seed"])


def train(settings: Settings, typed: str | None = None) -> Run:
    """The finished run of these settings, trained now if it was not there; `typed` is the command that asked for it."""
    run = Run("train", settings)
    with runs.claim(run, typed or command(settings)) as needed:
        if needed:
            log.info("training %s: %s", settings["model"]["name"], run.path)
            device = find_device(settings["device"])
            write_environment(run, device)
            images = load_data(settings).to(device)
            task = _task(settings, images, device)
            history = _fit(run, task, images.validation)
            _write_results(run, task, images, history)
        run.tell("done" if needed else "already done")
    return run


def load_classifier(settings: Settings, images: Data, device: torch.device) -> nn.Module:
    """The trained classifier that these settings explain, frozen; trained now where it is missing."""
    run = found_or_trained(trained(settings, "classifier"))
    model = new_classifier(settings, images.info)
    run.load_into(model, "model.pt")
    return freeze(place(model, device))


def found_or_trained(settings: Settings) -> Run:
    """The finished run of these settings, which another one needs."""
    run = check_needed(settings)
    if not run.finished():
        log.info("this needs a %s that is not there yet: it is trained first", NAMES[settings["model"]["name"]])
        train(settings)
    return run


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


def new_classifier(settings: Settings, info: Info) -> nn.Module:
    """The classifier of these settings, not trained."""
    return classifiers.build(shape=info.shape, classes=len(info.classes), **settings["classifier"])


def command(settings: Settings) -> str:
    """The command that makes the run of these settings."""
    return runs.command("train", words(settings))


def _task(settings: Settings, images: Data, device: torch.device) -> tasks.Task:
    name = settings["model"]["name"]
    options = {k: v for k, v in settings["model"].items() if k != "name"} | {"layer": settings["layer"]}

    def fresh() -> nn.Module:
        model = new_classifier(settings, images.info)
        fit_normalisation(model, images.train.images)
        return place(model, device)

    build: dict[str, Callable[[Any], tasks.Task]] = {
        "classifier": lambda _: tasks.classifier(fresh(), images),
        "cladec": lambda explained: tasks.cladec(explained, images, alpha=settings["alpha"], **options),
        "refae": lambda explained: tasks.refae(explained, fresh(), images, **options),
    }
    explained = None if name == "classifier" else load_classifier(settings, images, device)
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


def write_environment(run: Run, device: torch.device) -> None:
    """Write down what a run is made with."""
    """Write down what a run is made with."""
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
        draw_examples(run, images, [(run, task)])


def fitted(run: Run, images: Data, device: torch.device) -> tasks.Task:
    """The task of a finished run, with its trained weights in the network."""
    task = _task(run.settings, images, device)
    run.load_into(task.model, "model.pt")
    task.model.eval()
    return task


def draw_examples(run: Run, images: Data, models: list[tuple[Run, tasks.Task]]) -> None:
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
    rows = [
        figures.Row(name, pictures.cpu().numpy(), [classes[i] for i in batched(explained, pictures).argmax(1).tolist()])
        for name, pictures in made
    ]
    truth = [classes[i] for i in test.labels[shown].tolist()]
    with runs.atomic(run.path / "examples.png") as file:
        figures.grid(rows, truth, _title(run.settings), file)


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
    reference = Run("train", trained(settings, "refae"))
    try:
        if not reference.finished():
            return []
        return [(reference, fitted(reference, images, images.test.images.device))]
    except InputError as error:
        log.warning("the picture is drawn without a RefAE: %s", error)
        return []


def _title(settings: Settings) -> str:
    title = NAMES[settings["model"]["name"]]
    title = title[0].upper() + title[1:]
    if settings["model"]["name"] != "classifier":
        title += f" of layer {settings['layer']}"
    if isinstance(settings["alpha"], float):
        title += f", alpha {plain(settings['alpha'])}"
    return f"{title}: {settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"


def _row_title(settings: Settings) -> str:
    alpha = f"\nalpha {plain(settings['alpha'])}" if settings["alpha"] is not None else ""
    return NAMES[settings["model"]["name"]] + alpha
