"""Check that a config calls nothing but this package, known launchers and known logging, unless it is trusted.

Hydra calls whatever `_target_` names in its own part of a config, and `logging` calls what `()` and `class` name there.
Anybody may have written a file below --config-dir.
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
"""Names that `_target_` may have."""

LOGGING = (
    *("logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "logging.Formatter"),
    *("xmnist.runtime.progress.Handler", "colorlog.ColoredFormatter", "ext://sys.stdout", "ext://sys.stderr"),
)
"""Classes and streams that the logging of a config may name."""

SHELL = re.compile(
    r"hydra\.launcher\.(.+\.)?"
    r"(setup|teardown|srun_args|python|additional_parameters|runtime_env|setup_commands|job_config)(\..*)?"
)
"""Keys of launchers whose values are commands."""

VARIABLES = re.compile(r"XMNIST_\w+|(OMP|MKL|OPENBLAS|KMP)_\w+|CUDA_VISIBLE_DEVICES|CUBLAS_WORKSPACE_CONFIG")
"""Environment variables that a config may set for its jobs."""

HOW = "; if you have read what it does: trust=true on the command line"


def check(cfg: DictConfig) -> None:
    """Check that nothing in a composed config calls what this package does not know, or reads the environment.

    Raises:
        InputError: a key does so; the message names the first one.
    """
    # Interpolations stay unresolved: to resolve them would already run what is checked here.
    whole: Any = OmegaConf.to_container(cfg, resolve=False)
    for key, value in _values(whole):
        name, text = key.rpartition(".")[2], str(value)
        logs = key.startswith(("hydra.job_logging.", "hydra.hydra_logging."))
        refused = name == "_target_" and value not in TARGETS
        refused = refused or (logs and (name in ("()", "class") or "://" in text) and value not in LOGGING)
        refused = refused or SHELL.fullmatch(key) is not None
        refused = refused or (key.startswith("hydra.job.env_set.") and not VARIABLES.fullmatch(name))
        refused = refused or (key.startswith("hydra.") and re.search(r"\$\{\s*oc\.(create|decode)", text) is not None)
        # A group of keys is never a value here, so a value in its place is an interpolation that could become one.
        refused = refused or re.fullmatch(r"hydra\.(callbacks\.[^.]*|sweeper|launcher|\w+_logging)", key) is not None
        if refused and value is not None:
            raise InputError(f"{key}={text[:100]} is not run from a config{HOW}")
        if re.search(r"\$\{\s*oc\.env\s*:(?!\s*XMNIST_\w+\s*[,}])", text):
            raise InputError(f"{key}={text[:100]}: configs are written down and shown, and read XMNIST_... only{HOW}")


def _values(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is neither a dict nor a list, with its dotted key."""
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

    def checked(self: ConfigLoaderImpl, *args: Any, **named: Any) -> DictConfig:
        cfg = compose(self, *args, **named)
        check(cfg)
        return cfg

    ConfigLoaderImpl.load_configuration = checked  # type: ignore[method-assign]
