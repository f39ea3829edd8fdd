"""Summaries over runs that differ only in their seed."""

import logging
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from xmnist.config.settings import EvaluateSettings
from xmnist.runs import store
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError

log = logging.getLogger(__name__)


def summarise(run: Run[EvaluateSettings]) -> None:
    """Write mean and standard deviation over all measured seeds of a run's settings beside it, if there are several."""
    folder = place(run.path, run.settings)
    if len(_siblings(run)) < 2:
        return
    import pandas as pd  # takes seconds, and torch with it

    from xmnist.metrics import tables

    folder.mkdir(exist_ok=True)
    with FileLock(folder / ".lock"):  # a sweep's jobs may end at the same time
        summaries = _siblings(run)
        table = tables.over_seeds(
            {seed: pd.read_csv(path, encoding="utf-8") for seed, path in sorted(summaries.items())}
        )
        with store.atomic(folder / "summary.csv") as file:
            table.to_csv(file, index=False, float_format="%.9g", encoding="utf-8")
        text = tables.markdown(table)
        with store.atomic(folder / "summary.md") as file:
            file.write_text(text, encoding="utf-8")
    log.info("over seeds %s: %s\n\n%s", ", ".join(map(str, sorted(summaries))), folder, text)


def place(path: Path, settings: EvaluateSettings) -> Path:
    """Return the folder beside a run that holds the summary over all seeds of its settings."""
    return path.parent / _seedless(settings).replace(",seed=0-", ",seeds-")


def _siblings(run: Run[EvaluateSettings]) -> dict[int, Path]:
    """Return the summaries, by seed, of the runs with the same settings except the seed, including this run."""
    out, name = {}, _seedless(run.settings)
    for path in sorted(run.path.parent.glob("*,seed=*/summary.csv")):
        try:
            settings = store.described(path.parent, run.stage)
            sibling = Run(run.stage, replace(settings, out_dir=run.settings.out_dir))
            known = sibling.path == run.path or sibling.status().get("state") in ("done", "failed")
            if _seedless(settings) != name or not known:
                continue
            if stale := sibling.stale():
                log.warning("%s is left out of the summary over seeds: %s", path.parent, stale)
            elif sibling.intact():
                out[settings.seed] = path
        except (ValueError, InputError) as error:
            log.warning("%s is left out of the summary over seeds: %s", path.parent, error)
    return out


def _seedless(settings: EvaluateSettings) -> str:
    # Under one fixed seed, names of runs that differ only in their seed become equal.
    return store.run_id("evaluate", replace(settings, seed=0))
