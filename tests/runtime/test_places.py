"""Folders and files that cannot be used as they were named: one line, and exit 2."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helpers import TINY
from xmnist.cli import listing
from xmnist.config import resolution
from xmnist.runs import claims, index
from xmnist.runs.store import Run
from xmnist.runtime import errors
from xmnist.runtime.errors import InputError

Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]


def test_places_that_cannot_be_used_are_named(
    xmnist: Xmnist, tmp_path: Path, settings: Callable[..., resolution.Settings]
) -> None:
    words = ("train", *TINY, "model=classifier")
    name = Run("train", settings(*words[1:])).key
    for place in ("file", "link"):
        path = tmp_path / "work" / place / name
        path.parent.mkdir(parents=True)
        path.touch() if place == "file" else path.symlink_to("/nowhere/at/all")
    (tmp_path / "work" / "text").touch()
    long = "x" * 300
    for out_dir, told in (
        ("file", f"file/{name} cannot be used: File exists"),
        ("link", f"link/{name} cannot be used: File exists"),
        (long, "/status.json cannot be used: File name too long"),
        ("text/below", "out_dir=text/below: nothing can be written there (Not a directory)"),
    ):
        done = xmnist(*words, f"out_dir={out_dir}")
        assert done.returncode == 2, done.stderr
        told_lines = done.stderr.strip().split("\n")
        assert len(told_lines) == 1 and told in told_lines[0]


@pytest.mark.parametrize(("number", "code"), [(13, 2), (36, 2), (30, 2), (28, 1), (5, 1)])
def test_what_the_system_refuses_by_a_name_is_bad_input(number: int, code: int) -> None:
    error = OSError(number, os.strerror(number), "folder/file")
    assert errors.exit_code(error) == code
    assert (errors.one_line(error) == f"folder/file cannot be used: {os.strerror(number)}") == (code == 2)


def test_another_users_run_is_said_to_be_so(
    settings: Callable[..., resolution.Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:

    run = Run("train", settings(*TINY, "model=classifier"))
    with claims.claim(run, "xmnist train"):
        pass

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(run.path / ".lock"))

    (run.path / ".lock").touch()
    monkeypatch.setattr(index.FileLock, "acquire", refused)
    monkeypatch.setattr(os, "access", lambda *_: False)
    listing.main([f"out_dir={run.settings.out_dir}", "state=done", "--remove", "--yes"])
    assert f"{run.path} stays: this user may not write there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model=cladec_vae", "model.latent=100000000"), "model.latent must be a whole number from 2 to 10000"),
        (
            ("trainer.epochs=99999999999999999999",),
            "trainer.epochs must be a whole number of at least 1, at most a billion",
        ),
        (("trainer.batch_size=9223372036854775808",), "trainer.batch_size must be a whole number of at least 1"),
        (("classifier=cam_net", "classifier.width=1000000"), "classifier.width must be a whole number from 1 to 4096"),
    ],
)
def test_absurd_sizes_are_refused(
    settings: Callable[..., resolution.Settings], words: tuple[str, ...], told: str
) -> None:
    with pytest.raises(InputError) as caught:
        settings(*words)
    assert told in str(caught.value)
