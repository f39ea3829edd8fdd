"""How long a page takes: made by `xmnist report` of many runs, and opened in a browser."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray

from xmnist.cli import hooks
from xmnist.config import defaults, resolution
from xmnist.runs import claims, store
from xmnist.runs.store import Run

RUNS, IMAGES = 20, 40
EXPLAINERS = (
    *(
        "random",
        "sobel",
        "saliency",
        "sensitivity",
        "input_x_gradient",
        "smoothgrad",
        "guided_backprop",
        "deconvolution",
    ),
    *("gradcam", "integrated_gradients", "deeplift", "lrp", "refae", "cladec", "difference"),
)
BROWSER = Path("/usr/bin/chromium")


def resolved(stage: str, *words: str) -> resolution.Settings:
    """The settings of `xmnist STAGE WORDS`."""
    hooks.register(stage, ["dataset=mnist"])
    with initialize_config_dir(defaults.conf_dir(), version_base="1.3"):
        return resolution.resolve(compose(stage, list(words)), stage)


def explained(
    settings: resolution.Settings,
    arrays: Mapping[str, NDArray[Any]],
    images: NDArray[np.float32],
    classes: Sequence[str],
    indices: Sequence[int] | None = None,
) -> Path:
    """The folder of a finished run of `explain` that answers so; every third image is misclassified."""
    run, count = Run("explain", settings), len(images)
    labels = np.arange(count) % len(classes)
    predicted = np.where(np.arange(count) % 3 == 2, (labels + 1) % len(classes), labels)
    numbers = np.arange(count) if indices is None else np.asarray(indices)
    rows = [
        {
            **{"index": int(number), "label": int(label), "class": classes[label], "prediction": int(guess)},
            **{"predicted_class": classes[guess], "probability": 0.75},
            **{f"{name} predicted_class": classes[guess] for name in arrays if name.startswith(("refae", "cladec"))},
        }
        for number, label, guess in zip(numbers, labels, predicted, strict=True)
    ]
    with claims.claim(run, "xmnist explain"):
        run.write_csv("selection.csv", rows)
        with store.atomic(run.path / "explanations.npz") as file:
            own = {"images": images, "labels": labels, "predictions": predicted, "indices": numbers}
            np.savez_compressed(file, **own, **arrays)  # type: ignore[arg-type]
    return run.path


def many(out_dir: str) -> None:
    """Runs that explain a network each, with noise, which nothing makes smaller."""
    draw = np.random.default_rng(0)
    for seed in range(RUNS):
        words = f"explainer=[{','.join(EXPLAINERS)}]", f"seed={seed}", f"out_dir={out_dir}", "select=sample"
        images = draw.random((IMAGES, 1, 28, 28), np.float32)
        maps = {name: draw.standard_normal((IMAGES, 1, 28, 28), np.float32) for name in EXPLAINERS}
        explained(resolved("explain", *words), maps, images, [*map(str, range(10))])


def waits(rounds: int) -> Iterator[tuple[str, float]]:
    """The best of some rounds: until the page is there, and until it can be used."""
    with tempfile.TemporaryDirectory() as folder:
        many(folder)
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "xmnist", "report", f"out_dir={folder}"], check=True, capture_output=True
            )
            times.append(time.perf_counter() - start)
        page = Path(folder, "report", "index.html")
        what = f"{RUNS} runs, {IMAGES} images, {len(EXPLAINERS)} explainers, {page.stat().st_size / 1e6:.1f} MB"
        yield f"xmnist report of {what}", min(times)
        if BROWSER.is_file():
            yield "that page opened in Chromium, until its first pictures are drawn", min(_opened(page, rounds))


def _opened(page: Path, rounds: int) -> list[float]:
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for _ in range(rounds):
            tab = browser.new_page()
            start = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-drawn]")
            times.append(time.perf_counter() - start)
            tab.close()
        browser.close()
    return times
