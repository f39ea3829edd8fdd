"""What people mistype: whatever it is, one line says what is wrong, and nothing is written."""

import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from xmnist.cli import main
from xmnist.config.schema import STAGES
from xmnist.data import files
from xmnist.runtime import interrupts, progress

COMMANDS = [
    "train dataset=glyphs model=cladec layer=dense alpha=0.25",
    "train dataset=glyphs model=refae layer=conv trainer.epochs=3 trainer.decoder.lr=0.003",
    "train -m dataset=glyphs model=cladec layer=dense,conv alpha=0,0.25 seed=0,1",
    "train dataset=polygons model=joint alpha=[1.0,0.25,0.9] beta=0.9 gamma=1.0 model.loss=hybrid classifier=vgg_xml",
    "train +experiment=smoke trainer=paper trainer.precision=fp32 dataset.train=5000",
    "explain dataset=glyphs layer=dense alpha=[0,0.5,0.99] explainer=[refae,cladec] select=mixed select.label=3",
    "explain dataset=glyphs explainer=[lrp,gradcam] target=[predicted,label] explainers.lrp.gamma=0.1 format=pdf",
    "explain dataset=glyphs select=confusion select.true=4 select.predicted=9 explainer=integrated_gradients",
    "evaluate dataset=glyphs explainer=[lrp,gradcam] metric=[aopc,axioms] select.count=20 metrics.aopc.patch=[3,4]",
    "evaluate -m dataset=glyphs metric=reconstruction alpha=[0,1] seed=0,1,2 fail_fast=true",
    "export dataset=polygons dataset.train=20 dataset.size=64 dataset.target=[5,1]",
    "train dataset=folder dataset.path=nowhere model=classifier classifier=resnet18 dataset.size=64",
]
ODD = [
    "",
    "null",
    "-1",
    "1e999",
    "nan",
    "[]",
    "{}",
    "[[1]]",
    "{a: 1}",
    "???",
    "${x}",
    "${oc.env:HOME}",
    "a b",
    "'",
    '"',
    "0x",
]
ODD += [
    "\\",
    "ä",
    "\0".strip("\0"),
    "true",
    "9" * 30,
    "[0.1,0.1]",
    "1,2",
    "range(3)",
    "choice(a,b)",
    "interval(0,1)",
    "glob(*)",
]
CHARACTERS = "=,.[]{}:+-~@$'\"\\ /()abn019%#!&;*é\t"


@st.composite
def mistyped(draw: st.DrawFn) -> list[str]:
    """A command line of the README's kind, with one to three mistakes."""
    words = shlex.split(draw(st.sampled_from(COMMANDS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(words) - 1))
        word, kind = words[place], draw(st.sampled_from(["drop", "insert", "replace", "value", "key", "twice", "gone"]))
        at = draw(st.integers(0, max(0, len(word) - 1)))
        if kind == "drop":
            words[place] = word[:at] + word[at + 1 :]
        elif kind in ("insert", "replace"):
            words[place] = word[:at] + draw(st.sampled_from(CHARACTERS)) + word[at + (kind == "replace") :]
        elif kind == "value":
            words[place] = f"{word.partition('=')[0]}={draw(st.sampled_from(ODD))}"
        elif kind == "key":
            words[place] = f"{draw(st.sampled_from(ODD))}={word.partition('=')[2]}"
        elif kind == "twice":
            words.insert(place, word)
        elif len(words) > 1:
            del words[place]
    return [word.replace("\0", "") for word in words]


FILE = """# @package _global_
defaults:
  - override /dataset: glyphs
  - override /model: cladec
alpha: [0, 0.5]
trainer:
  epochs: 3
  decoder:
    lr: 0.01
dataset:
  train: 2000
hydra:
  sweeper:
    params:
      seed: 0,1
"""


@st.composite
def miswritten(draw: st.DrawFn) -> str:
    """An experiment's file, with one to three mistakes."""
    lines = FILE.splitlines()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(lines) - 1))
        line, kind = lines[place], draw(st.sampled_from(["drop", "insert", "value", "twice", "gone", "indent"]))
        at = draw(st.integers(0, max(0, len(line) - 1)))
        if kind == "drop":
            lines[place] = line[:at] + line[at + 1 :]
        elif kind == "insert":
            lines[place] = line[:at] + draw(st.sampled_from(CHARACTERS)) + line[at:]
        elif kind == "value":
            lines[place] = f"{line.partition(':')[0]}: {draw(st.sampled_from(ODD))}"
        elif kind == "twice":
            lines.insert(place, line)
        elif kind == "indent":
            lines[place] = draw(st.sampled_from(["  ", "    ", "\t", ""])) + line.lstrip()
        elif len(lines) > 1:
            del lines[place]
    return "\n".join(lines)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty folder in which commands are checked, but do nothing."""
    for stage in STAGES:
        monkeypatch.setattr(import_module(f"xmnist.stages.{stage}"), "main", lambda *_: {})
    monkeypatch.setattr(files, "MIRRORS", dict.fromkeys(files.MIRRORS, "http://127.0.0.1:9/"))
    monkeypatch.setenv("XMNIST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XMNIST_DEFAULT_DATASET", "glyphs")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


def answer(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code and output of `xmnist WORDS`, run here."""
    GlobalHydra.instance().clear()
    os.environ["HYDRA_FULL_ERROR"] = "0"
    for handler in [each for each in logging.getLogger().handlers if isinstance(each, progress.Handler)]:
        logging.getLogger().removeHandler(handler)  # of the last command, whose screen is closed
    logging.getLogger("hydra").setLevel(logging.NOTSET)  # which --info changes
    logging.getLogger().setLevel(logging.WARNING)
    sys.argv = ["xmnist", *words]
    capsys.readouterr()
    code = 0
    try:
        main.main()
    except SystemExit as left:
        code = int(left.code or 0)
    assert not interrupts.asked()
    return code, *capsys.readouterr()


def assert_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is told in one line with exit code 2; what happens to be right is done."""
    code, out, error = answer(words, capsys)
    assert code in (0, 2), (words, code, error)
    assert "Traceback" not in out + error, (words, error)
    if code == 2 and not error.startswith("xmnist 0"):  # the usage, where no stage is left
        assert len(error.splitlines()) == 1 and error.startswith("xmnist: "), (words, error)
        assert len(error) > 20, (words, error)


LIKE = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@LIKE
@given(words=mistyped())
def test_a_mistyped_command_is_told_in_one_line(
    no_work: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert_told(words, capsys)


@pytest.mark.slow
@LIKE
@given(
    words=mistyped(), more=st.sampled_from(["-m", "--cfg", "--info", "--help", "-c", "--resolve", "--config-dir", "x"])
)
def test_flags_and_mistakes_together(
    no_work: Path, capsys: pytest.CaptureFixture[str], words: list[str], more: str
) -> None:
    assert_told([*words, more], capsys)


@pytest.mark.slow
@LIKE
@given(text=miswritten(), many=st.booleans())
def test_a_miswritten_file_is_told_in_one_line(
    no_work: Path, capsys: pytest.CaptureFixture[str], text: str, many: bool
) -> None:
    folder = no_work / "own" / "experiment"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(text)
    assert_told(["train", *(["-m"] if many else []), "+experiment=mine", "--config-dir", "own"], capsys)
