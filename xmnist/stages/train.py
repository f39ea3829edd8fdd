"""Stage `train`: fit one network, or one decoder for each of several layers and alphas."""

from dataclasses import replace
from typing import Any

from xmnist.config.derived import learned, variant
from xmnist.config.settings import Settings
from xmnist.plots.pictures import Reconstructor
from xmnist.runs import claims
from xmnist.runs.commands import train_command
from xmnist.runs.store import Run
from xmnist.runtime import devices, distributed, processes, progress
from xmnist.runtime.errors import InputError
from xmnist.stages import missing
from xmnist.training import checks, networks, results, side_by_side

planned: list[Settings] = []
"""Unfinished jobs of the sweep that this process runs: those that differ only in alpha are trained together."""


def check(settings: Settings) -> None:
    """Check, before anything is written, whether this run can be done.

    Raises:
        InputError: it cannot; the message states why.
    """
    for member in _members(settings):
        checks.check(member)


def main(settings: Settings, typed: str | None = None) -> dict[str, Any]:
    """Train what the settings describe, unless that is done already, and return the scores.

    Args:
        typed: the command that asked for it.
    """
    with distributed.started(devices.find_device(settings.device)):
        if distributed.agreed(name := Run("train", settings).path.name) != name:
            raise InputError("the processes do not have the same settings")
        own = Run("train", settings)
        done = own.reusable() and own.drawn()
        members = [] if done else _members(settings)
        basis = [base.settings for each in members for base in Run("train", each).bases()]
        missing.train(basis, typed or "", members)
        if _is_multi_run(settings):
            return _train_each(settings, typed).metrics()
        # With force, each job trains its own run again.
        if settings.model.reference and not done and not settings.force:
            side_by_side.side_by_side(_family(settings))
        return networks.train(settings, typed).metrics()


def _family(settings: Settings) -> list[Settings]:
    """Return the planned jobs that differ from this one only in alpha, and remove them from the plan."""
    without_alpha = replace(settings, alpha=None)
    members = [job for job in planned if not isinstance(job.alpha, list) and replace(job, alpha=None) == without_alpha]
    planned[:] = [job for job in planned if job not in members]
    return members


def _members(settings: Settings) -> list[Settings]:
    """Return the settings of each run in the lists of layers and alphas."""
    if not _is_multi_run(settings):
        return [settings]
    runs = learned(settings, settings.model.name)
    return [replace(settings, layer=run.layer, alpha=run.alpha) for run in runs]


def _is_multi_run(settings: Settings) -> bool:
    return settings.model.decodes and (isinstance(settings.alpha, list) or isinstance(settings.layer, list))


def _train_each(settings: Settings, typed: str | None) -> Run[Settings]:
    """Train each decoder in its own run; this run holds the table and the picture of all decoders."""
    run = Run("train", settings)
    with distributed.claimed(lambda: claims.claim(run, typed or train_command(settings))) as needed:
        if needed:
            members = side_by_side.train(_members(settings))
            device = devices.find_device(settings.device)
            results.write_environment(run, device)
            table = {_name(settings, member): member.metrics() for member in members}
            run.write_json("metrics.json", table)
            run.write_csv("metrics.csv", [{"run": name, **row} for name, row in table.items()])
        if (needed or not run.drawn()) and not processes.rank():
            _draw(run)
        run.log_summary("done" if needed else "already done")
    return run


def _draw(run: Run[Settings]) -> None:
    """Draw the reconstructions of a few images by the decoders of all layers and alphas."""
    device = devices.find_device(run.settings.device)
    with progress.activity("drawing"), distributed.alone():
        images = networks.load_data(run.settings).to(device)
        members = [Run("train", settings) for settings in _members(run.settings)]
        tasks = [networks.fitted(member, images, device) for member in members]
        reconstructors: dict[str, Reconstructor] = {}  # by run: a reference that several decoders share is drawn once
        for member, task in zip(members, tasks, strict=True):
            reconstructors |= {reference.run.key: reference for reference in networks.references(member, images)}
            reconstructors[member.key] = results.reconstructor(member, task)
        results.draw_examples(run, tasks[0], images, list(reconstructors.values()))


def _name(settings: Settings, member: Run[Settings]) -> str:
    """Return the name of a member in the table."""
    return ",".join(variant(settings, member.settings)) or member.path.name
