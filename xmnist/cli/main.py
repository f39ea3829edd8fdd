"""The entry point: `xmnist STAGE [overrides] [flags]`. No torch here, and no Hydra before the stage is known."""

import gc
import logging
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from xmnist import __version__
from xmnist.cli import arguments
from xmnist.runtime import interrupts, processes, streams
from xmnist.runtime.errors import TRACEBACK, InputError, JobFailed, exit_code, one_line, report, unknown

if TYPE_CHECKING:
    from omegaconf import DictConfig

STAGES = {
    "train": "fit a classifier, a ClaDec decoder, a reference autoencoder or a joint explainer-classifier",
    "explain": "draw explanations of chosen images side by side; trains what it needs",
    "evaluate": "measure which explanations are worth trusting; trains what it needs",
    "report": "put all finished runs into one page: pictures, tables, curves, settings",
    "export": "write a data set as images, masks and boxes that dataset=folder reads",
}
OTHERS = {"runs": "list the runs with their figures, remove some, check (verify) or pack them"}
"""Commands that compose no config."""


def _lines(commands: dict[str, str]) -> str:
    return "\n".join(f"  {name:<10}{text}" for name, text in commands.items())


USAGE = f"""xmnist {__version__}: train and explain image classifiers, and measure how faithful the explanations are

usage: xmnist STAGE [KEY=VALUE ...] [flags]

stages:
{_lines(STAGES)}
and:
{_lines(OTHERS)}

examples:
  xmnist train model=cladec layer=dense alpha=0.25       a decoder of what layer dense keeps
  xmnist train model=refae layer=conv dataset=fashion_mnist
  xmnist train model=joint dataset=polygons              a classifier that makes its own explanation
  xmnist train -m model=cladec alpha=0,0.25,0.99         a sweep: one run for each value
  xmnist train +experiment=smoke                         everything once, in seconds
  xmnist explain run=last 'explainer=[lrp,gradcam]'      what the network that was trained last uses, by two methods
  xmnist explain run=last image=five.png                 the same of an image of your own
  xmnist evaluate run=last metric=aopc                   which explanation is faithful to it
  xmnist report open=true                                everything that was made, in the browser

flags:
  --help            this text; after a stage: its groups, options and defaults
  --version         the version
  -m                sweep over values with commas
  --cfg job         print the config and leave
  --info            print what Hydra knows and leave
  --config-dir DIR  add your own configs; with trust=true they may call anything

tab completion:  eval "$(xmnist -sc install=bash)"
"""


def main() -> None:
    """Run one command line and exit with 0 (done), 1 (a run failed), 2 (bad input) or 130 (interrupted)."""
    streams.last()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's may not be installed here, and pictures are files
    interrupts.listen()
    try:
        _main()
    except KeyboardInterrupt:
        fail(INTERRUPTED, 130)
    finally:
        gc.freeze()  # otherwise the last collection would traverse all objects of the libraries, for a second or more


MEANT = {"help": "--help", "open": "report open=true", "show": "runs show", "compare": "runs compare", "list": "runs"}
MEANT |= {"ls": "runs", "version": "--version", "test": "evaluate", "fit": "train", "plot": "explain"}
"""Words that are no stages -> the command that was probably meant."""


def _main() -> None:
    if processes.rank():
        logging.disable()  # of several processes that train one model, the first speaks
    stage, argv = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if stage in ("-sc", "--shell-completion"):
        stage, argv = _completed_stage(), sys.argv[1:]
    if stage in ("", "-h", "--help"):
        print(USAGE, end="", file=sys.stdout if stage else sys.stderr)
        sys.exit(0 if stage else 2)
    if stage == "--version":
        print(__version__)
        sys.exit(0)
    if stage in OTHERS:
        return without_hydra(argv)
    if stage not in STAGES:
        near = MEANT.get(stage)
        hint = f"no stage '{stage}'; did you mean 'xmnist {near}'?" if near else None
        fail(hint or unknown("stage", stage, [*STAGES, *OTHERS], "stages"), 2)
    try:
        trusted, overrides, flags = _read(stage, argv)
    except InputError as error:
        fail(error, 2)
    sys.argv[1:] = arguments.freed(overrides, flags) + flags

    # Imported only here, so that the words handled above do not wait for Hydra.
    import hydra
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from xmnist.cli import hooks, sweeps, trust
    from xmnist.config import defaults

    parser = get_args_parser()
    # By default, argparse would print its own usage text and exit.
    parser.error = lambda message: fail(arguments.of_flag(message, argv), 2)  # type: ignore[method-assign]
    asked = parser.parse_args()
    if asked.experimental_rerun is not None:
        fail("--experimental-rerun would run what its file holds, and is not done: type the run's command again", 2)
    try:
        arguments.refuse_bare(stage, flags)
    except InputError as error:
        fail(error, 2)
    hooks.register(stage, sys.argv[1:])
    if not trusted:
        trust.guard()
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        os.environ[TRACEBACK] = "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # without it, Hydra would print its own report and exit
    try:
        hydra.main(version_base="1.3", config_path=defaults.conf_dir(), config_name=stage)(job)()
        if asked.cfg:
            hooks.warn_of_glyphs(overrides)
    except sweeps.SweepFailed as error:
        fail(error, 1)
    except JobFailed:
        sys.exit(1)  # the job has said why
    except Exception as error:
        if interrupts.asked():
            fail(INTERRUPTED, 130)
        if os.environ.get(TRACEBACK):
            raise
        if exit_code(error) == 2:
            fail(error, 2)
        if not hooks.begun and isinstance(error, HydraException | OmegaConfBaseException | YAMLError | ValueError):
            fail(hooks.explain(error, stage, overrides), 2)  # the command line does not compose
        if not hooks.begun and isinstance(error, AttributeError | TypeError | LookupError | AssertionError):
            fail(f"Hydra cannot use the keys that it was given for itself (hydra.*): {one_line(error)}", 2)
        fail(error, exit_code(error))


def _read(stage: str, argv: list[str]) -> tuple[bool, list[str], list[str]]:
    """Return whether configs are trusted, the overrides with those of the run that the words name, and the flags.

    Raises:
        InputError: a word is wrong, or there is no such run.
    """
    from xmnist.config import plugins

    trusted, words = arguments.trusted(argv)
    overrides, flags = arguments.divided(words)
    if stage == "report":
        plugins.refuse()
    else:
        plugins.begin(plugins.typed(overrides))
    overrides = arguments.of_stage(stage, overrides)
    asking = {"--help", "-h", "--hydra-help", "-sc", "--shell-completion"} & set(flags)
    if stage in ("train", "explain", "evaluate") and not asking:
        from xmnist.cli import basis, hooks

        overrides, hooks.basis = basis.taken_up(stage, overrides)
    return trusted, overrides, flags


INTERRUPTED = "interrupted; type the same command again to resume"


def without_hydra(argv: list[str]) -> None:
    """Run the command `runs`."""
    from xmnist.cli import listing
    from xmnist.config import plugins

    plugins.refuse()
    try:
        listing.main(argv)
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        fail(error, exit_code(error))


def job(cfg: "DictConfig") -> Any:
    """Run one job; the function is at module level, because launchers pickle it by name."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from xmnist.cli import hints, hooks
    from xmnist.config import resolution
    from xmnist.reporting import across_seeds
    from xmnist.runs import store

    streams.last()  # a launcher's process has its own streams
    hydra_config = HydraConfig.get()
    try:
        run = store.Run(hydra_config.job.name, resolution.resolve(cfg, hydra_config.job.name))
        if not run.reusable() or not run.drawn() or processes.count() > 1:  # several must agree on it
            scores = hooks.module(run.stage).main(run.settings, hooks.typed(hydra_config, run))
        else:
            run.log_summary("already done")  # without the seconds that importing torch takes
            if run.stage == "evaluate":
                across_seeds.summarise(run)
            scores = run.metrics()
        if hydra_config.mode != RunMode.MULTIRUN:
            hints.show(run)
        return scores
    except Exception as error:
        if interrupts.asked():  # a library has turned the interrupt into an error
            raise KeyboardInterrupt from error
        if os.environ.get(TRACEBACK):
            raise
        if hydra_config.mode == RunMode.MULTIRUN:  # the other jobs go on
            report(f"{one_line(error)} (in the job {' '.join(hydra_config.overrides.task)})")
            raise JobFailed(one_line(error)) from None  # a process elsewhere may not know the error's own class
        fail(error, exit_code(error))


def fail(error: Exception | str, code: int) -> NoReturn:
    """Print an error in one line, and exit with the given code."""
    report(error)
    sys.exit(code)


def _completed_stage() -> str:
    """Return the stage on the line that is being completed, or print the matching stages and exit while it is typed."""
    line = os.environ.get("COMP_LINE", "xmnist train ")
    if re.match(r"\s*\S+\s.*\srun=\S*$", line):
        from xmnist.runs import index

        where = re.findall(r"\sout_dir=(\S+)", line)
        print(*(f"run={word}" for word in index.hashes(Path(where[-1] if where else "outputs"))))
        sys.exit(0)
    match = re.match(r"(\s*\S+\s+)(\S+)(\s.*)$", line)
    if match and match[2] in STAGES:
        os.environ["COMP_LINE"] = match[1] + match[3].lstrip()  # Hydra completes a line without stages
        return match[2]
    typed = re.sub(r"^\s*\S+\s*", "", line)
    print(*(s for s in [*STAGES, *OTHERS] if s.startswith(typed)))
    sys.exit(0)
