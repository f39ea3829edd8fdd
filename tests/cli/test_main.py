"""The command line as a user types it, each time in a fresh process."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import TINY, UNREACHABLE, files_of, idx, images, labels

Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]


def test_help_answers_at_once_and_without_torch(xmnist: Xmnist) -> None:
    answer = xmnist("--help")
    assert answer.returncode == 0 and answer.stderr == ""
    for word in ("\n  train ", "\n  export ", "\n  runs ", "model=cladec layer=dense alpha=0.25", "--cfg job", "-m "):
        assert word in answer.stdout
    code = "import sys\nfrom xmnist.cli.main import main\ntry: main()\nfinally: print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True).stdout.split()
    assert not {"torch", "hydra", "omegaconf", "numpy"} & set(modules)


def test_version(xmnist: Xmnist) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", xmnist("--version").stdout)


def test_no_stage_shows_the_usage(xmnist: Xmnist) -> None:
    answer = xmnist()
    assert answer.returncode == 2 and "usage: xmnist STAGE" in answer.stderr


def test_a_stages_help_shows_groups_options_and_defaults(xmnist: Xmnist) -> None:
    answer = xmnist("train", "--help", "dataset=glyphs")
    assert answer.returncode == 0 and answer.stderr == ""
    for line in (
        "dataset: cifar10, cifar100, cluttered_glyphs, cluttered_mnist, emnist, fashion_mnist, folder, glyphs, kmnist, "
        "mnist, polygons",
        "alpha: 0.25",
    ):
        assert line in answer.stdout
    assert re.search(r"^dataset.rotation +a number in \[0, 180\]$", answer.stdout, re.M)
    assert re.search(r"^alpha +a number in \[0, 1\], or a list of different ones$", answer.stdout, re.M)


def test_cfg_prints_the_config_and_writes_nothing(xmnist: Xmnist, tmp_path: Path) -> None:
    answer = xmnist("train", "--cfg", "job", "dataset=mnist", "alpha=0.5", "trainer.decoder.epochs=3")
    assert answer.returncode == 0 and "alpha: 0.5" in answer.stdout and "epochs: 3" in answer.stdout
    assert not list((tmp_path / "work").iterdir())


def test_flags_may_stand_anywhere(xmnist: Xmnist) -> None:
    answer = xmnist("train", "dataset=mnist", "--cfg", "job", "alpha=0.5")
    assert answer.returncode == 0 and "alpha: 0.5" in answer.stdout


MISSING = "it would be trained by: xmnist train dataset=glyphs model=classifier"
RANGE = "alpha must be a number in [0, 1], or a list of different ones with model=cladec, got 7"
WRONG = [
    (["trian"], "no stage 'trian'; did you mean 'train'? (stages: train, explain, evaluate, report, export, runs)"),
    (["train", "modle=cladec"], "no key 'modle'; did you mean 'model'?"),
    (
        ["train", "model=cladc"],
        "no model 'cladc'; did you mean 'cladec'? "
        "(allowed: cladec, cladec_vae, classifier, evaluation, joint, refae, refvae)",
    ),
    (["train", "trainer.epoch=1"], "no key 'trainer.epoch'; did you mean 'trainer.epochs'? (keys: trainer."),
    (["train", "trainer.decoder.epoch=1"], "no key 'trainer.decoder.epoch'; did you mean 'trainer.decoder.epochs'?"),
    (["train", "layer.x=1"], "no key 'layer.x'"),
    (["train", "+foo=3"], "no key 'foo' (keys: "),
    (
        ["train", "+experiment=smok"],
        "no experiment 'smok'; did you mean 'smoke'? (allowed: aopc_table, aopc_table_joint, "
        "cladec_original, cladec_table, heatmaps, joint_search, ladder, montavon, nine_or_four, smoke, sneakers, "
        "xml_cluttered_mnist, xml_polygons, xml_polygons_hybrid, xml_triangles)",
    ),
    (["train", "dataset=glyhps"], "no dataset 'glyhps'; did you mean 'glyphs'?"),
    (["train", "alpha=7"], "alpha must be a number in [0, 1]"),
    (["train", "alpha=abc"], "alpha must be a number in [0, 1]"),
    (["train", "alpha=[0,1"], "cannot read 'alpha=[0,1'"),
    (["train", "out_dir=a (b"], "needs quotes: 'KEY=\"VALUE\"'"),
    (["train", "trainer=null"], "must be a string or a list"),
    (["train", "layer=dens"], "no layer 'dens'; did you mean 'dense'?"),
    (["train", "layer=dens"], "conv, dense, logits)"),
    (["train", "model.decoder=conv64"], "model.decoder=conv64 takes a code of (C, H/4, W/4)"),
    (["train", "device=cuda:99"], "device=cuda:99: there is none here"),
    (["train", "--foo"], "unrecognized arguments: --foo"),
    (["train", "train_missing=false"], MISSING),
    (["train", "alpha=0,0.5"], "write alpha=[0,0.5] for a list, or add -m to run one job for each"),
    (["train", "alpha=1" + "0" * 400], "alpha must be a number in [0, 1]"),
    (["train", "device=cuda:01"], "device must be one of auto, cpu, cuda, cuda:N, mps, got 'cuda:01'"),
    (
        ["train", "model=classifier", "model.decoder=conv64"],
        "model.decoder belongs to model=cladec or model=refae or model=evaluation, not to model=classifier",
    ),
    (["train", "dataset.rotatio=1"], "no key 'dataset.rotatio'; did you mean 'dataset.rotation'?"),
    (["train", "-m", "modle=cladec,refae"], "no key 'modle'; did you mean 'model'?"),
    (["train", "-m", "trainer=defalt,paper"], "no trainer 'defalt'; did you mean 'default'?"),
    (["train", "-m", "alpha=0,0.5,7"], f"{RANGE} (in the job dataset=glyphs alpha=7)"),
]


@pytest.mark.parametrize(("words", "message"), WRONG)
def test_a_wrong_word_costs_one_line_and_writes_nothing(
    xmnist: Xmnist, tmp_path: Path, words: list[str], message: str
) -> None:
    given = [words[0], *(["dataset=glyphs"] if not any("dataset" in w for w in words) else []), *words[1:]]
    answer = xmnist(*given) if words[0] == "train" else xmnist(*words)
    assert answer.returncode == 2, answer
    assert answer.stdout == "" and len(answer.stderr.splitlines()) == 1, answer
    assert answer.stderr.startswith("xmnist: ") and message in answer.stderr
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below"])
def test_an_out_dir_that_cannot_be_written_is_named(xmnist: Xmnist, tmp_path: Path, place: str) -> None:
    (tmp_path / "work" / "file").touch()
    answer = xmnist("train", "dataset=glyphs", f"out_dir={place}")
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1
    assert answer.stderr.startswith(f"xmnist: out_dir={place}: nothing can be written there")
    assert [p.name for p in (tmp_path / "work").iterdir()] == ["file"]


def test_a_named_data_set_is_never_replaced(xmnist: Xmnist, tmp_path: Path) -> None:
    answer = xmnist("train", "dataset=kmnist", f"data_dir={tmp_path / 'nothing'}", http_proxy="http://127.0.0.1:9")
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1
    for word in ("kmnist: ", str(tmp_path / "nothing"), "XMNIST_DATA", "use a built-in data set: ", " glyphs,"):
        assert word in answer.stderr
    assert not list((tmp_path / "work").iterdir()) and not (tmp_path / "nothing").exists()


def test_a_truncated_file_is_named_before_anything_is_written(xmnist: Xmnist, tmp_path: Path) -> None:
    for path, array in zip(files_of("mnist", tmp_path), (images(40), labels(40)) * 2, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx(array)[: -100 if "t10k-images" in path.name else None])
    answer = xmnist("train", "dataset=mnist", XMNIST_DATA=str(tmp_path))
    assert answer.returncode == 2 and "t10k-images-idx3-ubyte is truncated" in answer.stderr
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below"])
def test_a_data_dir_that_cannot_be_made_is_named(xmnist: Xmnist, tmp_path: Path, place: str) -> None:
    (tmp_path / "work" / "file").touch()
    answer = xmnist("train", "dataset=mnist", f"data_dir={place}")
    assert answer.returncode == 2 and answer.stderr.startswith(f"xmnist: mnist: {place}/MNIST/raw/train-images")
    assert len(answer.stderr.splitlines()) == 1 and not list((tmp_path / "work").glob("out*"))


def test_a_mistake_without_data_is_one_line_too(xmnist: Xmnist) -> None:
    answer = xmnist("train", "alpha=7", unreachable=True)
    assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1 and "alpha must be" in answer.stderr


def test_more_images_than_there_are_is_found_before_anything_is_written(xmnist: Xmnist, tmp_path: Path) -> None:
    for path, array in zip(files_of("mnist", tmp_path), (images(40), labels(40)) * 2, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(idx(array))
    answer = xmnist("train", "dataset=mnist", "dataset.train=50", XMNIST_DATA=str(tmp_path))
    assert answer.returncode == 2 and answer.stderr == "xmnist: dataset.train=50: mnist has 40 such images\n"
    assert answer.stdout == "" and not list((tmp_path / "work").iterdir())


def test_without_data_the_default_is_glyphs_and_says_so(xmnist: Xmnist) -> None:
    answer = xmnist("train", "--cfg", "job", "data_dir=nowhere", unreachable=True)
    assert answer.returncode == 0 and "name: glyphs" in answer.stdout
    assert "mnist is neither in nowhere/ nor can it be fetched: using the built-in glyphs" in answer.stderr


def test_with_data_the_default_is_mnist(xmnist: Xmnist, tmp_path: Path) -> None:
    tmp_path /= "a folder (é)"
    for path in files_of("mnist", tmp_path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for words, environment in (
        ([], {"XMNIST_DATA": str(tmp_path)}),
        ([f"data_dir='{tmp_path}'"], {}),
        ([f'++data_dir="{tmp_path}"'], {}),
    ):
        answer = xmnist("train", "--cfg", "job", *words, unreachable=True, **environment)
        assert "name: mnist" in answer.stdout and answer.stderr == "", words


def test_an_experiments_data_set_is_no_reason_to_warn(xmnist: Xmnist) -> None:
    answer = xmnist("train", "+experiment=smoke", "--cfg", "job", unreachable=True)
    assert "name: glyphs" in answer.stdout and answer.stderr == ""


def test_own_configs_join_the_groups(xmnist: Xmnist, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "trainer"
    own.mkdir(parents=True)
    (own / "short.yaml").write_text("defaults: [default, _self_]\nepochs: 1\n")
    answer = xmnist("train", *TINY, "trainer=short", "--config-dir", str(tmp_path / "mine"), "--cfg", "job")
    assert answer.returncode == 0 and "epochs: 1" in answer.stdout


def test_own_top_level_configs_run_the_stage_that_was_typed(xmnist: Xmnist, tmp_path: Path) -> None:
    own = tmp_path / "mine=1"
    own.mkdir()
    (own / "mytrain.yaml").write_text("defaults: [train, _self_]\nlayer: nowhere\n")
    answer = xmnist("train", "--config-dir", str(own), "--config-name", "mytrain", "dataset=glyphs")
    assert answer.returncode == 2 and "no layer 'nowhere'" in answer.stderr


def test_a_suggested_command_says_what_the_users_configs_say(xmnist: Xmnist, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "trainer"
    own.mkdir(parents=True)
    (own / "short.yaml").write_text("defaults: [default, _self_]\nepochs: 1\n")
    flags = ["--config-dir", str(tmp_path / "mine")]
    answer = xmnist("train", "dataset=glyphs", "trainer=short", "train_missing=false", *flags)
    assert answer.returncode == 2
    assert answer.stderr.endswith("by: xmnist train dataset=glyphs model=classifier trainer.epochs=1\n")


def test_a_traceback_for_those_who_ask(xmnist: Xmnist) -> None:
    answer = xmnist("train", "dataset=glyphs", "modle=x", HYDRA_FULL_ERROR="1")
    assert answer.returncode == 1 and "Traceback" in answer.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("xmnist tr", {"train"}),
        ("xmnist ru", {"runs"}),
        ("xmnist explain explainer=deep", {"explainer=deep_shap", "explainer=deep_taylor", "explainer=deeplift"}),
        ("xmnist train model=cla", {"model=cladec", "model=cladec_vae", "model=classifier"}),
    ],
)
def test_completion(line: str, words: set[str]) -> None:
    environment = os.environ | {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    command = [sys.executable, "-c", UNREACHABLE, "-sc", "query=bash"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert set(answer.stdout.split()) == words and answer.stderr == ""


def on_a_terminal(folder: Path, *words: str, code: int = 0, **environment: str) -> tuple[str, float]:
    """What a command shows on a terminal of 100 columns, and the longest time in which nothing came, in seconds."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    command = [sys.executable, "-m", "xmnist", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=theirs, stderr=theirs, env={**os.environ, **environment})
    os.close(theirs)
    shown, longest, last = b"", 0.0, time.monotonic()
    while select.select([ours], [], [], 60)[0]:
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
        try:
            shown += os.read(ours, 10_000)
        except OSError:  # the other end is closed
            break
    assert process.wait(60) == code, shown.decode()
    return shown.decode(), longest


@pytest.mark.slow
def test_no_screen_is_frozen_and_every_stage_ends_with_what_to_type_next(tmp_path: Path) -> None:
    """Nothing is silent for long: the line is painted every half second, but for what holds the interpreter."""
    tiny = ("+experiment=smoke", "dataset.train=200", "dataset.test=100")
    train, silent = on_a_terminal(tmp_path, "train", *tiny, "model=classifier")
    assert silent < 3 and re.search(r"epoch 1/2 \d+%", train) and "loading PyTorch" in train and "testing" in train
    (run,) = tmp_path.glob("outputs/train/glyphs/classifier/*")
    assert f"xmnist explain run={run.name[-8:]} 'explainer=[saliency,gradcam,lrp]'" in train.partition("next:")[2]
    explain, silent = on_a_terminal(tmp_path, "explain", "run=last", "explainer=[saliency,lrp]")
    assert silent < 3 and "explainer 2 of 2: lrp" in explain and "grid.png" in explain and "next:" in explain
    assert "xmnist evaluate run=" in explain
    evaluate, silent = on_a_terminal(
        tmp_path, "evaluate", "run=last", "explainer=lrp", "metric=aopc", "select.count=20"
    )
    assert silent < 3 and "aopc of lrp" in evaluate and "xmnist report open=true" in evaluate
    report, silent = on_a_terminal(tmp_path, "report", "hints=false")
    assert silent < 3 and "reading runs" in report and "next:" not in report


@pytest.mark.slow
def test_libraries_that_are_not_compiled_yet_are_no_silence(tmp_path: Path) -> None:
    """As after an installation: torchvision alone, which reads MNIST, takes seconds then."""
    compiled = {"PYTHONPYCACHEPREFIX": str(tmp_path / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ("dataset=mnist", "model=joint", "model.loss=hybrid")
    shown, silent = on_a_terminal(tmp_path, "train", *words, code=2, **compiled)
    assert silent < 3 and "model.loss=hybrid needs a data set with masks, which mnist has not" in shown
