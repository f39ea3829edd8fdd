"""The folder of the configs, and the values in its files. No torch."""

from dataclasses import MISSING
from pathlib import Path

from omegaconf import OmegaConf

from xmnist.config.components import Options
from xmnist.config.declarations import COMPONENTS


def conf_dir() -> str:
    """Return the folder of the configs: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[1]
    return str(next(d for d in (package / "conf", package.parent / "conf") if (d / "train.yaml").is_file()))


def option(group: str, name: str) -> Options:
    """Return the values in the file of a group's option; without a file, the defaults of its declaration."""
    path = Path(conf_dir(), group, f"{name}.yaml")
    if group in COMPONENTS and not path.is_file():  # a user's own
        keys = COMPONENTS[group][name].keys.items()
        return {"name": name} | {key: entry.default for key, entry in keys if entry.default is not MISSING}
    content = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(content, dict)
    return {str(k): v for k, v in content.items()}
