"""Components of a user's own: each is one file, those of the docs work as they stand, and mistakes are one line."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers import TINY

DOCS = Path(__file__).parents[1] / "docs" / "extending.md"
FILES = {name: code for name, code in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCS.read_text(), re.DOTALL)}
"""The files of docs/extending.md, by their names."""

Xmnist = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, xmnist: Xmnist) -> Path:
    """Where commands are typed, with the files of the docs beside them."""
    for name, code in FILES.items():
        (tmp_path / "work" / name).write_text(code)
    return tmp_path / "work"


def test_each_file_of_the_docs_is_short() -> None:
    assert set(FILES) == {"rise.py", "gini.py", "tiny_net.py", "stripes.py", "denoising.py"}
    assert all(len(code.strip().splitlines()) <= 25 for code in FILES.values())


def test_one_file_each_is_explained_measured_shown_and_told_of(xmnist: Xmnist, folder: Path) -> None:
    plugins = "plugins=[rise.py,gini.py,tiny_net.py,stripes.py]"
    small = ("dataset=stripes", "dataset.train=200", "dataset.test=60", "classifier=tiny_net", "trainer=smoke")
    words = (plugins, *small, "explainer=[rise,lrp]", "explainers.rise.samples=20", "model=classifier")
    explained = xmnist("explain", *words, "select.count=2")
    assert explained.returncode == 0, explained.stderr
    assert "  rise: " in explained.stdout and "training classifier" in explained.stdout
    measured = xmnist("evaluate", *words, "metric=[gini,aopc]", "select.count=10", "metrics.aopc.patch=14")
    assert measured.returncode == 0, measured.stderr
    assert (
        "| RISE" in measured.stdout
        and "- gini: Gini coefficient of the map's size; higher is better" in measured.stdout
    )
    (run,) = folder.glob("outputs/evaluate/stripes/classifier/*")
    summary = pd.read_csv(run / "summary.csv").set_index("name")
    assert summary["gini"].notna().all() and (run / "gini.png").is_file()
    helped = xmnist("explain", "--help", plugins, "explainer=rise")
    assert re.search(r"explainers\.rise\.samples +a whole number", helped.stdout) and "tiny_net" in helped.stdout
    for file in FILES:  # what was made with them is shown without them
        (folder / file).unlink()
    reported = xmnist("report", XMNIST_PLUGINS=str(folder / "rise.py"))
    assert reported.returncode == 0 and "3 runs" in reported.stdout, reported.stderr
    page = (folder / "outputs" / "report" / "index.html").read_text()
    assert "RISE" in page and "Gini coefficient of the map" in page
    listed = xmnist("runs")
    assert listed.stdout.count("done") == 3 and "edited" not in listed.stdout


def test_a_kind_of_model_is_one_file_too(xmnist: Xmnist, folder: Path) -> None:
    words = ("plugins=[denoising.py]", *TINY, "model=denoising", "layer=conv")
    trained = xmnist("train", *words, "alpha=null")
    assert trained.returncode == 0 and "done: outputs/train/glyphs/denoising/layer=conv" in trained.stdout, (
        trained.stderr
    )
    assert "already done" in xmnist("train", *words).stdout
    wrong = xmnist("train", *words, "model.noise=much")
    assert wrong.returncode == 2 and "model.noise must be a number, got 'much'" in wrong.stderr
    assert re.search(r"model\.noise +a number", xmnist("train", "--help", *words).stdout)
    (folder / "denoising.py").unlink()
    listed = xmnist("runs", "model=denoising")
    assert " done " in listed.stdout and "sse" in listed.stdout and "warning" not in listed.stderr
    assert xmnist("report").returncode == 0
    page = (folder / "outputs" / "report" / "index.html").read_text()
    assert "Denoising autoencoder of layer conv: vgg_small on glyphs" in page


def test_an_installed_package_announces_a_module(xmnist: Xmnist, folder: Path) -> None:
    shutil.move(folder / "denoising.py", folder / "denoising_of_mine.py")
    about = folder / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[xmnist]\nmodels = denoising_of_mine\n")
    shown = xmnist("train", *TINY, "model=denoising", "alpha=null", "--cfg", "job", fresh=True, PYTHONPATH=str(folder))
    assert shown.returncode == 0 and "noise: 0.2" in shown.stdout, shown.stderr


def test_an_edited_file_is_another_run_and_the_same_one_is_found(xmnist: Xmnist, folder: Path) -> None:
    words = ("explain", "plugins=rise.py", *TINY, "model=classifier", "explainer=rise", "select.count=1")
    assert xmnist(*words).returncode == 0 and "already done" in xmnist(*words).stdout
    (folder / "rise.py").write_text(FILES["rise.py"] + "# edited\n")
    assert xmnist(*words).returncode == 0
    runs = list(folder.glob("outputs/explain/*/classifier/*"))
    assert len(runs) == 2
    told = [yaml.safe_load((run / "config.yaml").read_text())["explainers"]["rise"]["plugin"] for run in runs]
    assert {each["from"] for each in told} == {"rise.py"} and len({each["digest"] for each in told}) == 2
    assert len(list(folder.glob("outputs/train/*/classifier/*"))) == 1  # which has no part in it


def test_who_works_on_a_run_is_told_which_plug_ins_it_needs(xmnist: Xmnist, folder: Path) -> None:
    words = ("train", "dataset=stripes", "dataset.train=100", "dataset.test=20", "trainer=smoke", "model=classifier")
    assert xmnist(*words, "plugins=stripes.py").returncode == 0
    done = xmnist("explain", "run=last", "explainer=saliency")
    assert done.returncode == 2 and done.stderr.endswith("plugins=[stripes.py]\n") and "run=last" in done.stderr
    assert xmnist("explain", "run=last", "plugins=stripes.py", "explainer=saliency").returncode == 0
    (folder / "stripes.py").write_text(FILES["stripes.py"] + "# edited\n")
    assert xmnist("explain", "run=last", "plugins=stripes.py", "explainer=saliency").returncode == 2


def test_a_module_and_the_environment_will_do(xmnist: Xmnist, folder: Path) -> None:
    shutil.move(folder / "rise.py", folder / "rise_of_mine.py")
    words = ("explain", *TINY, "model=classifier", "explainer=rise", "select.count=1", "--cfg", "job")
    for environment in ({"PYTHONPATH": str(folder)}, {"XMNIST_PLUGINS": str(folder / "rise_of_mine.py")}):
        plugins = ["plugins=rise_of_mine"] if "PYTHONPATH" in environment else []
        done = xmnist(words[0], *plugins, *words[1:], fresh=True, **environment)
        assert done.returncode == 0 and "samples: 200" in done.stdout, done.stderr


def test_declaring_needs_no_torch() -> None:
    code = (
        "import sys, xmnist\n"
        "assert xmnist.Heatmap and xmnist.explainer and xmnist.metric and xmnist.classifier and xmnist.dataset\n"
        "assert xmnist.Column('a') and xmnist.whole(1) and xmnist.number() and xmnist.choice('a')\n"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0


HEAD = "import torch, xmnist\n"
WRONG = {
    "missing": (None, "plugins=wrong.py: there is no such file"),
    "syntax": ("def f(:\n", "plugins={file} cannot be imported: SyntaxError: invalid syntax ({file}, line 1)"),
    "raises": (
        "\n1 / 0\n",
        "plugins={file} cannot be imported: ZeroDivisionError: division by zero ({file}, line 2)",
    ),
    "nothing": ("x = 1\n", "plugins={file} declares nothing: it needs @xmnist.explainer"),
    "taken": (
        HEAD + "@xmnist.explainer('lrp')\nclass A(xmnist.Heatmap):\n    pass\n",
        "plugins={file}: explainer 'lrp' is there already, declared in xmnist.explainers.lrp",
    ),
    "closed": (
        "from xmnist.training.schedules.base import schedule\n@schedule('mine')\nclass A:\n    pass\n",
        "plugins={file}: schedule 'mine': a plug-in cannot declare one",
    ),
    "another's objective": (
        "import xmnist\nfrom xmnist.models.kinds.cladec import RefAE\n"
        "@xmnist.objective(RefAE)\ndef mine(model, context):\n    pass\n",
        "plugins={file}: objective of RefAE: it must be declared by @xmnist.model in the same file",
    ),
    "an explained kind": (
        "import xmnist\nfrom xmnist.models.kinds.classifier import Classifier\n"
        "@xmnist.model('mine', explained=True)\nclass A(Classifier):\n    pass\n",
        "plugins={file}: model 'mine': a plug-in's kind of model decodes a layer of a classifier in one phase",
    ),
    "no default": (
        HEAD + "@xmnist.explainer('mine')\nclass A(xmnist.Heatmap):\n    samples: int\n",
        "plugins={file}: explainer 'mine': key 'samples' needs a default",
    ),
    "no type": (
        HEAD + "@xmnist.metric('mine', columns=['a'])\ndef mine(maps, *, samples=3):\n    return {}\n",
        "plugins={file}: ",
    ),
    "unknown parameter": (
        HEAD + "@xmnist.metric('mine', columns=['a'])\ndef mine(mapps):\n    return {}\n",
        "plugins={file}: metric 'mine': 'mapps' is nothing that a metric is given",
    ),
    "no word": (
        HEAD + "@xmnist.explainer('my-own')\nclass A(xmnist.Heatmap):\n    pass\n",
        "plugins={file}: explainer 'my-own' must be a word",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_plug_in_that_cannot_be_used_is_told_in_one_line(xmnist: Xmnist, tmp_path: Path, name: str) -> None:
    code, message = WRONG[name]
    file = tmp_path / "work" / "wrong.py"
    if code is not None:
        file.write_text(code)
    else:
        message = message.replace("wrong.py", str(file))
    done = xmnist("explain", "plugins=wrong.py", "dataset=glyphs", "explainer=lrp")
    assert done.returncode == 2 and done.stderr.startswith("xmnist: " + message.format(file=file)), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "work" / "outputs").exists()


def test_there_is_no_such_module(xmnist: Xmnist) -> None:
    done = xmnist("train", "plugins=[no.such.module]", "dataset=glyphs")
    assert done.returncode == 2 and done.stderr.startswith("xmnist: plugins=no.such.module: there is no such module")


def test_wrong_answers_are_told_in_one_line(xmnist: Xmnist, folder: Path) -> None:
    (folder / "wrong.py").write_text(
        HEAD
        + "@xmnist.explainer('flat')\nclass Flat(xmnist.Heatmap):\n"
        + "    def attribute(self, network, images, targets):\n        return images.flatten(1)\n"
        + "@xmnist.metric('wide', columns=['a'])\ndef wide(maps):\n    return {'a': maps}\n"
        + "@xmnist.metric('other', columns=['a'])\ndef other(maps):\n    return {'b': maps.sum((1, 2, 3))}\n"
    )
    words = ("plugins=wrong.py", *TINY, "model=classifier", "select.count=2")
    done = xmnist("explain", *words, "explainer=flat")
    told = "explainer flat: it answers with the shape (20, 784), where heatmaps are (20, 1, 28, 28)"
    assert done.returncode != 0 and told in done.stderr, done.stderr
    done = xmnist("evaluate", *words, "explainer=saliency", "metric=[wide,other]", "controls=false")
    assert done.returncode == 1, done.stderr
    assert "metric wide: 'a' has the shape (2, 1, 28, 28), where it is one value a map" in done.stdout
    assert "metric other answers with 'b', which is none of its columns: a" in done.stdout
