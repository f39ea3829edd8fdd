"""Hooks that Hydra calls: resolvers for names in the configs, and the check of all jobs before the first one starts."""

import gc
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from xmnist import data
from xmnist.cli import sweeps
from xmnist.cli.basis import Basis
from xmnist.cli.suggestions import meant
from xmnist.config import defaults, groups, help, plugins, resolution
from xmnist.config.declarations import EXPLAINERS, METRICS, rules_of
from xmnist.config.derived import foreign
from xmnist.config.kinds import MODELS
from xmnist.config.schema import OWN, STAGES
from xmnist.data import files
from xmnist.runs import commands, store
from xmnist.runtime import machine, processes, progress
from xmnist.runtime.errors import TRACEBACK, DamageError, InputError, exit_code, report, unknown


def register(stage: str, argv: Sequence[str]) -> None:
    """Register the resolvers that the configs use, at the start of a command."""
    global begun
    jobs[:], begun = [], False
    resolvers: dict[str, Callable[..., str]] = {
        "stage": lambda: stage,
        "default_dataset": lambda: _default_dataset(argv),
        "place": lambda *, _root_: store.place(stage, resolution.resolve(_root_, stage)),
        "key_help": lambda *, _root_: _key_help(stage, _root_),
        "metric_help": _metric_help,
    }
    for name, function in resolvers.items():
        OmegaConf.register_new_resolver(name, function, replace=True)
    for group in groups.GROUPS.values() if plugins.loaded() else ():  # built-in ones have files
        for kind in group.own():
            node = {"name": kind.name} | {key: declaration.default for key, declaration in kind.keys.items()}
            package = f"{group.word}s.{kind.name}" if group.word in ("explainer", "metric") else None
            if group is MODELS:
                node, package = {"model": node, "alpha": None}, "_global_"
            ConfigStore.instance().store(kind.name, node, group.word, package, "xmnist")


def _metric_help() -> str:
    """Return one line for each metric, as the help text of stage `evaluate` shows them."""
    width = max(map(len, METRICS))
    return "\n    ".join(f"{metric.name:<{width}}  {metric.help}".rstrip() for metric in METRICS.values())


def _key_help(stage: str, cfg: DictConfig) -> str:
    explainers = {str(k): v.name for k, v in (cfg.get("explainers") or {}).items() if v.get("name") in EXPLAINERS}
    metrics = [str(name) for name in (cfg.get("metrics") or {}) if name in METRICS]
    return help.describe(stage, {group: cfg[group].name for group in STAGES[stage][0]}, explainers, metrics)


def typed(hydra: Any, run: store.Run) -> str:
    """Return the command that makes a job's run, from its `hydra` config: the typed words, and the data set."""
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    words = [word for word in hydra.overrides.task if not word.startswith("+small@")]
    dataset = getattr(run.settings, "dataset", None)  # a report has none
    if dataset is not None and not any(word.startswith("dataset=") for word in words):
        words.insert(0, f"dataset={dataset.name}")
    return commands.command(run.stage, [*words, *(word for path in folders for word in ("--config-dir", path))])


def _parsed(words: Sequence[str]) -> list[Override]:
    """Return the overrides among the words of a command line; words that Hydra cannot read are left out."""
    out = []
    for word in words:
        try:
            out += OverridesParser.create().parse_overrides([word])
        except (HydraException, ValueError):
            continue
    return out


def _folder(argv: Sequence[str]) -> str:
    data_dirs = [str(o.value()) for o in _parsed(argv) if o.key_or_group == "data_dir" and not o.is_sweep_override()]
    return data_dirs[-1] if data_dirs else os.environ.get("XMNIST_DATA", "data")


def _default_dataset(argv: Sequence[str]) -> str:
    """Return `mnist` if its files are present or can be fetched, else the built-in `glyphs`.

    The environment keeps the answer, so that it is found once and the workers of a sweep use the same one.
    """
    named = any(re.match(r"dataset[=@]", word) for word in argv)
    if named or {"--help", "-h", "-sc", "--shell-completion"} & set(argv):
        return "mnist"  # nothing is run, or the name that was typed replaces this one
    if "XMNIST_DEFAULT_DATASET" not in os.environ:
        mnist = data.dataset_of(defaults.option("dataset", "mnist"))
        available = mnist.present(_folder(argv)) or files.reachable("mnist")
        os.environ["XMNIST_DEFAULT_DATASET"] = "mnist" if available else "glyphs"
    return os.environ["XMNIST_DEFAULT_DATASET"]


def warn_of_glyphs(argv: Sequence[str]) -> None:
    """Warn that the built-in data set replaces MNIST, if the command names no data set."""
    # The two names are fixed: the default data set of the configs, and the one that replaces it.
    if os.environ.get("XMNIST_DEFAULT_DATASET") == "glyphs" and not processes.rank():
        report(
            f"no data set was named, and mnist is neither in {_folder(argv)}/ nor can it be fetched: using the "
            "built-in glyphs instead (dataset=glyphs says so without this warning)"
        )


def module(stage: str) -> ModuleType:
    """Import and return the module of a stage, which imports PyTorch."""
    machine.prepare()
    gc.disable()  # a collection would traverse the hundred thousands of imported objects, and find none to free
    try:
        with progress.activity("loading PyTorch" if stage != "report" else "loading"):
            return import_module(f"xmnist.stages.{stage}")
    finally:
        gc.enable()


jobs: list[sweeps.Job] = []
"""Jobs of the sweep that this process runs, as far as they are known before it begins."""


basis: Basis | None = None
"""Run that this command works on, if the command names one."""

begun = False
"""Whether the command's jobs are known and valid, so that a later error is not one of Hydra's."""


class Check(Callback):
    """Checks every job of a command before the first one starts, so that a mistake costs and writes nothing."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check a single run."""
        _refuse_several(config, sweep=False)
        self._check(config, [(config, [])])

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check all jobs of a sweep over a grid."""
        _refuse_several(config, sweep=True)
        for key in ("sweeper", "launcher"):
            if not config.hydra.get(key):
                report(f"hydra.{key} must be a group of keys, got null")
                sys.exit(2)
        if config.get("fail_fast") is True and "xmnist" not in str(config.hydra.sweeper.get("_target_")):
            report("fail_fast=true needs hydra/sweeper=xmnist, which is the default")
            sys.exit(2)
        loader = GlobalHydra.instance().config_loader()
        overrides = list(config.hydra.overrides.task)
        try:
            overrides = [f"{k}={v}" for k, v in (config.hydra.sweeper.get("params") or {}).items()] + overrides
            parsed = OverridesParser.create(config_loader=loader).parse_overrides(overrides)
            grid = BasicSweeper.split_arguments(parsed, None)[0]
        except (HydraException, AttributeError, TypeError):
            return  # no grid: each job is checked when it starts, if Hydra can use this at all
        try:
            composed = [(loader.load_sweep_config(config, list(job)), list(job)) for job in grid]
        except Exception as error:  # Hydra turns an exception in a callback into a warning; only leaving stops it
            report(explain(error, config.hydra.job.name, overrides))
            sys.exit(2)
        self._check(config, composed)

    def _check(self, whole: DictConfig, composed: Sequence[tuple[DictConfig, list[str]]]) -> None:
        global begun
        job: list[str] = []
        try:
            if whole.hydra.mode == RunMode.MULTIRUN:
                sweeps.check_launcher(whole.hydra.launcher)
            needed, known = [], []
            for cfg, words in composed:
                job = words
                _check_words(cfg)
                run = store.Run(cfg.hydra.job.name, resolution.resolve(cfg, cfg.hydra.job.name))
                if basis is not None:
                    basis.check(resolution.resolve(cfg, "train"))
                known.append(sweeps.Job(tuple(words), run))
                try:
                    if not run.reusable():
                        stage = module(run.stage)
                        with progress.activity("setting up"):  # some settings need libraries that take seconds
                            stage.check(run.settings)
                        needed.append(run)
                except DamageError:
                    if whole.hydra.mode != RunMode.MULTIRUN:
                        raise  # in a sweep, this job fails when its turn comes, and the other jobs still run
            job, jobs[:], begun = [], known, True
            if needed and needed[0].stage == "train":
                module("train").planned[:] = [run.settings for run in needed]
            for out_dir in {run.settings.out_dir for run in needed}:  # last, because it makes the folder
                resolution.check_writable(out_dir)
            warn_of_glyphs(whole.hydra.overrides.task)
        except Exception as error:  # as above
            if os.environ.get(TRACEBACK):
                traceback.print_exc()
            where = f" (in the job {' '.join(job)})" if job else ""
            report(f"{error}{where}" if isinstance(error, InputError) else error)
            sys.exit(exit_code(error))


def _refuse_several(cfg: DictConfig, sweep: bool) -> None:
    """Exit if torchrun started several processes for anything but the training of one model."""
    if processes.count() > 1 and (sweep or cfg.hydra.job.name != "train"):
        without = "leave -m out" if sweep else f"start xmnist {cfg.hydra.job.name} without it"
        report(InputError(f"torchrun trains one model at a time: {without}"))
        sys.exit(2)


def _check_words(cfg: DictConfig) -> None:
    """Refuse typed words that belong to another stage; an experiment may have them.

    Raises:
        InputError: there is such a word; the message names its key.
    """
    for word in cfg.hydra.overrides.task:
        refused = _of_another_stage(word.lstrip("+~"), cfg.hydra.job.name)
        if refused:
            raise InputError(refused)


def _of_another_stage(word: str, stage: str) -> str:
    key = re.split(r"[.=@]", word)[0]
    owners = " and ".join(f"xmnist {name}" for name, keys in OWN.items() if key in keys)
    return f"{key} belongs to {owners}, not to xmnist {stage}" if key in foreign(stage) else ""


def _of_another_option(key: str, words: Sequence[str]) -> str:
    """Return why a key is refused that another option of its group has, or that stands below another key."""
    group, _, rest = key.partition(".")
    owners = [name for name, rules in rules_of(group).items() if rest in rules]
    if owners:
        chosen = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
        suffix = f", not to {group}={chosen[-1]}" if chosen else ""
        return f"{key} belongs to {' or '.join(f'{group}={name}' for name in owners)}{suffix}"
    known = meant(key) if not rest else None
    return f"no key '{key}'; did you mean '{known}'?" if known and known != key else ""


def explain(error: Exception, stage: str, words: Sequence[str]) -> str:
    """Return Hydra's error about a command line that does not compose, in one line that names the allowed values."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, word = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and (install := sweeps.install(word)):
            return f"hydra/launcher={word} is not installed: {install}"
        return str(unknown(group or "config", word, error.options or []))
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    text = (str(error) or type(error).__name__).strip()
    match = re.match(r"Could not override '([^'@]+)", text)
    if match:
        key = match[1]
        refused = _of_another_stage(key, stage) or resolution.weight_of(key) or _of_another_option(key, words)
        return refused or str(unknown("key", key, _siblings(key, stage, words), "keys"))
    line = text.splitlines()[0]
    ambiguous = re.match(r"Ambiguous value for argument '(.*?)=(.*)'", line)
    if ambiguous:
        key, value = ambiguous.groups()
        return f"{line}: write {key}=[{value}] for a list, or add -m to run one job for each"
    if isinstance(error, OverrideParseException):
        quotes = "a value with brackets, commas or blanks needs quotes: 'KEY=\"VALUE\"'"
        return f"cannot read '{error.override}': {line}; {quotes}"
    return line


def _siblings(key: str, stage: str, words: Sequence[str]) -> list[str]:
    """Return the keys beside one that does not exist, for the chosen options, or else the top-level keys."""
    # Hydra refuses to be initialised again while the failed composition is still registered.
    GlobalHydra.instance().clear()
    groups = (*STAGES[stage][0], "trainer", "explainer", "metric")
    chosen = [w for w in words if w.partition("=")[0] in groups and ("," not in w or "=[" in w)]
    with initialize_config_dir(defaults.conf_dir(), version_base="1.3"):
        try:
            cfg = compose(stage, chosen)
        except (HydraException, OmegaConfBaseException):
            cfg = compose(stage)
    parent, dot, _ = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if not isinstance(node, DictConfig) or not len(node):
        node, parent, dot = cfg, "", ""
    return [parent + dot + str(name) for name in node if name != "hydra"]
