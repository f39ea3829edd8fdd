"""Stage `report`: which runs a page is of, and what stands in it; tests/test_page.py looks at it in a browser."""

import base64
import csv
import hashlib
import json
import logging
import re
import shlex
import subprocess
import webbrowser
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.report import explained
from helpers import TINY, composed
from xmnist.config import derived, resolution
from xmnist.config.settings import Only
from xmnist.reporting import across_seeds, cards, collected, curves, gallery, overview, standings
from xmnist.runs import claims, index, store
from xmnist.runs.index import Found
from xmnist.runs.store import Run
from xmnist.runtime import reading
from xmnist.runtime.errors import InputError
from xmnist.stages import evaluate, explain, report, train

Settings = Callable[..., resolution.Settings]
Xmnist = Callable[..., "subprocess.CompletedProcess[str]"]
HOSTILE = "<script>alert('&\"')</script>"


class Parsed(HTMLParser):
    """What a browser makes of a page: its elements, and their texts."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def data(self) -> Any:
        """What the page's script reads."""
        (text,) = (text for tag, text in self.texts if tag == "script" and text.startswith('{"networks"'))
        return json.loads(text)

    def said(self) -> str:
        """All that is to be read."""
        return " ".join(text for tag, text in self.texts if tag not in ("script", "style"))


@cache
def resolved(stage: str, words: tuple[str, ...]) -> resolution.Settings:
    own = [] if any(word.startswith("dataset=") for word in words) else ["dataset=glyphs"]
    return resolution.resolve(composed(*own, *words, stage=stage), stage)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """`made("evaluate", "seed=1", summary=[{...}])`: the folder of a finished run with these tables and figures."""

    def make(stage: str, *words: str, figures: Any = None, command: str = "xmnist", **tables: Any) -> Path:
        run = Run(stage, replace(resolved(stage, words), out_dir=str(tmp_path / "out")))
        with claims.claim(run, command):
            run.write_json("metrics.json", figures or {"accuracy": 0.5, "loss": 1.0})
            for name, rows in tables.items():
                run.write_csv(f"{name}.csv", rows)
        return run.path

    return make


Made = Callable[..., Path]


@pytest.fixture
def drawn(tmp_path: Path) -> Callable[..., Path]:
    """`drawn("alpha=0.5", images=..., indices=..., lrp=...)`: the folder of a finished run of `explain`."""

    def make(*words: str, indices: Sequence[int] = (3, 5, 8), classes: Sequence[str] = "abc", **arrays: Any) -> Path:
        names = list(dict.fromkeys(name.split(",")[0] for name in arrays))
        own = replace(resolved("explain", (f"explainer=[{','.join(names)}]", *words)), out_dir=str(tmp_path / "out"))
        size = next(iter(arrays.values())).shape[-1]
        return explained(own, arrays, pictures(len(indices), size, 99), classes, indices)

    return make


def pictures(count: int, size: int = 4, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random((count, 1, size, size), np.float32)


def unlabelled(out: Path, *words: str, files: Sequence[str | None], images: Any, **arrays: Any) -> Path:
    """The folder of a finished run of `explain` on images of one's own, which have no class."""
    names = out.parent / "mine"
    names.mkdir(exist_ok=True)
    for place, image in enumerate(images):
        Image.fromarray((255 * image[0]).astype(np.uint8)).save(names / f"{place}.png")
    own = resolved("explain", (f"explainer=[{','.join(arrays)}]", f"image.path={names}", *words))
    own = replace(own, out_dir=str(out))
    run, count = Run("explain", own), len(images)
    about = [
        {"index": place, **({"file": file} if file else {}), "label": "", "class": "", "prediction": 0,
         "predicted_class": "a", "probability": 0.75}
        for place, file in enumerate(files)
    ]  # fmt: skip
    with claims.claim(run, "xmnist explain"):
        run.write_csv("selection.csv", about)
        with store.atomic(run.path / "explanations.npz") as file:
            np.savez(file, images=images, predictions=np.zeros(count, int), indices=np.arange(count), **arrays)
    return run.path


def below(folder: Path) -> list[Found]:
    return index.below(folder / "out")


def paged(tmp_path: Path, *words: str) -> tuple[Path, Any]:
    """The page of these words, and what its script reads."""
    own = resolution.resolve(composed(f"out_dir={tmp_path / 'out'}", *words, stage="report"), "report")
    report.check(own)
    report.main(own, "xmnist report")
    path = Run("report", own).path / "index.html"
    return path, Parsed(path).data()


@pytest.mark.usefixtures("undrawn")
def test_what_the_stages_write_is_on_the_page(settings: Settings, tmp_path: Path) -> None:
    train.main(settings(*TINY, "model=classifier"))
    for stage, module, words in (
        ("explain", explain, ["explainer=[saliency,refae,cladec]", "alpha=[0,0.5]", "select=per_class"]),
        ("evaluate", evaluate, ["explainer=[lrp]", "metric=[classification,aopc,pompom]", "select.count=4"]),
    ):
        own = settings(*TINY, *words, stage=stage)
        module.check(own)
        module.main(own, f"xmnist {stage} out_dir=/home/somebody dataset=glyphs")
    path, data = paged(tmp_path)
    page = Parsed(path)
    (network,) = data["networks"]
    assert network["label"] == "vgg_small on glyphs, seed 0" and len(network["images"]) == 10
    assert [(row["title"], row["layer"], row["alpha"]) for row in network["rows"]] == [
        *(("saliency", None, None), ("RefAE", "dense", None), ("ClaDec", "dense", 0.0), ("ClaDec", "dense", 0.5))
    ]
    assert all(len(row["tile"]) == 10 for row in network["rows"])
    assert all(name in map(str, range(10)) for name in network["rows"][2]["seen"])
    kinds = [chart["kind"] for chart in data["charts"]]
    assert kinds.count("Training") == 4 and kinds.count("AOPC") == 3 and kinds.count("ROC and PR") == 1
    said = page.said()
    assert "190 train, 10 validation, 100 test" in said and "most frequent mistake" in said
    assert "xmnist explain dataset=glyphs" in said and "/home/somebody" not in path.read_text()
    assert str(tmp_path) not in path.read_text()
    summary = next((tmp_path / "out" / "evaluate").rglob("summary.csv"))
    lrp = next(row for row in csv.DictReader(summary.open()) if row["name"] == "lrp")
    shown = [attributes["data-v"] for tag, attributes in page.elements if tag == "td" and "data-v" in attributes]
    assert str(float(lrp["aopc"])) in shown and str(float(lrp["pompom"])) in shown


def test_the_command_as_a_user_types_it(xmnist: Xmnist, tmp_path: Path, drawn: Made, made: Made) -> None:
    drawn("select=sample", lrp=pictures(3))
    folder = made("train", "model=classifier", command="xmnist train +experiment=smoke model=classifier")
    out = tmp_path / "out"
    first = xmnist("report", f"out_dir={out}", fresh=True)
    assert first.returncode == 0 and first.stderr == "", first.stderr
    assert f"{out}/report/index.html: 2 runs, 0.1 MB" in first.stdout
    assert {path.name for path in (out / "report").iterdir()} == {
        *("index.html", "config.yaml", "status.json", "environment.json", "report.log", ".hydra", ".lock")
    }
    page = (out / "report" / "index.html").read_bytes()
    made("train", "model=refae")
    again = xmnist("report", f"out_dir={out}")  # is of what there is now
    assert again.returncode == 0 and "index.html: 3 runs" in again.stdout
    assert (out / "report" / "index.html").read_bytes() != page
    one = xmnist("report", f"out_dir={out}", f"run={folder}")
    assert one.returncode == 0 and f"{out}/report/run={folder.name}/index.html: 1 run," in one.stdout
    both = xmnist("report", "-m", f"out_dir={out}", "model=refae,classifier")
    assert both.returncode == 0 and "report/model=refae/index.html: 1 run," in both.stdout
    smoke = xmnist("report", f"out_dir={out}", "+experiment=smoke")
    assert smoke.returncode == 0 and "report/experiment=smoke/index.html: 1 run," in smoke.stdout
    page = (out / "report" / "index.html").read_bytes()
    for words, message in (
        (["dataset=mnist"], "no finished run fits dataset=mnist (there: dataset=glyphs)"),
        (["experiment=montavon"], "no finished run fits experiment=montavon (there: experiment=smoke)"),
        (["dataset=mnits"], "no only.dataset 'mnits'; did you mean 'mnist'?"),
        ([f"run={out}"], f"no run '{out}' (newest below {out}/: "),
        ([f"run={out / 'report'}"], f"run={out}/report is a report: {out}/report/index.html"),
        ([f"run={folder}", "model=refae"], "is one run, which needs no filter: leave model out"),
        (["images=0"], "images must be a whole number of at least 1, at most a billion, got 0"),
        (["layer=dense"], "no key 'layer' (keys: only, run, images, megabytes, open, out_dir, fail_fast, hints)"),
    ):
        wrong = xmnist("report", f"out_dir={out}", *words)
        assert wrong.returncode == 2 and wrong.stdout == "", wrong
        assert len(wrong.stderr.splitlines()) == 1 and message in wrong.stderr
    nothing = xmnist("report")
    assert nothing.returncode == 2 and nothing.stderr == "xmnist: no finished runs below outputs/ yet\n"
    assert not (tmp_path / "work" / "outputs").exists()
    assert (out / "report" / "index.html").read_bytes() == page


def test_the_page_opens_in_a_browser_if_asked(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made("train", "model=classifier")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or len(opened) == 1)
    path, _ = paged(tmp_path)
    assert not opened
    paged(tmp_path, "open=true")
    assert opened == [path.as_uri()] and "no browser" not in caplog.text
    paged(tmp_path, "open=true")
    assert f"no browser could be started: open {path}" in caplog.text


def test_runs_that_are_not_sound_are_left_out_and_told_of(
    made: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    kept = made("train", "model=classifier")
    damaged, edited = made("train", "model=refae"), made("train", "seed=1", "model=classifier")
    with (
        pytest.raises(RuntimeError),
        claims.claim(Run("train", replace(resolved("train", ()), out_dir=str(tmp_path / "out"))), "x"),
    ):
        raise RuntimeError("it failed")
    (damaged / "metrics.json").write_text("{}")
    (edited / "config.yaml").write_text((edited / "config.yaml").read_text().replace("seed: 1", "seed: 2"))
    own = resolution.resolve(composed(f"out_dir={tmp_path / 'out'}", stage="report"), "report")
    assert [run.path for run in collected.chosen(own, log_left_out=True)] == [kept]
    assert f"{damaged} is left out: metrics.json is not the file that this run wrote" in caplog.text
    assert f"{edited} is left out: config.yaml was edited" in caplog.text
    assert "1 of 4 runs are not finished, or stale, and left out" in caplog.text
    with pytest.raises(InputError, match="cannot be shown: .*metrics.json is not the file that this run wrote"):
        collected.chosen(replace(own, run=str(damaged)))


def test_one_run_comes_with_what_it_stands_on(made: Made, drawn: Made, tmp_path: Path) -> None:
    stands = [made("train", *words) for words in (("model=classifier",), ("model=refae",), ("alpha=0.5",))]
    for others in (("seed=1", "model=classifier"), ("alpha=0.75",)):
        made("train", *others)
    run = drawn("alpha=0.5", lrp=pictures(3), refae=pictures(3), cladec=pictures(3))
    own = resolution.resolve(composed(f"out_dir={tmp_path / 'out'}", stage="report"), "report")
    own = replace(own, run=str(run))
    *others, last = [each.path for each in collected.chosen(own)]
    assert sorted(others) == sorted(stands) and last == run
    made("evaluate", "metric=aopc", "seed=1", "explainer=lrp", command="xmnist evaluate +experiment=aopc_table")
    only = Only(dataset=None, model=None, experiment="aopc_table")
    chosen = collected.chosen(replace(own, run=None, only=only))
    assert sorted((each.stage, each.own.seed) for each in chosen) == [("evaluate", 1), ("train", 1)]


def unpacked(tiles: gallery.Tiles) -> list[Any]:
    """The pictures (H, W, C) as the page's script reads them."""
    out = []
    for chunk in tiles.chunks:
        assert chunk["start"] == len(out)
        flat = np.frombuffer(zlib.decompress(base64.b64decode(chunk["data"])), np.uint8)
        out += list(flat.reshape(chunk["count"], chunk["height"], chunk["width"], chunk["channels"]))
    return out


def test_tiles_hold_what_was_put_in_and_each_picture_once() -> None:
    tiles, images = gallery.Tiles(None), pictures(3, 6)
    colours = np.random.default_rng(1).random((2, 3, 6, 6), np.float32)
    maps = np.random.default_rng(2).standard_normal((3, 1, 6, 6)).astype(np.float32)
    maps[2] = 0
    numbers, scales = tiles.add(images, "image")
    assert numbers == [0, 1, 2] and scales is None
    assert tiles.add(images[[2, 0]], "image")[0] == [2, 0] and tiles.count == 3
    first, _ = tiles.add(colours, "image")
    places, scales = tiles.add(maps, "heatmap")
    assert scales == pytest.approx([np.abs(each).max() for each in maps], rel=1e-3)
    index = unpacked(tiles)
    assert len(index) == tiles.count == 8
    np.testing.assert_allclose(index[1][..., 0] / 255, images[1, 0], atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(index[first[1]] / 255, colours[1].transpose(1, 2, 0), atol=0.5 / 255 + 1e-6)
    for place, scale, own in zip(places, scales or [], maps, strict=True):
        np.testing.assert_allclose((index[place][..., 0] - 128.0) / 127 * scale, own[0], atol=0.5 / 127 * scale + 1e-3)


def test_pictures_are_made_smaller_by_means() -> None:
    tiles = gallery.Tiles(3)
    large = np.kron(pictures(2, 3), np.ones((1, 1, 4, 4), np.float32))
    tiles.add(large, "image")
    tiles.add(np.zeros((1, 1, 6, 12), np.float32), "image")
    shapes = [each.shape for each in unpacked(tiles)]
    assert shapes == [(3, 3, 1), (3, 3, 1), (2, 3, 1)]
    np.testing.assert_allclose(unpacked(tiles)[0][..., 0] / 255, pictures(2, 3)[0, 0], atol=0.5 / 255 + 1e-6)


def test_runs_of_one_network_are_one_gallery(drawn: Made, tmp_path: Path) -> None:
    drawn("select=per_class", lrp=pictures(3), cladec=pictures(3, seed=1))
    drawn("select=sample", "alpha=0.5", "layer=conv", indices=(5, 9), lrp=pictures(2), cladec=pictures(2, seed=2))
    drawn("select=sample", "seed=1", lrp=pictures(3))
    drawn("select=mixed", "explainers.lrp.gamma=0.5", indices=(3,), lrp=pictures(1, seed=3))
    tiles = gallery.Tiles(None)
    first, second = gallery.described(gallery.networks(below(tmp_path), 40, tiles))
    assert [first["label"], second["label"]] == [f"vgg_small on glyphs, seed {seed}" for seed in (0, 1)]
    assert [image["index"] for image in first["images"]] == [3, 5, 8, 9]
    assert [image["predicted"] for image in first["images"]] == ["a", "b", "a", "b"]
    named = {(row["title"], row["layer"], row["alpha"]): row for row in first["rows"]}
    assert list(named)[2:] == [("ClaDec", "dense", 0.25), ("ClaDec", "conv", 0.5)]
    usual, other = (row for row in first["rows"] if row["name"] == "lrp")
    assert usual["title"] == "LRP (gamma=0.25)" and other["title"] == "LRP (gamma=0.5)"
    assert None not in usual["tile"] and [tile is None for tile in other["tile"]] == [False, True, True, True]
    dense, conv = named["ClaDec", "dense", 0.25], named["ClaDec", "conv", 0.5]
    assert [tile is None for tile in dense["tile"]] == [False, False, False, True]
    assert [tile is None for tile in conv["tile"]] == [True, False, True, False]
    assert conv["seen"] == [None, "a", None, "b"] and "scale" not in conv and "seen" not in usual
    assert second["images"][0]["tile"] == first["images"][0]["tile"]  # embedded once


def test_alphas_and_targets_have_rows_of_their_own(drawn: Made, tmp_path: Path) -> None:
    each = {f"cladec,alpha={alpha}": pictures(3, seed=place) for place, alpha in enumerate(("0", "0.5"))}
    both = {f"lrp,target={target}": pictures(3, seed=9) for target in ("predicted", "label")}
    drawn("alpha=[0.5,0]", "target=[predicted,label]", **both, **each)
    (network,) = gallery.described(gallery.networks(below(tmp_path), 40, gallery.Tiles(None)))
    assert [(row["title"], row["alpha"]) for row in network["rows"]] == [
        *(("LRP (target=predicted)", None), ("LRP (target=label)", None), ("ClaDec", 0.0), ("ClaDec", 0.5))
    ]


def test_a_gallery_has_at_most_so_many_images(drawn: Made, tmp_path: Path) -> None:
    drawn("select=per_class", indices=(1, 2, 3), lrp=pictures(3))
    drawn("select=sample", indices=(3, 4, 5), lrp=pictures(3))
    (network,) = gallery.networks(below(tmp_path), 4, gallery.Tiles(None))
    assert list(network.images) == [1, 2, 3, 4] and network.hidden == {5}
    _, data = paged(tmp_path, "images=2")
    assert len(data["networks"][0]["images"]) == 2 and data["networks"][0]["hidden"] == 3


def test_a_page_is_not_larger_than_asked(drawn: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    drawn(indices=range(30), lrp=pictures(30, 64), saliency=pictures(30, 64, 1))
    whole, data = paged(tmp_path)
    assert whole.stat().st_size > 300_000 and "MB\n" in caplog.text
    small, data = paged(tmp_path, "megabytes=0.26")
    assert small.stat().st_size < 260_000 and len(data["networks"][0]["images"]) == 30
    assert "pictures are at most 32 pixels high and wide (megabytes=0.26)" in caplog.text
    assert "Pictures are at most 32 pixels" in Parsed(small).said()
    smaller, data = paged(tmp_path, "megabytes=0.12")
    assert smaller.stat().st_size < 120_000 and len(data["networks"][0]["images"]) < 30
    assert "are shown" in Parsed(smaller).said()
    caplog.clear()
    paged(tmp_path, "megabytes=0.01")
    assert "what cannot be made smaller is larger than megabytes=0.01" in caplog.text


def observed(names: Sequence[str], count: int = 60, spread: float = 1.0, seed: int = 0, **shift: float) -> list[Any]:
    """Rows of `aopc.csv`: each explainer has noise around its shift."""
    draw = np.random.default_rng(seed)
    return [
        {**{"explainer": name, "patch": 4, "fill": "black", "image": image}, "aopc_lerf": 0.0, "abpc": 0.0,
         "aopc": shift.get(name, 0.0) + spread * draw.standard_normal()}
        for name in names for image in range(count)
    ]  # fmt: skip


def summed(rows: Sequence[Mapping[str, Any]], p: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows of `summary.csv` of such observations."""
    names = list(dict.fromkeys(row["explainer"] for row in rows))
    means = {name: float(np.mean([row["aopc"] for row in rows if row["explainer"] == name])) for name in names}
    return [
        {"kind": "explainer", "name": name, "aopc": mean, "aopc_low": mean - 1, "aopc_high": mean + 1,
         "aopc_p": p.get(name, 0.01)} for name, mean in means.items()
    ]  # fmt: skip


def stars(table: standings.Table) -> list[tuple[str, str]]:
    return [(name, table.columns[place]) for name, cells in table.rows for place, cell in enumerate(cells) if cell.best]


def test_the_best_is_marked_only_where_it_is_no_chance(made: Made, tmp_path: Path) -> None:
    names = ["random", "saliency", "lrp"]
    for seed, shift in (
        (0, {"lrp": 1.0, "saliency": -1.0}),
        (1, {"lrp": 0.05, "saliency": -1.0}),
        (2, {"lrp": 1, "saliency": 1}),
    ):
        rows = observed(names, seed=seed, **shift)
        made("evaluate", "metric=aopc", f"seed={seed}", aopc=rows, summary=summed(rows, {"saliency": 0.4}))
    clear, close, tied = standings.standings(below(tmp_path))
    assert stars(clear) == [("lrp", "aopc")] and clear.marked
    assert clear.title == "Explainers: vgg_small on glyphs, seed 0" and clear.compared
    assert stars(close) == [] and not close.marked  # lrp is best, but not told apart from random
    assert stars(tied) == []
    cells = dict(clear.rows)
    assert cells["saliency"][0].same and not cells["lrp"][0].same
    assert cells["lrp"][0].low == pytest.approx(cells["lrp"][0].value - 1)


def test_decoders_compete_within_a_layer_and_not_with_the_classifier(made: Made, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)

    def measured(words: str, **errors: float) -> None:
        rows, summary = [], []
        for name, error in errors.items():
            values = error + 0.1 * draw.random(40) * (error > 0)
            both = [{"reconstruction_sse": value, "total_loss": value} for value in [*values, values.mean()]]
            rows += [{"model": name, "image": place, **each} for place, each in enumerate(both[:-1])]
            summary.append({"kind": "model", "name": name, **both[-1]})
        made("evaluate", "metric=reconstruction", words, reconstruction=rows, summary=summary)

    layers = {"refae,layer=conv": 1.0, "cladec,layer=conv": 2.0, "refae,layer=dense": 3.0, "cladec,layer=dense": 4.0}
    measured("layer=[conv,dense]", classifier=0.0, **layers)
    measured("layer=dense", classifier=0.0, refae=1.0, cladec=2.0)
    one, several = sorted(standings.standings(below(tmp_path)), key=lambda table: len(table.rows))
    assert one.columns == several.columns == ["reconstruction_sse", "total_loss"]
    assert stars(several) == [("refae,layer=conv", "reconstruction_sse"), ("refae,layer=dense", "reconstruction_sse")]
    assert stars(one) == [("refae", "reconstruction_sse")]


def test_a_patch_and_fill_has_a_column_and_a_failure_its_reason(made: Made, tmp_path: Path) -> None:
    rows = observed(["random", "lrp"], lrp=2.0)
    table = [
        {"patch": 4, "fill": "black", "explainer": name, "aopc": value, "aopc_low": 0, "aopc_high": 3, "aopc_p": ""}
        for name, value in (("random", 0.0), ("lrp", 2.0))
    ]
    failed = {"kind": "explainer", "name": "cam", "aopc": "failed: <b>no</b>"}
    summary = [*summed(rows, {}), failed]
    made("evaluate", "metric=aopc", aopc=rows, summary=summary, aopc_table=table)
    first, second = standings.standings(below(tmp_path))
    assert dict(first.rows)["cam"][0].failed == "failed: <b>no</b>" and stars(first) == [("lrp", "aopc")]
    assert second.columns == ["4x4 black"] and stars(second) == [("lrp", "4x4 black")]
    path, _ = paged(tmp_path)
    assert ("td", "failed: <b>no</b>") in Parsed(path).texts


def test_a_better_mean_alone_is_not_better(made: Made, tmp_path: Path) -> None:
    rows = observed(["random", "lrp"], spread=0.01, lrp=-0.1)
    for row in rows[-6:]:
        row["aopc"] = 9.0  # six images lift the mean; on all others, lrp is worse
    made("evaluate", "metric=aopc", aopc=rows, summary=summed(rows, {}))
    (table,) = standings.standings(below(tmp_path))
    values = {name: cells[0].value for name, cells in table.rows}
    assert values["lrp"] > values["random"] and stars(table) == []


def test_what_was_measured_over_seeds_has_a_table(made: Made, tmp_path: Path) -> None:
    rows = observed(["random", "lrp"])
    for words, value in (("seed=1", 0.5), ("metrics.aopc.steps=3", 0.75)):
        run = made("evaluate", "metric=aopc", "explainer=lrp", words, aopc=rows, summary=summed(rows, {}))
        place = across_seeds.place(run, resolved("evaluate", ("metric=aopc", "explainer=lrp", words)))
        assert place.name.startswith("metric=aopc,explainer=random+sobel+otsu+lrp,") and ",seeds-" in place.name
        place.mkdir()
        (place / "summary.csv").write_text(f"kind,name,seeds,aopc,aopc_sd\nexplainer,lrp,0+1+10,{value},0.25\n")
    (table,) = standings.over_seeds([run for run in below(tmp_path) if run.own.seed == 1])
    assert table.title == "Explainers: vgg_small on glyphs, over seeds 0, 1, 10"
    assert [(cell.value, cell.spread) for _, (cell,) in table.rows] == [(0.5, 0.25)]  # not that of other settings
    path, _ = paged(tmp_path)
    assert "± 0.250" in Parsed(path).said()


def test_lines_have_few_points_and_no_nan(made: Made, tmp_path: Path) -> None:
    history = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": "nan" if e == 2 else 2 / e, "phase": 1 + (e > 3)}
        for e in range(1, 6)
    ]
    made("train", "model=joint", history=history)
    steps = [
        {"explainer": name, "patch": 1, "fill": "gaussian_blur", "order": order, "step": step,
         "f": 1 / (1 + step), "aopc": step}
        for name in ("random", "lrp") for order in ("morf", "lerf") for step in range(785)
    ]  # fmt: skip
    made("evaluate", "metric=aopc", aopc_curves=steps)
    aopc, morf, lerf, training = sorted(curves.charts(below(tmp_path)), key=lambda chart: str(chart["kind"]))
    (panel,) = training["panels"]
    assert [line["name"] for line in panel["lines"]] == ["training", "validation"] and panel["marks"] == [3.5]
    assert panel["lines"][1]["y"] == [2, None, 0.66667, 0.5, 0.4]
    (panel,) = aopc["panels"]
    assert panel["title"] == "1x1 patches, gaussian blur" and [line.get("quiet") for line in panel["lines"]] == [
        True,
        None,
    ]
    assert all(
        len(line["x"]) == curves.POINTS and line["x"][-1] == 784 and line["y"][-1] == 784 for line in panel["lines"]
    )
    assert morf["panels"][0]["lines"][0]["y"][0] == 1 and lerf["id"] != morf["id"]


CONFUSION = [{"true": HOSTILE, HOSTILE: 7, "b": 3}, {"true": "b", HOSTILE: 0, "b": 90}]
BY_CLASS = [
    {"class": name, "precision": 0.9, "recall": recall, "f1": 0.8, "support": 10, "auc": 0.99, "ap": 0.9}
    for name, recall in ((HOSTILE, 0.7), ("b", 1.0), ("macro", 0.85))
]


def test_a_card_says_what_is_known_and_what_is_not(made: Made, tmp_path: Path) -> None:
    run = made("train", "model=classifier", "dataset.train=900", figures={"accuracy": 0.97, "loss": 0.1, "epochs": 6})
    (bare,) = cards.cards(below(tmp_path))
    words = shlex.split(bare.missing)
    assert words[:2] == ["xmnist", "evaluate"] and "metric=classification" in words
    own = resolution.resolve(composed(*words[2:], stage="evaluate"), "evaluate")
    assert store.run_id("train", derived.needed(own)[0]) == run.name  # it measures this very network
    made("train", "model=classifier", "dataset.train=900", "seed=1")
    made("evaluate", "metric=classification", "dataset.train=900", confusion=CONFUSION, classification=BY_CLASS)
    card, other = cards.cards(below(tmp_path))
    assert card.facts["On the test set"] == {"accuracy": "0.9700", "loss": "0.1000", "F1, mean over classes": "0.8000"}
    assert card.names == [HOSTILE, "b"] and card.confusion == [[7, 3], [0, 90]] and not card.missing and other.missing
    assert f"Its most frequent mistake: {HOSTILE} → b (true → predicted), 3 of 10 times." in card.limits
    assert f"It is worst at class {HOSTILE}, of whose images it recognises 70.0 %." in card.limits
    one = "Of its trainings, this page has one: intervals are over test images, not over seeds."
    assert one in bare.limits and one not in card.limits
    assert [[card.shade(i, j) for j in range(2)] for i in range(2)] == [[7, 3], [0, 9]]


def test_classes_may_be_called_anything(made: Made, tmp_path: Path) -> None:
    names = ["NA", "micro", "a,b"]
    points = [
        {"curve": "roc", "class": name, "mean": mean, "area": 0.5 + place / 10, "x": x, "y": x}
        for place, (name, mean) in enumerate([*((name, False) for name in names), ("micro", True)]) for x in (0, 1)
    ]  # fmt: skip
    confusion = [{"true": name, **dict.fromkeys(names, 1)} for name in names]
    by_class = [{**BY_CLASS[0], "class": name, "recall": 0.3 * place} for place, name in enumerate([*names, "micro"])]
    made("train", "model=classifier")
    made(
        "evaluate", "metric=classification", confusion=confusion, classification=by_class, classification_curves=points
    )
    (chart,) = curves.charts(below(tmp_path))
    assert [line["name"] for line in chart["panels"][0]["lines"]] == [*names, "all (micro)"]
    assert [line["area"] for line in chart["panels"][0]["lines"]] == [0.5, 0.6, 0.7, 0.8]
    (card,) = cards.cards(below(tmp_path))
    assert [row["class"] for row in card.classes] == [*names, "all (micro)"] and card.names == names
    assert "It is worst at class NA, of whose images it recognises 0.0 %." in card.limits
    assert "Among its most frequent mistakes: NA → micro (true → predicted), 1 of 3 times." in card.limits


def test_what_is_alike_is_told_apart(made: Made, tmp_path: Path) -> None:
    history = [{"epoch": 1, "train_loss": 1, "val_loss": 1}]
    made("train", "model=classifier", "trainer.epochs=3", history=history)
    made("train", "model=classifier", "trainer.epochs=4", history=history)
    first, second = curves.charts(below(tmp_path))
    assert first["label"].endswith(f"(trainer.epochs=3, {first['run']})")
    assert second["label"].endswith(f"(trainer.epochs=4, {second['run']})")


def test_a_page_does_not_tell_where_it_was_made(made: Made, tmp_path: Path) -> None:
    made(
        *("train", "dataset=folder", "dataset.path=/home/anna/horses", "model=classifier", "data_dir=/home/anna/data"),
        command="xmnist train dataset=folder dataset.path=/home/anna/horses ++out_dir=/anna/o --config-dir /anna/c",
    )
    path, _ = paged(tmp_path)
    text, said = path.read_text(), Parsed(path).said()
    assert "anna" not in text and str(tmp_path) not in text
    assert "xmnist train dataset=folder dataset.path=horses --config-dir c" in said and "path: horses" in said
    assert "dataset.path=horses" in cards.cards(below(tmp_path))[0].missing
    assert not any("were used" in limit for limit in cards.cards(below(tmp_path))[0].limits)  # test=0.15 is a share


def test_a_run_whose_files_are_gone_is_left_out(
    made: Made, drawn: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept, other = drawn(lrp=pictures(3)), drawn("seed=1", lrp=pictures(3))
    (other / "selection.csv").unlink()
    old = drawn("seed=2", lrp=pictures(3))  # a version that knows no neurons, and a file that is no archive
    status = json.loads((old / "status.json").read_text())
    (old / "explanations.npz").write_text("damaged")
    status["files"]["explanations.npz"] = hashlib.sha256(b"damaged").hexdigest()
    status["checksum"] = reading.checksum({key: value for key, value in status.items() if key != "checksum"})
    (old / "status.json").write_text(json.dumps(status))
    _, data = paged(tmp_path)
    assert [network["label"] for network in data["networks"]] == ["vgg_small on glyphs, seed 0"]
    assert f"{other} is left out: selection.csv is gone" in caplog.text and str(kept) not in caplog.text
    assert f"the pictures of {old} cannot be shown: " in caplog.text


def test_an_accuracy_has_an_interval_where_the_test_images_are_counted(settings: Settings, tmp_path: Path) -> None:
    own = settings(*TINY, "model=classifier")
    figures = train.main(own)
    (card,) = cards.cards(below(tmp_path))
    told = card.facts["On the test set"]["accuracy"]
    match = re.fullmatch(r"([\d.]+) \[([\d.]+), ([\d.]+)\], (\d+) of 100 wrong", told)
    assert match and float(match[2]) < figures["accuracy"] < float(match[3])
    assert int(match[4]) == round(100 * (1 - figures["accuracy"]))
    assert card.facts["Network"]["parameters"].replace(",", "").isdigit()
    assert "It was tested on 100 images: what happens seldom may not have been seen." in card.limits


def test_names_that_look_like_html_are_text_and_the_page_asks_nobody(made: Made, drawn: Made, tmp_path: Path) -> None:
    drawn(classes=[HOSTILE, "b"], lrp=pictures(3))
    made("train", "model=classifier", command=shlex.join(["xmnist", "train", HOSTILE]))
    made("evaluate", "metric=classification", confusion=CONFUSION, classification=BY_CLASS)
    path, data = paged(tmp_path)
    page = Parsed(path)
    assert data["networks"][0]["images"][0]["label"] == HOSTILE
    scripts = [attributes.get("type") for tag, attributes in page.elements if tag == "script"]
    assert scripts.count(None) == 2 and set(scripts) == {None, "text/plain", "application/json"}
    assert ("th", HOSTILE) in page.texts and "alert" in page.said()
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "srcset"):
            assert re.match(r"(#|data:|$)", attributes.get(name) or ""), attributes
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'; img-src data:;")
    code = re.findall(r"<(?:script|style)>(.*?)</(?:script|style)>", path.read_text(), re.DOTALL)
    assert len(code) == 3
    for text in code:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_a_report_does_not_draw_random_numbers(made: Made, tmp_path: Path) -> None:
    made("train", "model=classifier")
    state = torch.get_rng_state()
    first = paged(tmp_path)[0].read_bytes()
    assert paged(tmp_path)[0].read_bytes() == first and torch.equal(torch.get_rng_state(), state)


def test_own_images_are_not_mixed_with_test_images_of_the_same_number(drawn: Made, tmp_path: Path) -> None:
    out, mine = tmp_path / "out", pictures(3, seed=7)
    drawn(indices=(0, 1, 2), lrp=pictures(3))
    unlabelled(out, files=["horse.png", "horse.png", "a:1.png"], images=mine, lrp=pictures(3, seed=8))
    unlabelled(out, "explainers.lrp.gamma=0.5", files=["horse.png", None, None], images=mine, lrp=pictures(3, seed=9))
    (network,) = gallery.described(gallery.networks(below(tmp_path), 40, gallery.Tiles(None)))
    images, (usual, other) = network["images"], network["rows"]
    if other["title"] == "LRP (gamma=0.25)":  # runs of one second come in the order of their names
        usual, other = other, usual
    told = {image["index"]: (image["label"], image["predicted"], image["file"]) for image in images}
    assert len(told) == len(images) == 8  # the horse of the second run is the first one's; two files have one name
    assert {index: of for index, of in told.items() if isinstance(index, int)} == {
        **{0: ("a", "a", None), 1: ("b", "b", None), 2: ("c", "a", None)}
    }
    files = sorted(str(of[2]) for index, of in told.items() if isinstance(index, str) and of[:2] == (None, "a"))
    assert files == ["None", "None", "a:1.png", "horse.png", "horse.png"]
    explained = {
        image["index"]: (one is not None, two is not None)
        for image, one, two in zip(images, usual["tile"], other["tile"], strict=True)
    }
    assert [explained[index] for index in range(3)] == [(True, False)] * 3
    assert sorted(explained.values()) == [(False, True)] * 2 + [(True, False)] * 5 + [(True, True)]


def test_the_overview_names_each_network_and_the_best_explainer(made: Made, drawn: Made, tmp_path: Path) -> None:
    made("train", "model=classifier", figures={"accuracy": 0.875})
    made("train", "model=cladec", "alpha=0.25", figures={"accuracy": 0.5, "reconstruction_sse": 12.5})
    for seed, shift in ((0, {"lrp": 1.0}), (1, {"lrp": 0.3, "random": 0.4}), (2, {"lrp": 0.05, "saliency": 0.05})):
        rows = observed(["random", "saliency", "lrp"], seed=seed, **shift)
        made("evaluate", "metric=aopc", f"seed={seed}", aopc=rows, summary=summed(rows, {}))
    several = below(tmp_path)
    tables = standings.standings(several)
    made_of = overview.overview(several, tables)
    assert [(line.run.dataset, line.classifier, line.title, line.score) for line in made_of.lines] == [
        ("glyphs", "vgg_small", "classifier", "accuracy 0.875"),
        ("glyphs", "vgg_small", "ClaDec of layer dense, alpha 0.25", "reconstruction error (SSE) 12.5"),
    ]
    clear, behind, close = made_of.best
    assert (clear.name, clear.sure, clear.control) == ("lrp", True, "")
    assert (behind.name, behind.sure, behind.control) == ("lrp", False, "random")
    assert not close.sure and close.table == 3
    explained = drawn(lrp=pictures(3))
    network = gallery.networks(index.below(explained.parents[3]), 40, gallery.Tiles(None))[0].id
    assert made_of.ranks[network][0] == "lrp" and "random" not in made_of.ranks[network]
    said = " ".join(Parsed(paged(tmp_path)[0]).said().split())
    assert "LRP , mean AOPC" in said and "significantly better than every other explainer" in said
    assert "no better than the model-independent control random" in said


def test_runs_of_one_name_are_told_apart_wherever_they_are(made: Made, tmp_path: Path) -> None:
    folders = [made("train", "model=classifier", f"trainer.epochs={epochs}") for epochs in (2, 3)]
    for epochs in (2, 3):
        rows = observed(["random", "lrp"], lrp=1.0)
        folders.append(made("evaluate", "metric=aopc", f"trainer.epochs={epochs}", aopc=rows, summary=summed(rows, {})))
    page = Parsed(paged(tmp_path)[0])
    for epochs in (2, 3):
        assert ("span", f"classifier=vgg_small,seed=0,trainer.epochs={epochs}") in page.texts
        assert ("small", f"trainer.epochs={epochs}") in page.texts  # in the overview
        assert ("h2", f"Classifier: vgg_small on glyphs, seed 0 (trainer.epochs={epochs}) ") in page.texts
        assert ("h2", f"Explainers: vgg_small on glyphs, seed 0 (trainer.epochs={epochs}) ") in page.texts
    for folder in folders:
        assert ("small", folder.name[-8:]) in page.texts  # its hash
    (alone,) = [run for run in below(tmp_path) if run.path == folders[0]]
    assert collected.apart([alone]) == {alone.path: ""}


def test_a_warning_stands_wherever_its_network_does(made: Made, tmp_path: Path) -> None:
    told = "the classifier is no better than always answering '<b>cat</b>'"
    own = replace(resolved("train", ("model=classifier",)), out_dir=str(tmp_path / "out"))
    run = Run("train", own)
    with claims.claim(run, "xmnist train"):
        run.write_json("metrics.json", {"accuracy": 0.1})
        logging.getLogger("xmnist").warning(told, extra={"lasting": True})
    made("train", "model=classifier", "seed=1")
    page = Parsed(paged(tmp_path)[0])
    assert [run.warnings for run in below(tmp_path)] == [[told], []]
    assert [tag for tag, text in page.texts if text == f"⚠ warning: {told}"] == ["p", "p", "p"]  # overview, run, card
    assert page.texts.count(("b", "⚠ warning")) == 1  # in the list of runs, before it is opened


def test_explainers_have_one_title_on_the_whole_page(made: Made, drawn: Made, tmp_path: Path) -> None:
    names = ["random", "gradcam", "guided_backprop"]
    rows = observed(names, gradcam=1.0)
    steps = [
        {"explainer": name, "patch": 4, "fill": "black", "order": order, "step": step, "f": 1.0, "aopc": 0.1 * step}
        for name in names for order in ("morf", "lerf") for step in range(3)
    ]  # fmt: skip
    by_patch = [{"patch": 4, "fill": "black", "explainer": name, "aopc": 0.1, "aopc_low": 0, "aopc_high": 3,
                 "aopc_p": ""} for name in names]  # fmt: skip
    made(
        *("evaluate", "metric=aopc"),
        **{"aopc": rows, "summary": summed(rows, {}), "aopc_curves": steps, "aopc_table": by_patch},
    )
    drawn(gradcam=pictures(3), guided_backprop=pictures(3))
    path, data = paged(tmp_path)
    page = Parsed(path)
    assert page.texts.count(("th", "Grad-CAM")) == page.texts.count(("th", "guided backprop")) == 2
    assert [row["title"] for row in data["networks"][0]["rows"]] == ["Grad-CAM", "guided backprop"]
    lines = [line["name"] for line in data["charts"][0]["panels"][0]["lines"]]
    assert lines == ["random", "Grad-CAM", "guided backprop"]
    assert any(tag == "i" and text.endswith(" aopc of Grad-CAM") for tag, text in page.texts)
