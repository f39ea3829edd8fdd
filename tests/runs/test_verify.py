"""`xmnist runs verify` and `xmnist runs pack`: a result that somebody else can check, and make again."""

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from helpers import TINY, composed
from xmnist.cli import listing
from xmnist.config import resolution
from xmnist.runs.store import Run
from xmnist.runtime.errors import InputError
from xmnist.stages import evaluate, train
from xmnist.training import networks

WORDS = (*TINY, "metric=reconstruction", "explainer=cladec", "metrics.reconstruction.evaluation_accuracy=false")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An `out_dir` with a measurement of a ClaDec, and with what it stands on."""
    out = tmp_path_factory.mktemp("finished") / "outputs"
    own = replace(resolution.resolve(composed(*WORDS, stage="evaluate"), "evaluate"), out_dir=str(out))
    evaluate.main(own, f"xmnist evaluate {' '.join(WORDS)} out_dir={out} data_dir=/home/somebody/data")
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "outputs"))


Told = Callable[..., tuple[str, int]]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Told:
    """`told("verify", ...)`: what `xmnist runs` prints, and its exit code."""

    def ask(*words: str) -> tuple[str, int]:
        code = 0
        try:
            listing.main(words)
        except SystemExit as left:
            code = int(left.code or 0)
        return capsys.readouterr().out, code

    return ask


def test_sound_runs_are_right_in_everything(out: Path, told: Told) -> None:
    text, code = told("verify", f"out_dir={out}")
    assert code == 0 and "3 runs: nothing differs" in text and "differs  " not in text
    assert text.count("right             stands on: train/glyphs/") == 1 + 2
    assert text.count("right             files: all") == text.count("right             versions") == 3


def test_what_differs_is_named_and_the_exit_code_says_so(out: Path, told: Told) -> None:
    (classifier,) = out.glob("train/glyphs/classifier/*")
    (measured,) = out.glob("evaluate/*/*/*")
    weights = classifier / "model.pt"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    text, code = told("verify", measured.name[-8:], f"out_dir={out}")
    assert code == 1 and f"differs           stands on: train/glyphs/classifier/{classifier.name}" in text
    text, code = told("verify", str(classifier), f"out_dir={out}")
    assert code == 1 and "differs           files: model.pt is not the one that the run wrote" in text
    weights.unlink()
    text, _ = told("verify", measured.name[-8:], f"out_dir={out}")
    assert "cannot be checked stands on: " in text and "its weights are gone" in text
    environment = json.loads((measured / "environment.json").read_text())
    (measured / "environment.json").write_text(json.dumps(environment | {"versions": {"torch": "0.1"}, "source": "x"}))
    text, code = told("verify", measured.name[-8:], f"out_dir={out}")
    assert code == 1 and "other versions    torch 0.1 (here " in text and "another source of xmnist" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("verify", "00000000"), "no run '00000000'"),
        (("pack", "00000000", "-o", "x.zip"), "no run '00000000'"),
        (("pack", "x"), "takes one run, and the file to write"),
        (("pack", "-o", "x.zip"), "takes one run, and the file to write"),
        (("pack", "all", "-o", "x.zip"), "takes one run, and the file to write"),
        (("verify", "out_dir=nowhere"), "there is no such folder"),
    ],
)
def test_mistakes_are_told(finished: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        listing.main([*words[:1], f"out_dir={finished}", *words[1:]])


def test_a_packed_run_is_checked_and_made_again_elsewhere(
    finished: Path, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (measured,) = finished.glob("evaluate/*/*/*")
    files = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for file in files:
        text, code = told("pack", measured.name[-8:], "-o", str(file), f"out_dir={finished}")
        assert code == 0 and text.count("\n  ") == 3
    assert files[0].read_bytes() == files[1].read_bytes()
    with pytest.raises(InputError, match="one.zip is there already"):
        listing.main(["pack", measured.name[-8:], "-o", str(files[0]), f"out_dir={finished}"])
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(files[0]) as archive:
        archive.extractall(tmp_path)
        for name in archive.namelist():
            content = archive.read(name)
            assert not name.startswith("/") and ".." not in name
            assert str(finished).encode() not in content and b"somebody" not in content
    text, code = told("verify")
    assert code == 0 and "3 runs: nothing differs" in text
    readme = (tmp_path / "README.txt").read_text()
    assert "xmnist runs verify all" in readme and "xmnist evaluate +experiment=smoke" in readme

    own = resolution.resolve(composed(*WORDS, stage="evaluate"), "evaluate")
    run = Run("evaluate", own)
    assert own.out_dir == "outputs" and run.reusable()
    before = (run.path / "summary.csv").read_bytes()
    (run.path / "summary.md").unlink()
    monkeypatch.setattr(networks, "train", lambda *_: pytest.fail("something was trained"))
    monkeypatch.setattr(train, "main", lambda *_: pytest.fail("something was trained"))
    evaluate.main(replace(own, force=True), "xmnist evaluate ...")
    assert (run.path / "summary.csv").read_bytes() == before and (run.path / "summary.md").is_file()


def test_neither_needs_torch(finished: Path) -> None:
    import subprocess

    code = "import sys; from xmnist.cli import listing; listing.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, "verify", f"out_dir={finished}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
