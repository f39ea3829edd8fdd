"""Verification of runs: their files, the networks that they depend on, their data and versions. No torch."""

from collections.abc import Sequence
from pathlib import Path

from xmnist import data
from xmnist.runs import index, store
from xmnist.runs.index import Found
from xmnist.runs.store import Run
from xmnist.runtime import environment, reading
from xmnist.runtime.errors import InputError
from xmnist.runtime.storage import digest

RIGHT, WRONG, UNKNOWN, OTHER = "right", "differs", "cannot be checked", "other versions"
"""Findings of a check; other versions change a result at most by rounding."""


def chosen(words: Sequence[str], out_dir: Path) -> list[Found]:
    """Return the runs that words name: hashes, folders, or `all`.

    Raises:
        InputError: there is no such run, or several hashes begin with the word.
    """
    words = words or ["all"]
    return [run for word in words for run in (index.below(out_dir) if word == "all" else [index.named(word, out_dir)])]


def run_of(about: Found) -> Run:
    """Return a run with the checked settings of its stage, wherever its folder lies now.

    Raises:
        InputError: its config is not that of this run, or its status is damaged.
    """
    if about.edited or about.state == "damaged":
        raise InputError(f"{about.path}: {about.error}")
    return index.as_run(about.path, about.stage, about.settings)


def look(about: Found) -> list[tuple[str, str]]:
    """Return the findings about a run: pairs of a finding and its subject."""
    try:
        run = run_of(about)
    except InputError as error:
        return [(WRONG, str(error).removeprefix(f"{about.path}: "))]
    status = run.status()
    if status.get("state") not in ("done", "failed"):
        return [(UNKNOWN, f"it is {about.state}")]
    return [_files(run), *_bases(run), *_data(run), *_made_with(run)]


def _files(run: Run) -> tuple[str, str]:
    written = run.status().get("files") or {}
    for name, recorded in written.items():
        if not (run.path / name).is_file():
            return WRONG, f"files: {name} is gone"
        if digest(run.path / name) != recorded:
            return WRONG, f"files: {name} is not the one that the run wrote"
    return RIGHT, f"files: all {len(written)} as they were written"


def _bases(run: Run) -> list[tuple[str, str]]:
    """Return the findings about the networks that a run depends on."""
    recorded, out = run.status().get("stands_on"), []
    for base in run.bases():
        name = f"stands on: {base.key}"
        weights = base.path / store.WEIGHTS
        if recorded is None:
            out.append((UNKNOWN, f"{name} (the run is older than such records)"))
        elif base.key not in recorded or not weights.is_file():
            out.append((UNKNOWN, f"{name} ({'not recorded' if base.key not in recorded else 'its weights are gone'})"))
        else:
            out.append((RIGHT if digest(weights) == recorded[base.key] else WRONG, name))
    return out


def _data(run: Run) -> list[tuple[str, str]]:
    dataset = data.recorded(run.settings.dataset)
    recorded = (dataset and dataset.stated_digest()) or run.status().get("data")
    try:
        now = dataset.digest(run.settings.data_dir) if dataset else None
    except InputError as error:
        return [(WRONG, f"data: {error}")]
    if recorded is None:
        return [] if now is None else [(UNKNOWN, "data: no digest was recorded")]
    if now is None:
        return [(UNKNOWN, "data: the files are not here")]
    return [(RIGHT if now == recorded else WRONG, f"data: {run.settings.dataset.name}")]


def _made_with(run: Run) -> list[tuple[str, str]]:
    """Return the finding about versions and source code that differ from those that a run was made with."""
    content, reason = reading.content(run.path / "environment.json")
    if reason:
        return [] if run.stage == "export" else [(UNKNOWN, f"versions: {reason}")]
    before, now = content.get("versions") or {}, environment.versions()
    differences = [
        f"{name} {before[name]} (here {now[name]})" for name in now if name in before and before[name] != now[name]
    ]
    source = content.get("source")
    if source not in (None, environment.source()):
        differences.append("another source of xmnist")
    return [(OTHER, ", ".join(differences))] if differences else [(RIGHT, "versions")]


def report(several: Sequence[Found], out_dir: Path) -> tuple[str, bool]:
    """Return a text with the findings of each run, and whether no file, network or data set differs."""
    blocks, sound = [], True
    for about in several:
        findings = look(about)
        sound = sound and all(finding != WRONG for finding, _ in findings)
        name = about.path.relative_to(out_dir) if about.path.is_relative_to(out_dir) else about.path
        blocks.append("\n".join([str(name), *(f"  {finding:<18}{subject}" for finding, subject in findings)]))
    return "\n".join(
        [*blocks, f"{len(several)} runs: {'nothing differs' if sound else 'something differs'}"]
    ) + "\n", sound
