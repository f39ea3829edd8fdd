"""Pictures, tables and messages do not depend on the user's machine: its locale, matplotlib's settings, its fonts."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import xmnist
from xmnist.plots import figures
from xmnist.runtime import machine, progress

FILES = sorted(Path(xmnist.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_text_file_is_read_and_written_in_utf_8(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        given = {word.arg for word in node.keywords}
        modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        text = node.func.attr in ("read_text", "write_text", "to_csv", "read_csv", "FileHandler")
        opened = node.func.attr == "open" and modes[:1] and modes[0] in ("r", "w", "a", "r+")
        if text or opened:
            assert "encoding" in given, f"{path.name}, line {node.lineno}"


NAMES = ("$5$ and $x^", "a_b\\c", "Käfer ≈ 3")


def confusion(path: Path, names: tuple[str, ...] = NAMES) -> np.ndarray:
    figures.confusion(np.diag([3] * len(names)), names, "a title with $ in it", path)
    return np.asarray(Image.open(path))


@pytest.mark.filterwarnings("error")
def test_dollars_in_names_are_dollars_and_a_matplotlibrc_changes_nothing(tmp_path: Path) -> None:
    import matplotlib

    plain = confusion(tmp_path / "plain.png")
    own = {"text.usetex": True, "axes.facecolor": "red", "font.family": "cursive", "savefig.dpi": 7, "font.size": 30}
    with matplotlib.rc_context(own):
        assert np.array_equal(confusion(tmp_path / "rc.png"), plain)
        assert matplotlib.rcParams["axes.facecolor"] == "red"  # the user's own settings are left alone
    points = [figures.Panel("$t$", "$x$", "", [figures.Series("$s$", [0], [0.001])], ticks=["$k$"], logarithmic=True)]
    figures.bars(points, "$", tmp_path / "bars.png")


def test_letters_that_no_font_has_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(figures.font_manager, "get_font_names", lambda: ["DejaVu Sans"])
    figures._style.cache_clear()
    confusion(tmp_path / "x.png", ("狗", "猫"))
    assert "no font here has the letters 狗猫: pictures show boxes" in caplog.text
    figures._style.cache_clear()


COMMANDS = """
import os, sys
from xmnist.cli.main import main
sys.argv = ["xmnist", *sys.argv[1:]]
main()
"""


def run(words: list[str], folder: Path, pipe: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """`xmnist WORDS`, with its output read, or into a pipe that is closed from the beginning."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XMNIST_", "LC_", "LANG", "PYTHONUTF8"))}
    command = [sys.executable, "-c", COMMANDS, *words]
    if not pipe:
        return subprocess.run(
            command, cwd=folder, env=clean | environment, capture_output=True, encoding="latin-1", timeout=300
        )
    read, write = os.pipe()
    os.close(read)
    error = folder / "stderr"
    with error.open("w") as err:
        done = subprocess.run(command, cwd=folder, env=clean | environment, stdout=write, stderr=err, timeout=300)
    os.close(write)
    return subprocess.CompletedProcess(command, done.returncode, "", error.read_text())


@pytest.mark.parametrize(
    "words", ["--version", "--help", "runs --help", "train --help", "runs", "train --cfg job dataset=glyphs"]
)
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(tmp_path: Path, words: str) -> None:
    (tmp_path / "outputs").mkdir()
    done = run(words.split(), tmp_path, pipe=True)
    assert done.returncode == 0 and done.stderr in ("", "xmnist: no runs below outputs/ yet\n")


SMOKE = ["+experiment=smoke", "dataset.train=200", "dataset.test=100"]


def test_work_goes_on_without_a_reader_and_in_an_encoding_with_few_letters(tmp_path: Path) -> None:
    done = run(["train", *SMOKE, "model=classifier"], tmp_path, pipe=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
    assert len(list(tmp_path.glob("outputs/train/*/classifier/*/metrics.json"))) == 1
    latin = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "MPLBACKEND": "module://not.installed"}
    words = ["evaluate", *SMOKE, "metric=aopc", "explainer=saliency", "select.count=2", "metrics.aopc.steps=2"]
    done = run(words, tmp_path, PYTHONIOENCODING="ascii", **latin)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "aopc" in done.stdout


def test_each_letter_is_written_at_once_where_python_is_told_so() -> None:
    code = "from xmnist.runtime import streams; streams.last(); import os, sys; sys.stdout.write('a'); os._exit(0)"
    for unbuffered, written in (("1", "a"), ("", "")):
        environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, written)


@pytest.mark.parametrize(
    ("cpu", "given", "expected"),
    [
        ("GenuineIntel avx2 avx512f", {}, "AVX512,STRICT"),
        ("GenuineIntel avx2", {}, "AVX2,STRICT"),
        ("AuthenticAMD avx2 avx512f", {}, None),
        ("GenuineIntel avx512f", {"MKL_CBWR": "AUTO"}, "AUTO"),
    ],
)
def test_one_thread_and_two_add_in_the_same_order_and_what_the_user_set_stays(
    monkeypatch: pytest.MonkeyPatch, cpu: str, given: dict[str, str], expected: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {"MALLOC_ARENA_MAX": "1", **given})
    monkeypatch.setattr(machine, "_processor", lambda: cpu)
    machine.prepare()
    assert os.environ.get("MKL_CBWR") == expected and os.environ["THP_MEM_ALLOC_ENABLE"] == "1"


@pytest.mark.parametrize("columns", [100, 60, 12])
def test_the_line_of_progress_names_the_network_at_work_and_keeps_its_end(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setattr(progress, "_width", lambda: columns)
    display = progress.Display()
    display.plan.networks, display.plan.finished = 2, 0
    stack = [
        progress.Activity("ClaDec of layer dense, alpha 0.25", 0, network=True),
        progress.Activity("setting up", 0),
        progress.Activity("classifier", 0, network=True),
        progress.Activity("epoch 3/6", 100, done=50, note="loss 0.1234"),
    ]
    line = display.text(stack)
    assert len(line) < columns
    if columns > 12:
        assert line.startswith("network 1 of 2: classifier: epoch") and line.endswith(" 50%, loss 0.1234")
    display.plan.finished = 1
    assert display.text(stack[:1]).startswith("network 2 of 2: ClaDec"[: columns - 2])
