"""Hydra's sweep over a grid, which goes on when a job fails and tells at its end how each one ended.

It is here because Hydra looks for sweepers in no other package. `xmnist.cli.sweeps` has what is not Hydra's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobStatus


@dataclass
class Config:
    """What `hydra.sweeper` takes: `params` are overrides to sweep over, by key."""

    _target_: str = "hydra_plugins.xmnist_sweeper.Sweep"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="xmnist", node=Config, provider="xmnist")


class Sweep(BasicSweeper):
    """All jobs of a grid, by whatever launcher."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        super().__init__(None, params)

    def sweep(self, arguments: list[str]) -> list[Any]:
        """Run all jobs.

        Returns:
            What each job has returned.

        Raises:
            SweepFailed: at least one of them has failed.
        """
        from xmnist.cli import hooks, sweeps
        from xmnist.runtime import storage

        if not hooks.jobs:  # no grid, which Hydra says better
            return list(super().sweep(arguments))
        assert self.config is not None and self.launcher is not None
        folder = Path(self.config.hydra.sweep.dir)
        folder.mkdir(parents=True, exist_ok=True)
        storage.write_yaml(folder / "multirun.yaml", self.config)
        launcher = self.config.hydra.launcher
        words = sweeps.threads(launcher, len(hooks.jobs))
        numbers = {id(job): number for number, job in enumerate(hooks.jobs)}

        def launch(jobs: Sequence[sweeps.Job]) -> list[sweeps.Outcome]:
            assert self.launcher is not None
            results = self.launcher.launch([[*job.words, *words] for job in jobs], numbers[id(jobs[0])])
            return [
                sweeps.Outcome(result._return_value, failed=result.status == JobStatus.FAILED) for result in results
            ]

        done, failed = list[Any](), None
        try:
            done = sweeps.run(hooks.jobs, launch, sweeps.at_a_time(launcher) if self.config.fail_fast else None)
        except sweeps.SweepFailed as error:
            failed = error
        if self.config.hydra.job.name == "evaluate":
            import_module("xmnist.stages.search").compare([job.run for job in hooks.jobs])
        if failed:
            raise failed
        return done
