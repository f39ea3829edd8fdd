"""Sweeps: every job is run, told and counted, whatever launcher runs it and whatever breaks."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers import TINY, typed
from xmnist.cli import main, sweeps
from xmnist.cli.sweeps import Job, Outcome
from xmnist.config import resolution
from xmnist.runs import claims
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import train

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def jobs(settings: Settings) -> list[Job]:
    return [
        Job((f"seed={seed}",), Run("train", settings(*TINY, "model=classifier", f"seed={seed}"))) for seed in range(5)
    ]


def done(job: Job) -> Outcome:
    """What a job does that ends well."""
    with claims.claim(job.run, "xmnist train") as needed:
        if needed:
            job.run.write_json("metrics.json", {"accuracy": 0.5, "loss": 1.0})
    return Outcome(job.run.metrics())


def died(job: Job) -> None:
    """What is left of a job whose process was killed."""
    job.run.path.mkdir(parents=True, exist_ok=True)
    again = job.run.status().get("pid", 0) + 1
    job.run.write_status({"state": "running", "started": claims._now(), "pid": again, "command": "xmnist train"})


def table(jobs: Sequence[Job]) -> list[dict[str, str]]:
    with Path(jobs[0].run.settings.out_dir, "train", "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_ends_with_a_table_of_all_jobs(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    found = sweeps.run(jobs, lambda batch: [done(job) for job in batch])
    assert found == [{"accuracy": 0.5, "loss": 1.0}] * 5
    rows = table(jobs)
    assert [row["job"] for row in rows] == [f"seed={seed}" for seed in range(5)]
    assert {(row["state"], row["figure"], row["value"]) for row in rows} == {("done", "accuracy", "0.5")}
    assert all(float(row["seconds"]) >= 0 and row["error"] == "" for row in rows)
    assert "5 jobs: 5 done" in caplog.text and "accuracy 0.5" in caplog.text


def test_a_sweep_ends_with_what_to_type_next(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pair = [
        Job((f"seed={seed}",), Run("train", settings(*TINY, "model=classifier", f"seed={seed}", "hints=true")))
        for seed in range(2)
    ]
    sweeps.run(pair, lambda batch: [done(job) for job in batch])
    first, second = (job.run for job in pair)
    assert f"next:\n  xmnist runs compare {first.id} {second.id} out_dir=" in caplog.text


def test_the_others_go_on_when_a_job_fails(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with pytest.raises(sweeps.SweepFailed, match="1 of 5 jobs failed"):
        sweeps.run(jobs, lambda batch: [Outcome("no\nroom", True) if job is jobs[1] else done(job) for job in batch])
    assert [row["state"] for row in table(jobs)] == ["done", "failed", "done", "done", "done"]
    assert table(jobs)[1]["error"] == "no room"
    assert "5 jobs: 4 done, 1 failed" in caplog.text and "failed: seed=1: no room" in caplog.text


@pytest.mark.parametrize(("at_a_time", "begun"), [(1, 2), (2, 2), (3, 3)])
def test_fail_fast_begins_no_more_jobs(jobs: list[Job], at_a_time: int, begun: int) -> None:
    with pytest.raises(sweeps.SweepFailed):
        sweeps.run(
            jobs, lambda batch: [Outcome("x", True) if job is jobs[1] else done(job) for job in batch], at_a_time
        )
    states = [row["state"] for row in table(jobs)]
    assert len(states) - states.count("not begun") == begun and states[1] == "failed"


def test_a_launcher_that_breaks_is_asked_again_for_what_is_left(jobs: list[Job]) -> None:
    asked: list[int] = []

    def launch(batch: Sequence[Job]) -> list[Outcome]:
        asked.append(len(batch))
        if len(asked) == 1:
            done(batch[0])
            died(batch[1])
            raise RuntimeError("a worker was killed")
        return [done(job) for job in batch]

    assert len(sweeps.run(jobs, launch)) == 5
    assert asked == [5, 1, 3]  # what was done is not done again, and what it was at work on is done alone
    assert {row["state"] for row in table(jobs)} == {"done"}


def test_a_job_that_kills_its_process_is_given_up_and_not_those_beside_it(jobs: list[Job]) -> None:
    def launch(batch: Sequence[Job]) -> list[Outcome]:
        if jobs[2] in batch:
            for job in batch[:3]:  # at work at the same time, and killed with it
                died(job)
            raise RuntimeError("a worker was killed")
        return [done(job) for job in batch]

    with pytest.raises(sweeps.SweepFailed, match="1 of 5"):
        sweeps.run(jobs, launch)
    rows = table(jobs)
    assert [row["state"] for row in rows] == ["done", "done", "failed", "done", "done"]
    assert rows[2]["error"] == "its process died: RuntimeError: a worker was killed"
    assert jobs[2].run.status()["state"] == "failed"


def test_a_job_that_cannot_begin_is_no_reason_to_leave_the_others_out(jobs: list[Job]) -> None:
    def launch(batch: Sequence[Job]) -> list[Outcome]:
        if jobs[1] in batch:
            raise FileExistsError("a file is where its folder should be")
        return [done(job) for job in batch]

    with pytest.raises(sweeps.SweepFailed, match="1 of 5"):
        sweeps.run(jobs, launch)
    assert [row["state"] for row in table(jobs)] == ["done", "failed", "done", "done", "done"]
    assert "FileExistsError" in table(jobs)[1]["error"]


def test_what_was_done_before_is_marked(jobs: list[Job], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    done(jobs[3])
    sweeps.run(jobs, lambda batch: [done(job) for job in batch])
    assert [row["reused"] for row in table(jobs)] == ["", "", "", "yes", ""]
    assert [bool(row["seconds"]) for row in table(jobs)] == [True, True, True, False, True]
    assert "seed=3  done before  accuracy 0.5" in caplog.text


def test_a_launcher_that_cannot_begin_is_told_at_once(jobs: list[Job]) -> None:
    def launch(_: Sequence[Job]) -> list[Outcome]:
        raise RuntimeError("no such cluster")

    with pytest.raises(RuntimeError, match="no such cluster"):
        sweeps.run(jobs, launch)
    assert {row["state"] for row in table(jobs)} == {"failed", "not begun"}


def test_an_interrupted_sweep_says_where_it_was(jobs: list[Job]) -> None:
    def launch(batch: Sequence[Job]) -> list[Outcome]:
        done(batch[0])
        died(batch[1])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweeps.run(jobs, launch)
    assert [row["state"] for row in table(jobs)] == ["done", "interrupted", *["not begun"] * 3]
    assert jobs[1].run.status()["state"] == "interrupted"


def test_a_run_at_which_somebody_works_is_not_buried(jobs: list[Job]) -> None:
    run = jobs[0].run
    with claims.claim(run, "c"):
        claims.mark_killed(run, "failed")
        assert run.status()["state"] == "running"
    died(jobs[1])
    claims.mark_killed(jobs[1].run, "failed")
    assert jobs[1].run.status()["state"] == "failed"


LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


def test_jobs_that_run_at_the_same_time_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(sweeps, "cores", lambda: 8)
    assert sweeps.threads({"_target_": LOCAL}, 3) == ["++hydra.job.env_set.OMP_NUM_THREADS='2'"]
    assert sweeps.threads({"_target_": LOCAL}, 30) == ["++hydra.job.env_set.OMP_NUM_THREADS='1'"]
    assert sweeps.threads({"_target_": SLURM, "cpus_per_task": 4}, 3) == ["++hydra.job.env_set.OMP_NUM_THREADS='4'"]
    assert sweeps.threads({"_target_": BASIC}, 3) == []
    assert (sweeps.at_a_time({"_target_": BASIC}), sweeps.at_a_time({"_target_": "x", "n_jobs": 3})) == (1, 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert sweeps.threads({"_target_": LOCAL}, 3) == []


def test_a_launcher_that_is_not_installed_is_told_with_what_brings_it() -> None:
    sweeps.check_launcher({"_target_": BASIC})
    with pytest.raises(InputError, match=r"pip install 'xmnist\[ray\]'"):
        sweeps.check_launcher({"_target_": "hydra_plugins.hydra_ray_nowhere.ray.Launcher"})
    with pytest.raises(InputError, match="own.launcher is not installed$"):
        sweeps.check_launcher({"_target_": "own.launcher.Mine"})


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    """What each run has measured, but for how long it took."""
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.rglob("metrics.json")}
    return {
        name: {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for name, row in found.items()
    }


THREE = ("train", "-m", *TINY, "model=classifier", "classifier=dropout_cnn", "trainer.epochs=1", "seed=range(3)")


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The figures of the three jobs, by Hydra's own launcher."""
    folder = tmp_path_factory.mktemp("basic")
    assert typed(THREE, folder, {**os.environ, "OMP_NUM_THREADS": "1"}).returncode == 0
    return figures(folder)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["cores", "ray_local", "submitit_local"])
def test_three_jobs_give_the_same_figures_by_any_launcher(
    xmnist: Xmnist, tmp_path: Path, launcher: str, one_by_one: dict[str, dict[str, Any]]
) -> None:
    module = {"cores": "joblib", "ray_local": "ray", "submitit_local": "submitit"}[launcher]
    pytest.importorskip(f"hydra_plugins.hydra_{module}_launcher")
    answer = xmnist(*THREE, f"hydra/launcher={launcher}", fresh=True, OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
    assert answer.returncode == 0, answer
    assert len(one_by_one) == 3 and figures(tmp_path / "work") == one_by_one
    assert "3 jobs: 3 done" in answer.stdout and "Traceback" not in answer.stderr


@pytest.mark.slow
def test_a_failing_job_costs_the_sweep_its_exit_code_and_nothing_else(xmnist: Xmnist, tmp_path: Path) -> None:
    words = ("train", "-m", *TINY, "model=classifier", "classifier=dropout_cnn", "trainer.epochs=1")
    answer = xmnist(*words, "trainer.lr=0.001,1e30,0.002")
    assert answer.returncode == 1 and answer.stderr.splitlines()[-1] == "xmnist: 1 of 3 jobs failed"
    assert "3 jobs: 2 done, 1 failed" in answer.stdout
    with (tmp_path / "work" / "outputs" / "train" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "failed", "done"] and "NotFiniteError" in rows[1]["error"]
    (tmp_path / "work" / "outputs" / "train" / rows[0]["run"] / "metrics.json").write_text("{}")
    answer = xmnist(*words, "trainer.lr=0.001,0.002,0.003")  # damage is no reason to leave the others out
    assert answer.returncode == 1 and "metrics.json is not the file that this run wrote" in answer.stderr
    assert "3 jobs: 1 failed, 2 done" in answer.stdout and "done before" in answer.stdout
    answer = xmnist(*words, "trainer.lr=1e30,0.003", "fail_fast=true")
    assert answer.returncode == 1 and "2 jobs: 1 failed, 1 not begun" in answer.stdout


def test_a_group_is_swept_together_with_a_key_of_its_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[tuple[str, Any]] = []
    monkeypatch.setattr(train, "check", lambda settings: None)
    monkeypatch.setattr(
        train, "main", lambda own, typed: found.append((own.classifier.name, own.classifier.stem)) or {}
    )
    words = ["-m", "model=classifier", "dataset=glyphs", f"out_dir={tmp_path}"]
    monkeypatch.setattr(
        sys, "argv", ["xmnist", "train", *words, "classifier=resnet18,resnet34", "classifier.stem=small,large"]
    )
    main.main()
    assert found == [(f"resnet{depth}", stem) for depth in (18, 34) for stem in ("small", "large")]


def test_a_key_that_an_option_lacks_is_refused_with_its_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-m", "model=classifier", "dataset=glyphs,polygons", "dataset.size=28,32", f"out_dir={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["xmnist", "train", *words])
    with pytest.raises(SystemExit) as left:
        main.main()
    told = capsys.readouterr().err
    assert (
        left.value.code == 2 and "no key 'dataset.size'" in told and "(in the job " in told and "dataset=glyphs" in told
    )
    assert "did you mean 'dataset.size'" not in told and not list(tmp_path.iterdir())
