"""Pictures of what is being trained: reconstructions, and the maps of joint models after each phase."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from xmnist import figures, runs
from xmnist.data.base import Split
from xmnist.derived import Settings, phases, plain
from xmnist.joint import Joint
from xmnist.layers import batched
from xmnist.runs import Run
from xmnist.schema import DECODERS

NAMES = {
    **{"classifier": "classifier", "cladec": "ClaDec", "refae": "RefAE", "joint": "joint model"},
    **{"evaluation": "evaluation classifier", "cladec_vae": "variational ClaDec", "refvae": "RefVAE"},
}

EXAMPLES = 8
"""How many images, of as many classes as there are, a picture shows, with up to half as many misclassified ones."""


def examples(
    run: Run,
    explained: nn.Module,
    made: Sequence[tuple[Settings, Callable[[Tensor], Tensor]]],
    test: Split,
    classes: Sequence[str],
) -> None:
    """Draw a few test images and what models make of them, with what the explained classifier sees in each."""
    shown = _choose(test.labels, batched(explained, test.images).argmax(1))
    few = test.images[shown]
    found = [("original", few), *((_row_title(settings), reconstruct(few)) for settings, reconstruct in made)]
    rows = [
        figures.Row(name, images.cpu().numpy(), [classes[i] for i in batched(explained, images).argmax(1).tolist()])
        for name, images in found
    ]
    with runs.atomic(run.path / "examples.png") as file:
        figures.grid(rows, [classes[i] for i in test.labels[shown].tolist()], title(run.settings), file)


def maps(run: Run, model: nn.Module, split: Split, classes: Sequence[str], phase: int) -> None:
    """Draw a few images and their maps after a phase."""
    assert isinstance(model, Joint)
    seen = batched(model, split.images).argmax(1)
    shown = _choose(split.labels, seen)
    few = split[shown]
    rows = [figures.Row("image", few.images.cpu().numpy(), [classes[i] for i in seen[shown].tolist()])]
    if few.masks is not None:
        rows.append(figures.Row("ground truth", few.masks.float().cpu().numpy(), None, "mask"))
    rows.append(figures.Row("explanation", batched(model.explainer, few.images).cpu().numpy(), None, "map"))
    done = f"{title(run.settings)}\nafter phase {phase}: {phase_title(run.settings, phase)}"
    with runs.atomic(run.path / f"phase{phase}.png") as file:
        figures.grid(rows, [classes[i] for i in few.labels.tolist()], done, file)


def _choose(labels: Tensor, predicted: Tensor) -> Tensor:
    """Rows of the first `EXAMPLES` images that are seen right, the same number of each class, then of some others."""
    found = labels.unique()[:EXAMPLES]
    each = max(1, EXAMPLES // len(found))
    right = [((labels == k) & (predicted == k)).nonzero()[:each].flatten() for k in found]
    wrong = (predicted != labels).nonzero().flatten()[: EXAMPLES // 2]
    return torch.cat([*right, wrong])


def phase_title(settings: Settings, phase: int) -> str:
    """What learns in a phase, counted from 1, and its alpha."""
    learns = [part for part, rate in phases(settings)[phase - 1]["lr"].items() if rate]
    alone = " alone" if len(learns) == 1 else ""
    return f"{' and '.join(learns)}{alone}, alpha {plain(settings['alpha'][phase - 1])}"


def title(settings: Settings) -> str:
    """What a run's picture is of."""
    title = NAMES[settings["model"]["name"]]
    title = title[0].upper() + title[1:]
    if settings["model"]["name"] in DECODERS:
        title += f" of layer {settings['layer']}"
    if settings["model"]["name"] == "evaluation":
        title += f" of {NAMES[settings['model']['of']]}, layer {settings['layer']}"
    if settings["model"]["name"] == "joint":
        title = f"Joint model, {settings['model']['loss']}"
    if isinstance(settings["alpha"], float):
        title += f", alpha {plain(settings['alpha'])}"
    return f"{title}: {settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"


def _row_title(settings: Settings) -> str:
    alpha = f"\nalpha {plain(settings['alpha'])}" if settings["alpha"] is not None else ""
    return NAMES[settings["model"]["name"]] + alpha


def explained_title(settings: Settings, decoded: bool = True) -> str:
    """What a picture of explanations is of; a layer has a part in them where it is decoded."""
    model, layer = settings["model"], ""
    if model["name"] == "joint":
        layer = f"{model['loss']} joint model, "
    elif decoded and model["name"] != "classifier":
        layer = f"layer {settings['layer']} of "
    return f"{layer}{settings['classifier']['name']} on {settings['dataset']['name']}, seed {settings['seed']}"
