"""Sweeps: run the jobs of one command with any launcher, and record how each job ended."""

import csv
import importlib.util
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xmnist.cli import hints
from xmnist.runs import claims, index, inspection, store
from xmnist.runs.store import Run
from xmnist.runtime import interrupts
from xmnist.runtime.errors import InputError, JobFailed, one_line

log = logging.getLogger(__name__)

ATTEMPTS = 2
"""Maximum number of times that a job is launched alone if its process dies."""

EXTRAS = {"joblib": "joblib", "submitit": "slurm", "ray": "ray"}
"""Word of a launcher's module -> the optional dependency of this package that installs the launcher."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep: the overrides that make it, and its run."""

    words: tuple[str, ...]
    run: Run


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job: its return value, or the error with which it failed."""

    value: Any
    failed: bool = False


class SweepFailed(JobFailed):
    """Error of a sweep in which jobs failed: the message says how many, and the sweep's table which ones."""


def check_launcher(launcher: Mapping[str, Any]) -> None:
    """Check that the launcher of a sweep is installed.

    Raises:
        InputError: it is not; the message names what to install.
    """
    module = str(launcher["_target_"]).rpartition(".")[0]
    try:
        installed = importlib.util.find_spec(module) is not None
    # find_spec imports the parent packages, and raises if one of them is missing.
    except ModuleNotFoundError:
        installed = False
    if not installed:
        way = install(module)
        raise InputError(f"hydra/launcher: {module} is not installed" + (f": {way}" if way else ""))


def install(name: str) -> str:
    """Return the command that installs a launcher, by its name or module; empty for an unknown one."""
    extra = next((extra for word, extra in EXTRAS.items() if word in name), None)
    return f"pip install 'xmnist[{extra}]'" if extra else ""


def threads(launcher: Mapping[str, Any], jobs: int) -> list[str]:
    """Return overrides that give each job its share of the CPU cores, for launchers that do not do so themselves.

    joblib and Ray do so; the basic launcher runs one job at a time; a value that the user has set is kept.
    """
    if "submitit" not in launcher["_target_"] or "OMP_NUM_THREADS" in os.environ:
        return []
    share = launcher.get("cpus_per_task")
    if share is None and "Local" in launcher["_target_"]:  # runs all of them at once
        share = max(1, cores() // jobs)
    return [] if share is None else [f"++hydra.job.env_set.OMP_NUM_THREADS='{share}'"]


def at_a_time(launcher: Mapping[str, Any]) -> int:
    """Return the number of jobs that a launcher runs at the same time on this machine."""
    if "BasicLauncher" in launcher["_target_"]:
        return 1
    wanted = launcher.get("n_jobs") or launcher.get("array_parallelism") or -1
    return wanted if wanted > 0 else max(1, cores() + 1 + wanted)  # as joblib counts


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    jobs: Sequence[Job], launch: Callable[[Sequence[Job]], Sequence[Outcome]], at_a_time: int | None = None
) -> list[Any]:
    """Run all jobs, log how each one ended, write that to `sweep.csv`, and return the value of each job.

    If a launcher breaks, because one of its processes was killed, the unfinished jobs are launched again.

    Args:
        launch: runs some jobs.
        at_a_time: how many to launch together, and none after one of them has failed; None: all, whatever happens.

    Raises:
        SweepFailed: a job has failed.
    """
    before, outcomes = [job.run.status() for job in jobs], dict[int, Outcome]()
    state = "failed"
    try:
        _run(jobs, launch, at_a_time, outcomes)
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        for job in jobs:
            with suppress(OSError):
                claims.mark_killed(job.run, state)
        failed = _log_summary(jobs, outcomes, before)
    if failed:
        raise SweepFailed(f"{failed} of {len(jobs)} jobs failed")
    hints.show(*(job.run for job in jobs))
    return [outcomes[number].value for number in range(len(jobs))]


def _run(
    jobs: Sequence[Job],
    launch: Callable[[Sequence[Job]], Sequence[Outcome]],
    at_a_time: int | None,
    outcomes: dict[int, Outcome],
) -> None:
    """Run the jobs in batches, and put their outcomes into `outcomes` by the job's index.

    When a launcher breaks, it is not known which job caused it: each job that was running is launched again, alone.
    """
    waiting, suspects, died, stuck = list(range(len(jobs))), list[int](), Counter[int](), 0
    while waiting:
        batch = suspects[:1] or waiting[:at_a_time]
        before = [_traces(jobs[number].run) for number in batch]
        try:
            outcomes |= zip(batch, launch([jobs[number] for number in batch]), strict=True)
            stuck = 0
        except Exception as error:  # raised by the launcher: the error of a job is that job's outcome
            if interrupts.asked():  # the launcher has turned the interrupt into an error
                raise KeyboardInterrupt from error
            begun = _settle(jobs, batch, before, outcomes)
            stuck = 0 if begun or any(number in outcomes for number in batch) else stuck + 1
            if stuck > 2 or (stuck and len(jobs) == 1):
                raise  # repeated breakdowns without any progress
            log.warning("the launcher broke down and is started again: %s", one_line(error))
            if len(batch) > 1:
                suspects = begun or batch
            elif batch[0] not in outcomes:
                died[batch[0]] += 1
                if not begun or died[batch[0]] >= ATTEMPTS:
                    outcomes[batch[0]] = Outcome(f"its process died: {one_line(error)}" if begun else error, True)
        waiting = [number for number in waiting if number not in outcomes]
        suspects = [number for number in suspects if number not in outcomes]
        if at_a_time and waiting and any(outcome.failed for outcome in outcomes.values()):
            log.warning("a job failed, and fail_fast=true: %d were not begun", len(waiting))
            return


def _settle(
    jobs: Sequence[Job], batch: Sequence[int], before: Sequence[list[dict[str, Any]]], outcomes: dict[int, Outcome]
) -> list[int]:
    """Record the outcomes of a batch whose launcher broke, and return the jobs that were still running."""
    begun = []
    for number, traces in zip(batch, before, strict=True):
        run, earlier = jobs[number].run, traces[0]
        status = run.status()
        # With force=true, a status from before the sweep does not count: the job was to be done again.
        if status.get("state") == "done" and (status != earlier or not run.settings.force):
            outcomes[number] = Outcome(run.metrics())
        elif status != earlier and status.get("state") == "failed":
            outcomes[number] = Outcome(str(status.get("error")), failed=True)
        elif _traces(run) != traces:
            begun.append(number)
    return begun


def _traces(run: Run) -> list[dict[str, Any]]:
    """Return the status of a run and of those that it stands on, which a job trains before its own run begins."""
    return [run.status(), *(base.status() for base in run.bases())]


def _log_summary(jobs: Sequence[Job], outcomes: Mapping[int, Outcome], before: Sequence[dict[str, Any]]) -> int:
    """Log and write the table of a sweep, and return the number of failed jobs."""
    rows = [_row(job, outcomes.get(number), before[number]) for number, job in enumerate(jobs)]
    counts = Counter(row["state"] for row in rows)
    folder = Path(jobs[0].run.settings.out_dir, jobs[0].run.stage)
    summary = f"{len(jobs)} jobs: " + ", ".join(f"{count} {state}" for state, count in counts.items())
    wrong = [f"  {row['state']}: {row['job']}: {row['error']}" for row in rows if row["error"]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with store.atomic(folder / "sweep.csv") as file, file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        summary += f" (the table is in {folder / 'sweep.csv'})"
    except OSError as error:  # a full disk, say
        summary += f" (the table could not be written: {error.strerror})"
    log.info("\n%s\n\n%s", _aligned(rows, [job.words for job in jobs]), "\n".join([summary, *wrong]))
    return counts["failed"]


def _row(job: Job, outcome: Outcome | None, before: dict[str, Any]) -> dict[str, Any]:
    """Return a job's row of the sweep's table, from its outcome and the status of its run."""
    status, path = job.run.status(), store.place(job.run.stage, job.run.settings)
    row = {"job": " ".join(job.words), "run": path, "state": "not begun", "reused": "", "figure": "", "value": ""}
    row |= {"seconds": "", "error": ""}
    new = status != before
    if outcome is None and not new:
        return row
    row |= {"state": status.get("state", "done"), "seconds": status.get("seconds", "") if new else ""}
    if outcome is not None and outcome.failed:
        return row | {"state": "failed", "error": one_line(outcome.value)}
    if row["state"] != "done":
        return row
    name, value = index.main_figure(job.run.path) or ("", "")
    return row | {"reused": "" if new else "yes", "figure": name, "value": value}


def _aligned(rows: Sequence[Mapping[str, Any]], words: Sequence[Sequence[str]]) -> str:
    """Return the table for the log; each job shows only those of its words that not all jobs have."""
    common = set(words[0]).intersection(*words) if len(words) > 1 else set[str]()
    lines = [("job", "state", "figure", "seconds", "run")]
    for row, overrides in zip(rows, words, strict=True):
        job = " ".join(word for word in overrides if word not in common)
        state = "done before" if row["reused"] else row["state"]
        figure = f"{row['figure']} {row['value']:.4g}" if row["figure"] else ""
        seconds = f"{row['seconds']:.1f}" if row["seconds"] != "" else ""
        lines.append((job, state, figure, seconds, row["run"]))
    return inspection.aligned(lines)
