"""Results of a training: its files, and the pictures of its network."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from xmnist.config.derived import phases
from xmnist.config.settings import Settings
from xmnist.data.base import Data, Info
from xmnist.models import summary
from xmnist.models.layers import Encoder, names_of
from xmnist.plots import figures, pictures
from xmnist.runs import store
from xmnist.runs.store import Run
from xmnist.runs.titles import title
from xmnist.runtime import distributed, environment, processes, progress
from xmnist.training import diagnosis, loop
from xmnist.training.objectives import Task
from xmnist.training.objectives.base import Part, find_precision


def write_environment(run: Run[Any], device: torch.device) -> None:
    """Write the environment that a run is made in."""
    description = environment.describe(device, torch.get_num_threads(), run.settings.seed)
    if run.stage == "train":
        description["precision"] = find_precision(run.settings, device)
    run.write_json("environment.json", description)


def write(run: Run[Settings], task: Task, images: Data, history: list[loop.Row]) -> None:
    """Write the scores, history and weights of a training; warn if it has learned nothing."""
    seconds = sum(row["seconds"] for row in history)
    speed = len(history) * len(images.train) / seconds
    effort = {"epochs": len(history), "seconds": seconds, "images_per_second": speed}
    with progress.activity("testing"):
        scores = distributed.measured(task.test, images.test)
        run.write_json("metrics.json", scores | effort)
    run.write_csv("history.csv", history)
    run.save("model.pt", task.model.state_dict())
    if not processes.rank():
        diagnosis.warn(run.settings, scores, history, images)


def write_table(run: Run[Settings], task: Task, info: Info) -> None:
    """Write a table of the network, layer by layer."""
    if processes.rank():
        return
    pixels = torch.zeros(1, *info.shape, device=next(task.model.parameters()).device)
    head = f"{title(run.settings)}\nimages {summary.shape(pixels)}, {len(info.classes)} classes"
    if task.explained is not None:
        with torch.no_grad():
            code = Encoder(task.explained, str(run.settings.layer))(pixels)
        head += f"; a code, which is the output of layer {run.settings.layer}: {summary.shape(code)}"
    head += f"\n{summary.count(task.model.parameters()):,} parameters in all" if task.parts else ""
    trace = summary.trace(task.model, lambda: (task.reconstruct or task.model)(pixels))
    several = (task.model, *(part.network for part in task.parts))
    classifies = any(names_of(network, kind) for network in several for kind in ("layers", "gates"))
    legend = [*([summary.MARKS] if classifies else []), summary.LEGEND]
    tables = []
    for part in task.parts or [Part("", task.model, names_of(task.model, "gates"))]:
        marked = {"layer": names_of(part.network, "layers"), "gate": part.gates}
        tables.append(summary.table(f"{part.name}{_learns(run.settings, part.name)}", part.network, trace, marked))
    with store.atomic(run.path / "model.txt") as file:
        file.write_text("\n\n\n".join([head, *tables, "\n".join(legend)]) + "\n", encoding="utf-8")


def _learns(settings: Settings, part: str) -> str:
    """Return a note on the phases in which a part learns, for a model whose parts have learning rates of their own."""
    rates = [options.lr[part] for options in phases(settings) if isinstance(options.lr, dict)]
    learns = [str(phase) for phase, rate in enumerate(rates, 1) if rate]
    return "" if not rates else f": learns in phase {' and '.join(learns)}" if learns else ": does not learn"


def draw(
    run: Run[Settings],
    task: Task,
    images: Data,
    history: Sequence[Mapping[str, float]],
    references: Sequence[pictures.Reconstructor] = (),
) -> None:
    """Draw a training's curves and, where its network reconstructs images, examples and its latent space.

    Args:
        references: other networks whose reconstructions are drawn before its own.
    """
    run.draw("curves", lambda file: figures.curves(history, title(run.settings), file))
    if task.reconstruct is not None:
        draw_examples(run, task, images, [*references, reconstructor(run, task)])
        if task.latent is not None:
            pictures.latent(run, task.latent, images)


def draw_examples(
    run: Run[Settings], task: Task, images: Data, reconstructors: Sequence[pictures.Reconstructor]
) -> None:
    """Draw a few test images and reconstructions of them, with their classes by the classifier that `task` explains."""
    assert task.explained is not None
    pictures.examples(run, task.explained, reconstructors, images.test, images.info.classes)


def reconstructor(run: Run[Settings], task: Task) -> pictures.Reconstructor:
    """Return the network of a finished run that reconstructs images, to be drawn."""
    assert task.reconstruct is not None
    return pictures.Reconstructor(run, task.model, task.reconstruct)
