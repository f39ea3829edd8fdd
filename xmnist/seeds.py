"""Runs that differ in their seed alone, and what their summaries say together."""

import logging

import pandas as pd
from omegaconf import OmegaConf

from xmnist import runs, tables
from xmnist.derived import Settings
from xmnist.runs import Run

log = logging.getLogger(__name__)


def summarise(run: Run) -> None:
    """Write mean and standard deviation over all finished seeds of this run's settings beside it, if there are more."""
    found = {each.settings["seed"]: each for each in _siblings(run)}
    if len(found) < 2:
        return
    own = _seedless(run.settings).replace(",seed=0-", ",seeds-")
    place = run.path.parent / own
    place.mkdir(exist_ok=True)
    table = tables.over_seeds({seed: pd.read_csv(found[seed].path / "summary.csv") for seed in sorted(found)})
    with runs.atomic(place / "summary.csv") as file:
        table.to_csv(file, index=False, float_format="%.9g")
    text = tables.markdown(table)
    with runs.atomic(place / "summary.md") as file:
        file.write_text(text)
    log.info("over seeds %s: %s\n\n%s", ", ".join(map(str, sorted(found))), place, text)


def _siblings(run: Run) -> list[Run]:
    """The finished runs that have the same settings but for the seed, this one among them."""
    out = []
    for path in sorted(run.path.parent.glob("*,seed=*")):
        if not (path / "config.yaml").is_file():
            continue
        settings = OmegaConf.to_container(OmegaConf.load(path / "config.yaml"))
        assert isinstance(settings, dict)
        other = Run(
            run.stage, {str(key): value for key, value in settings.items()} | {"out_dir": run.settings["out_dir"]}
        )
        if other.path.name == path.name and _seedless(other.settings) == _seedless(run.settings) and other.finished():
            out.append(other)
    return out


def _seedless(settings: Settings) -> str:
    return runs.run_id("evaluate", {**settings, "seed": 0})
