"""Pack a run with all runs that it depends on into one ZIP file, so that it can be checked elsewhere. No torch."""

import json
import shlex
import zipfile
from pathlib import Path
from typing import Any

import yaml

from xmnist import data
from xmnist.config.components import Options
from xmnist.config.settings import Settings
from xmnist.runs import commands, verify
from xmnist.runs.index import Found
from xmnist.runs.store import Run
from xmnist.runtime import reading
from xmnist.runtime.errors import InputError
from xmnist.runtime.storage import atomic

LEFT_OUT = (".lock", "last.pt", "config.yaml", "status.json")
"""Files of a run that are not packed as they are."""

README = """{name}

This is a run of xmnist with the networks that it stands on. Nothing in it is executed by reading it.

1. Unpack it, and install xmnist {version} (python {python}, torch {torch}).
2. xmnist runs verify all
   says whether files, networks, data and versions are those that the run was made with.
3. {command}
   finds the run done; with force=true it makes its tables and pictures again, with these networks: nothing is trained.
{data}
The paths of the machine where it was made are left out: out_dir is outputs, data_dir is data.
"""


def pack(about: Found, target: Path) -> list[str]:
    """Write a run, and all runs that it depends on, into a ZIP file, and return the runs' keys.

    Equal runs give equal files.

    Raises:
        InputError: the file exists already, its folder does not, or one of the runs is unfinished or was changed.
    """
    if target.exists():
        raise InputError(f"{target} is there already: name another file, or remove it")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}")
    several = list(_with_bases(verify.run_of(about)).values())
    files: dict[str, bytes] = {"README.txt": _readme(several[0]).encode()}
    for run in several:
        if not run.finished():
            raise InputError(f"{run.path} is not finished, or stale: its command does it again")
        for path in sorted(run.path.iterdir()):
            if path.is_file() and path.name not in LEFT_OUT and path.suffix != ".log":
                files[f"outputs/{run.key}/{path.name}"] = path.read_bytes()
        settings, status = _elsewhere(run)
        files[f"outputs/{run.key}/config.yaml"] = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode()
        files[f"outputs/{run.key}/status.json"] = (json.dumps(status, indent=2) + "\n").encode()
    with atomic(target) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as out:
        # A fixed order and date: equal runs must give equal files, byte by byte.
        for name, content in sorted(files.items()):
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # the date is always 1980
    return [run.key for run in several]


def _with_bases(run: Run) -> dict[str, Run]:
    """Return a run, and all runs that it depends on at any depth, by their keys."""
    out = {run.key: run}
    for base in run.bases():
        out |= {key: needed for key, needed in _with_bases(base).items() if key not in out}
    return out


def _elsewhere(run: Run) -> tuple[Options, dict[str, Any]]:
    """Return settings and status of a run without the folders and the name of the machine where it was made."""
    settings = run.settings.plain() | {"out_dir": "outputs", "data_dir": "data"}
    settings["dataset"] = data.public(run.settings.dataset)
    if isinstance(run.settings, Settings):
        settings["classifier"] = run.settings.classifier.elsewhere().plain()
    status = {key: value for key, value in run.status().items() if key not in ("host", "pid")}
    status["command"] = commands.public(shlex.split(status.get("command") or ""))
    # The status has changed, so its checksum is computed again: a reader would call it damaged otherwise.
    return settings, status | {"checksum": reading.checksum(status)}


def _readme(run: Run) -> str:
    versions = reading.content(run.path / "environment.json")[0].get("versions") or {}
    dataset = data.recorded(run.settings.dataset)
    note = f"   {dataset.source_note()}" if dataset and dataset.source_note() else ""
    required = {name: versions.get(name) for name in ("python", "torch")}
    command = commands.public(shlex.split(str(run.status().get("command"))))
    return README.format(name=run.key, command=command, data=note, version=versions.get("xmnist"), **required)
