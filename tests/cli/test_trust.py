"""A config calls nothing that this package does not know, and tells nothing of the user's environment."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from xmnist.cli import trust
from xmnist.runtime.errors import InputError

Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]

HARMFUL = [
    ({"callbacks": {"x": {"_target_": "os.system", "command": "true"}}}, "hydra.callbacks.x._target_=os.system"),
    ({"callbacks": {"x": {"_target_": "pandas.read_pickle"}}}, "hydra.callbacks.x._target_=pandas.read_pickle"),
    ({"callbacks": {"x": "${explainers.y}"}}, "hydra.callbacks.x="),
    ({"callbacks": {"x": {"_target_": "${out_dir}"}}}, "hydra.callbacks.x._target_="),
    ({"callbacks": {"x": {"y": "${oc.create:'{_target_: a}'}"}}}, "hydra.callbacks.x.y="),
    ({"sweeper": {"_target_": "trace.Trace"}}, "hydra.sweeper._target_="),
    ({"launcher": {"setup": ["rm x"]}}, "hydra.launcher.setup"),
    ({"launcher": {"python": "./evil"}}, "hydra.launcher.python="),
    ({"launcher": {"ray": {"init": {"runtime_env": {"py_executable": "x"}}}}}, "hydra.launcher.ray.init.runtime_env."),
    ({"job_logging": {"formatters": {"a": {"()": "os.system"}}}}, "hydra.job_logging.formatters.a.()="),
    ({"hydra_logging": {"handlers": {"a": {"class": "os.system"}}}}, "hydra.hydra_logging.handlers.a.class="),
    ({"job_logging": {"handlers": {"a": {"stream": "ext://os.environ"}}}}, "hydra.job_logging.handlers.a.stream="),
    ({"job": {"env_set": {"LD_PRELOAD": "x.so"}}}, "hydra.job.env_set.LD_PRELOAD="),
    ({"job": {"env_set": {"OMP_NUM_THREADS": "${oc.env:SECRET}"}}}, "read XMNIST_... only"),
]


@pytest.mark.parametrize(("own", "named"), HARMFUL)
def test_a_harmful_key_is_refused_by_its_name(own: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as caught:
        trust.check(OmegaConf.create({"hydra": own}))
    assert named in str(caught.value) and "trust=true on the command line" in str(caught.value)


def test_what_this_package_and_its_launchers_need_passes() -> None:
    allowed: dict[str, Any] = {
        "callbacks": {"check": {"_target_": "xmnist.cli.hooks.Check"}},
        "launcher": {"_target_": trust.TARGETS[4], "setup": None, "n_jobs": 2},
        "job_logging": {"handlers": {"console": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}},
        "job": {"env_set": {"OMP_NUM_THREADS": "2"}},
    }
    trust.check(OmegaConf.create({"hydra": allowed, "data_dir": "${oc.env:XMNIST_DATA,data}"}))
    allowed["callbacks"]["more"] = {"_target_": "xmnist.cli.hooks.Check.on_run_start"}  # nothing but the class itself
    with pytest.raises(InputError, match="hydra.callbacks.more._target_"):
        trust.check(OmegaConf.create({"hydra": allowed}))


def test_files_and_words_are_refused_before_anything_runs(xmnist: Xmnist, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "mine" / "experiment"
    folder.mkdir(parents=True)
    head = "# @package _global_\n"
    called = "{_target_: builtins.open, file: called, mode: w}"
    (folder / "evil.yaml").write_text(f"{head}hydra: {{callbacks: {{x: {called}}}}}\n")
    (folder / "sure.yaml").write_text(f"{head}trust: true\nhydra: {{callbacks: {{x: {called}}}}}\n")
    more = ("train", "dataset=glyphs", "model=classifier")
    for words, message in (
        (("+experiment=evil", "--config-dir", "mine"), "hydra.callbacks.x._target_=builtins.open is not run"),
        (("+experiment=sure", "--config-dir", "mine"), "trust"),
        (("--experimental-rerun", "x.pickle"), "--experimental-rerun would run what its file holds"),
        (("data_dir=${oc.env:HOME}",), "read XMNIST_... only"),
        (("trust=maybe",), "trust must be true or false, got 'maybe'"),
    ):
        done = xmnist(*more, *words)
        assert done.returncode == 2 and message in done.stderr and len(done.stderr.strip().split("\n")) == 1
    assert not (tmp_path / "work" / "called").exists() and not (tmp_path / "work" / "outputs").exists()
    xmnist(*more, "+experiment=evil", "--config-dir", "mine", "trust=true", "dataset.train=0")
    assert (tmp_path / "work" / "called").exists()  # as it was asked for
