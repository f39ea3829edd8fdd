"""Suggestions of the next command after a run, quoted for a shell. No torch."""

import logging
import shlex
import sys
from collections.abc import Iterator

from xmnist.config.components import listed
from xmnist.config.derived import explained, trained
from xmnist.config.settings import ExplainSettings, Settings
from xmnist.runs.store import Run
from xmnist.runtime import processes

log = logging.getLogger(__name__)

MOST = 3
"""Maximum number of commands that are shown."""

COMPARED = 3
"""Maximum number of jobs of a sweep that the suggested command compares."""


def wanted(hints: object) -> bool:
    """Return whether hints are shown: if the settings ask for them, or if the output is a terminal."""
    return not processes.rank() and (hints is True or (hints == "auto" and sys.stdout.isatty()))


def show(*finished: Run) -> None:
    """Log the commands to type after a run, or after the jobs of a sweep."""
    if finished and wanted(finished[0].settings.hints):
        log.info("%s", "\n".join(["next:", *(f"  {command}" for command in after(*finished))]))


def after(*finished: Run) -> list[str]:
    """Return commands that continue from a finished run, or compare several."""
    several = {run.id: run for run in finished}
    out = finished[0].settings.out_dir
    elsewhere = [] if out == "outputs" else [f"out_dir={out}"]
    commands = _after_sweep(list(several)) if len(several) > 1 else _after(finished[0])
    return [shlex.join(["xmnist", *words, *elsewhere]) for words in commands][:MOST]


def _after_sweep(hashes: list[str]) -> Iterator[list[str]]:
    yield ["runs", "compare", *hashes[:COMPARED]]
    yield ["report", "open=true"]


def _after(run: Run) -> Iterator[list[str]]:
    settings = run.settings
    if run.stage == "export":
        yield ["train", "model=classifier", "dataset=folder", f"dataset.path={run.path}"]
        return
    if run.stage == "report":
        yield ["report", "open=true"]
        yield ["runs"]
        return
    network = run if run.stage == "train" else run.bases()[0]
    this = f"run={network.id}"
    if run.stage == "train":
        yield from _after_training(run, this)
    elif isinstance(settings, ExplainSettings):
        maps = [name for name, explainer in settings.explainers.items() if explainer.answer == "heatmap"]
        if maps and not settings.model.own_map:
            chosen = f"explainer=[{','.join(maps)}]" if len(maps) > 1 else f"explainer={maps[0]}"
            yield ["evaluate", this, chosen, "metric=aopc"]
        else:
            yield ["evaluate", this]
        if not settings.select.wrong_alone and not settings.image.path:
            yield ["explain", this, "select=misclassified", "target=[predicted,label]", "explainer=[gradcam,lrp]"]
    else:
        yield ["explain", this, "select=misclassified"]
    yield ["report", "open=true"]


def _after_training(run: Run[Settings], this: str) -> Iterator[list[str]]:
    settings, model = run.settings, run.settings.model
    if model.judged:
        return
    if model.decodable:
        yield ["explain", this, "explainer=[saliency,gradcam,lrp]"]
        yield ["evaluate", this, "metric=classification", "explainer=lrp"]
        yield ["train", this, "layer=dense"]
        return
    yield ["explain", this]
    if model.reference and len(listed(settings.layer)) == 1:
        # The reference is suggested only while it is missing: it would train nothing new otherwise.
        reference = Run("train", trained(settings, model.reference))
        if reference.status().get("state") != "done":
            base = Run("train", explained(settings)).id
            yield ["train", f"run={base}", f"model={model.reference}", f"layer={settings.layer}"]
    if not model.explainers:
        yield ["evaluate", this, "metric=reconstruction"]
    elif model.explained:
        yield ["evaluate", this, "metric=aopc"]
