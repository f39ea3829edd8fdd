"""What Hydra calls: resolvers for names in the configs, and the check of every job before the first one starts."""

import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from xmnist import config, runs
from xmnist.errors import InputError, unknown


def register(argv: Sequence[str]) -> None:
    """Make the resolvers known that the configs use: `default_dataset`, `key_help` and `run_id`."""
    OmegaConf.register_new_resolver("default_dataset", lambda: _default_dataset(argv), replace=True)
    OmegaConf.register_new_resolver("key_help", lambda *, _root_: _key_help(_root_), replace=True)
    OmegaConf.register_new_resolver("run_id", lambda *, _root_: _run_id(_root_), replace=True)


def _run_id(root: DictConfig) -> str:
    return runs.run_id(root.hydra.job.config_name, config.resolve(root))


def _key_help(root: DictConfig) -> str:
    return config.describe({group: root[group].name for group in config.GROUPS})


def _default_dataset(argv: Sequence[str]) -> str:
    """The data set for a command line that names none; a warning says when it is not MNIST."""
    if any(word.startswith("dataset=") for word in argv) or {"--help", "-h"} & set(argv):
        return "mnist"
    given = [word.removeprefix("data_dir=") for word in argv if word.startswith("data_dir=")]
    return config.default_dataset(given[-1] if given else None)


def check_job(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Check one job's whole config.

    Raises:
        InputError: what is wrong with it.
    """
    run = runs.Run(cfg.hydra.job.config_name, config.resolve(cfg))
    if not run.reusable():
        import_module(f"xmnist.{run.stage}").check(run.settings, overrides)


class Check(Callback):
    """Checks every job of a command before the first one starts, so that a mistake costs and writes nothing."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run."""
        self._check([(config, [])])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check all jobs of a sweep over a grid."""
        loader = GlobalHydra.instance().config_loader()
        given = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()]
        given += config.hydra.overrides.task
        try:
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(given)
            grid = BasicSweeper.split_arguments(parsed, None)[0]
            jobs = [(loader.load_sweep_config(config, list(job)), list(job)) for job in grid]
        except HydraException:
            return  # it does not compose, or is no grid: Hydra says so, or the job checks itself
        self._check(jobs)

    def _check(self, jobs: Sequence[tuple[DictConfig, list[str]]]) -> None:
        job: list[str] = []
        try:
            for cfg, job in jobs:
                check_job(cfg, job or list(cfg.hydra.overrides.task))
            job = []
            for out_dir in {cfg.out_dir for cfg, _ in jobs}:  # last, because it makes the folder
                config.check_writable(out_dir)
        except InputError as error:
            where = f" (in the job {' '.join(job)})" if job else ""
            print(f"xmnist: {error}{where}", file=sys.stderr)
            sys.exit(2)  # Hydra turns an exception in a callback into a warning; only leaving stops the run


def explain(error: Exception, stage: str, conf_dir: str) -> str:
    """Hydra's report of a command line that does not compose, in one line that names what is allowed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, word = str(error.missing_cfg_file).rpartition("/")
        return str(unknown(group or "config", word, error.options or []))
    match = re.match(r"Could not override '([^'@]+)", str(error))
    if match:
        parent, dot, _ = match[1].rpartition(".")
        siblings = [f"{parent}{dot}{key}" for key in _keys_below(parent, stage, conf_dir)]
        return str(unknown("key", match[1], siblings, "keys"))
    typed = f"cannot read '{error.override}': " if isinstance(error, OverrideParseException) else ""
    return typed + (str(error) or type(error).__name__).strip().splitlines()[0]


def _keys_below(parent: str, stage: str, conf_dir: str) -> list[str]:
    """The keys of one group of a stage's default config, or its top-level keys."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(conf_dir, version_base="1.3"):
        cfg = compose(stage)
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return [str(key) for key in node if key != "hydra"] if isinstance(node, DictConfig) else [str(k) for k in cfg]
