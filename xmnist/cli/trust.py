"""What a config may call: nothing but this package, the launchers and the logging that it knows, unless it is trusted.

Hydra calls whatever `_target_` names in its own part of a config, and `logging` what `()` and `class` name there; a
file below --config-dir may have been written by anybody.
"""

import re
from collections.abc import Iterator
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf

from xmnist.runtime.errors import InputError

TARGETS = (
    "xmnist.cli.hooks.Check",
    "hydra_plugins.xmnist_sweeper.Sweep",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
)
"""What `_target_` may name."""

LOGGING = (
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("xmnist.runtime.progress.Handler", "colorlog.ColoredFormatter", "ext://sys.stdout", "ext://sys.stderr"),
)
"""What the logging of a config may name."""

SHELL = re.compile(
    r"hydra\.launcher\.(.+\.)?"
    r"(setup|teardown|srun_args|python|additional_parameters|runtime_env|setup_commands|job_config)(\..*)?"
)
"""Keys of launchers that hold commands."""

VARIABLES = re.compile(r"XMNIST_\w+|(OMP|MKL|OPENBLAS|KMP)_\w+|CUDA_VISIBLE_DEVICES|CUBLAS_WORKSPACE_CONFIG")
"""Environment variables that a config may set for its jobs."""

HOW = "; if you have read what it does: trust=true on the command line"


def check(cfg: DictConfig) -> None:
    """Make sure that nothing in a composed config calls what this package does not know, or reads the environment.

    Raises:
        InputError: names the first key that does.
    """
    whole: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in _values(whole):
        name, text = key.rpartition(".")[2], str(value)
        logs = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        refused = name == "_target_" and value not in TARGETS
        refused = refused or (logs and (name in ("()", "class") or "://" in text) and value not in LOGGING)
        refused = refused or SHELL.fullmatch(key) is not None
        refused = refused or (key.startswith("hydra.job.env_set.") and not VARIABLES.fullmatch(name))
        refused = refused or (key.startswith("hydra.") and re.search(r"\$\{\s*oc\.(create|decode)", text) is not None)
        refused = refused or re.fullmatch(r"hydra\.(callbacks\.[^.]*|sweeper|launcher|\w+_logging)", key) is not None
        if refused and value is not None:
            raise InputError(f"{key}={text[:100]} is not run from a config{HOW}")
        if re.search(r"\$\{\s*oc\.env\s*:(?!\s*XMNIST_\w+\s*[,}])", text):
            raise InputError(f"{key}={text[:100]}: configs are written down and shown, and read XMNIST_... only{HOW}")


def _values(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with its dotted key."""
    if isinstance(node, dict | list):
        pairs = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in pairs:
            yield from _values(value, f"{where}.{key}" if where else str(key))
    else:
        yield where, node


def guard() -> None:
    """Check every config that Hydra composes from now on, before it uses any of it."""
    compose = ConfigLoaderImpl.load_configuration
    if compose.__name__ == "checked":  # by an earlier command of this process
        return

    def checked(self: ConfigLoaderImpl, *given: Any, **named: Any) -> DictConfig:
        cfg = compose(self, *given, **named)
        check(cfg)
        return cfg

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
