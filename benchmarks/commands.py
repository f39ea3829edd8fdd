"""What a user waits for: whole commands against the training steps in them, and until something happens."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.timing import Ratio

XMNIST = (sys.executable, "-m", "xmnist")


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """Whole commands of two epochs against the seconds of their steps; ClaDecs of twelve alphas together and alone."""
    with tempfile.TemporaryDirectory() as folder:
        small = (f"dataset.train={images}", "dataset.test=1000", "trainer.epochs=2", f"out_dir={folder}", "force=true")
        spent: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, words in _COMMANDS.items():
                begun, start = time.time(), time.perf_counter()
                _run("train", *small, *words)
                spent.setdefault(name, []).append(time.perf_counter() - start)
                spent.setdefault(f"{name}, steps", []).append(_steps(Path(folder), begun))
    for name in ("classifier", "ClaDec"):
        yield Ratio(f"command, {name}, against its steps", spent[f"{name}, steps"], spent[name])
    alone = [len(_ALPHAS) * seconds for seconds in spent["ClaDec, batch 128, fp32"]]
    together = spent["ClaDecs together, batch 128, fp32"]
    yield Ratio(f"{len(_ALPHAS)} alphas together, batch 128, fp32, against as many commands of one", alone, together)


def waits(rounds: int) -> Iterator[tuple[str, float]]:
    """Seconds until the help is there, and until a training of a single step is done; the best of several."""
    with tempfile.TemporaryDirectory() as folder:
        one = (
            "train",
            "dataset=glyphs",
            "dataset.train=200",
            "dataset.test=10",
            "model=classifier",
            "trainer.epochs=1",
            "trainer.batch_size=200",
        )
        for name, words in (("xmnist --help", ("--help",)), ("a training of one step", (*one, f"out_dir={folder}"))):
            seconds = []
            for _ in range(rounds):
                start = time.perf_counter()
                _run(*words, *(["force=true"] if len(words) > 1 else []))
                seconds.append(time.perf_counter() - start)
            yield name, min(seconds)


_ALPHAS = ("0", "0.01", "0.05", "0.1", "0.25", "0.5", "0.75", "0.9", "0.99", "0.999", "0.9999", "1")
_SAME = ("trainer.precision=fp32", "trainer.decoder.batch_size=128")
_COMMANDS = {
    "classifier": ("model=classifier",),
    "ClaDec": ("alpha=0.25",),
    "ClaDec, batch 128, fp32": ("alpha=0.25", *_SAME),
    "ClaDecs together, batch 128, fp32": (f"alpha=[{','.join(_ALPHAS)}]", *_SAME),
}


def _run(*words: str) -> None:
    subprocess.run([*XMNIST, *words], check=True, capture_output=True, env={**os.environ, "HYDRA_FULL_ERROR": "1"})


def _steps(folder: Path, begun: float) -> float:
    """Seconds of all training steps since then; the table of several alphas has no such figure of its own."""
    found = [json.loads(path.read_text()) for path in folder.rglob("metrics.json") if path.stat().st_mtime >= begun]
    return sum(each.get("seconds", 0.0) for each in found)
