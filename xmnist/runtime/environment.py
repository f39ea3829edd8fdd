"""Description of the software and machine of a run."""

import hashlib
import os
import platform
import re
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from xmnist.runtime import processes
from xmnist.runtime.storage import digest

PACKAGES = (
    *("xmnist", "torch", "torchvision", "captum", "zennit", "numpy", "scipy", "pandas", "torchmetrics", "matplotlib"),
    *("pillow", "hydra-core", "omegaconf"),
)
"""The packages that affect scores or figures; the fonts come with matplotlib."""


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of `PACKAGES`; None for one that is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def describe(device: object, threads: int, seed: int) -> dict[str, Any]:
    """Return versions, machine, device, threads, processes, seed, commit and source digest, as plain values."""
    return {
        "versions": versions(),
        "platform": platform.platform(),
        "processor": _processor(),
        "gpu": _gpu(device),
        "cores": os.cpu_count(),
        "device": str(device),
        "threads": threads,
        "processes": processes.count(),
        "seed": seed,
        "commit": _commit(),
        "source": source(),
    }


def _gpu(device: object) -> str | None:
    """Return the name of a run's GPU, if it uses one."""
    if not str(device).startswith("cuda"):
        return None
    import torch

    return torch.cuda.get_device_name(str(device))


def _processor() -> str:
    """Return the processor's model, where the system reports it, or else its architecture."""
    with suppress(OSError):
        match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        if match:
            return match[1].strip()
    return platform.processor() or platform.machine()


def source() -> str:
    """Return the SHA-256 of the package's own Python files and configs, by their names below it."""
    package = Path(__file__).resolve().parents[1]
    conf = next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())
    named = {f"xmnist/{path.relative_to(package).as_posix()}": path for path in package.rglob("*.py")}
    named |= {f"conf/{path.relative_to(conf).as_posix()}": path for path in conf.rglob("*.yaml")}
    total = hashlib.sha256()
    for name, path in sorted(named.items()):
        total.update(f"{name} {digest(path)}\n".encode())
    return total.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the checkout that the package runs from, with `+` where it has changes; None elsewhere."""
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(checkout), *words], capture_output=True, encoding="utf-8", check=True
            ).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changes else "")
