"""The program beside others that do the same: torchvision's data loader, the Keras study, Quantus.

Real MNIST, read from `XMNIST_DATA`. Each peer is left out where it is not installed (extras `peers` and `keras`).
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.datasets import MNIST
from torchvision.transforms import ToTensor

from benchmarks import aopc, train
from benchmarks.timing import Ratio, side_by_side
from xmnist import data
from xmnist.data.base import Data

FOLDER = os.environ.get("XMNIST_DATA", "data")
PUBLISHED = {
    "classifier": {"accuracy": 0.9903},
    "cladec dense": {"reconstruction_sse": 20.61, "classification_loss": 0.1041},
    "cladec conv": {"reconstruction_sse": 1.462, "classification_loss": 0.0450},
}
"""What the Keras study reaches on MNIST in 10 epochs."""

_MORE = ("trainer.decoder.epochs=3", "trainer.decoder.lr=0.02")

WORDS = {
    "classifier": ("model=classifier", "trainer.epochs=2"),
    "cladec dense": ("layer=dense", "alpha=0.25", "trainer.epochs=2"),
    "cladec conv": ("layer=conv", "alpha=0.25", "trainer.epochs=2", *_MORE),
}
"""As short as reaches that; the ClaDecs explain the first one's classifier."""


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """Epochs at equal batch and precision, ours with codes and validation; an AOPC against Quantus.

    With all 60,000 images also whole commands against ten of Keras' epochs.
    """
    whole = data.load({"name": "mnist", "train": images, "test": None, "validation": 0.05}, FOLDER, 0)
    yield _loader(whole, rounds)
    if _installed("tensorflow"):
        yield from _keras(whole, rounds)
    if _installed("quantus"):
        yield from aopc.against_quantus(rounds)


def _installed(name: str) -> bool:
    if importlib.util.find_spec(name):
        return True
    print(f"{name} is not installed: left out")
    return False


def _loader(whole: Data, rounds: int) -> Ratio:
    """An epoch of a plain loop over torchvision's data set with ToTensor and DataLoader, and one of the program."""
    network, count = train.classifier(), len(whole.train)
    images = torch.utils.data.Subset(MNIST(FOLDER, transform=ToTensor()), range(count))
    loader = DataLoader(images, batch_size=128, shuffle=True)
    descent = torch.optim.Adam(network.parameters())

    def plain() -> None:
        network.train()
        for batch, labels in loader:
            loss = F.cross_entropy(network(batch), labels)
            descent.zero_grad()
            loss.backward()
            descent.step()

    ours = train.program("classifier", whole, 128, "fp32", whole=False)
    return side_by_side("peer: epoch of a DataLoader loop, classifier, batch 128, fp32", plain, ours, rounds)


def _keras(whole: Data, rounds: int) -> Iterator[Ratio]:
    complete = len(whole.train) + len(whole.validation) == 60_000
    theirs: dict[str, list[float]] = {}
    ours: dict[str, list[float]] = {}
    full: dict[str, list[float]] = {}
    reached: dict[str, list[bool]] = {}
    epochs = {name: train.program(name, whole, 32, "fp32", whole=True) for name in WORDS}
    for turn in range(rounds):
        for name, run in epochs.items():
            start = time.perf_counter()
            run()
            ours.setdefault(name, []).append(time.perf_counter() - start)
        for name, seconds in _epoch_of_keras(whole).items():
            theirs.setdefault(name, []).append(seconds)
        for name, (seconds, figures) in _commands(turn).items() if complete else ():
            full.setdefault(name, []).append(seconds)
            reached.setdefault(name, []).append(all(map(_holds, PUBLISHED[name].items(), [figures] * 2)))
    for name in WORDS:
        yield Ratio(f"peer: Keras' epoch, {name}, batch 32, fp32", theirs[name], ours[name])
    for name in full:
        ten = [10 * seconds for seconds in theirs[name]]
        held = f"reached in {sum(reached[name])} of {rounds} seeds"
        yield Ratio(f"peer: ten epochs of Keras, {name}; the command, published quality {held}", ten, full[name])


def _holds(published: tuple[str, float], figures: dict[str, float]) -> bool:
    name, value = published
    return figures[name] >= value if name == "accuracy" else figures[name] <= value


def _epoch_of_keras(whole: Data) -> dict[str, float]:
    """Seconds of the second epoch of each network, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data.npz")
        np.savez(file, images=whole.train.images.permute(0, 2, 3, 1).numpy(), labels=whole.train.labels.numpy())
        script = Path(__file__).with_name("keras_peer.py")
        words = (sys.executable, str(script), str(file))
        out = subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **_QUIET}).stdout
    return {name: found["seconds"][-1] for name, found in json.loads(out.splitlines()[-1]).items()}


_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def _commands(seed: int) -> dict[str, tuple[float, dict[str, float]]]:
    """Seconds and figures of the commands; a ClaDec's classifier is there, as it is for Keras."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, words in WORDS.items():
            own = ("dataset=mnist", f"seed={seed}", f"data_dir={FOLDER}", f"out_dir={folder}")
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "xmnist", "train", *words, *own], check=True, capture_output=True)
            seconds = time.perf_counter() - start
            kind, _, layer = name.partition(" ")
            (file,) = Path(folder).glob(f"train/mnist/{kind}/*{layer}*/metrics.json")
            found[name] = seconds, json.loads(file.read_text())
    return found
