"""How much of each explanation lies inside the true mask, from runs of `xmnist explain` on data with ground truth.

    python benchmarks/ground_truth.py "NAME=DIR;DIR;..." ...

Each DIR is an `explain` run, and a NAME with several (seeds) gets one row an explainer: the mean over images of the
share of the map's mass inside the mask, its range over runs; beside it the share of the pixels that the masks have.
Columns are the NAMEs. For the joint model's own map there are its mean, and how many maps are all 0 or all 1. With two
NAMEs, the last line compares the mass outside of the masks of their joint maps, paired over images, with a 95 %
bootstrap interval.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from xmnist.config.chosen import RESERVED
from xmnist.metrics.localisation import mass_inside


def load(folder: str) -> dict[str, torch.Tensor]:
    with np.load(Path(folder) / "explanations.npz") as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


def outside(arrays: dict[str, torch.Tensor]) -> torch.Tensor:
    """The mean of the joint map outside the mask, of images with an object."""
    masks, maps = arrays["masks"].flatten(1), arrays["joint"].flatten(1)
    there = masks.any(1)
    return (maps * ~masks).sum(1)[there] / (~masks).sum(1)[there]


def main() -> None:
    columns = {name: [load(d) for d in dirs.split(";")] for name, dirs in (word.split("=", 1) for word in sys.argv[1:])}
    first = next(iter(columns.values()))[0]
    methods = [name for name in first if name not in RESERVED]
    print("| explainer | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for method in methods:
        cells = []
        for runs in columns.values():
            shares = [mass_inside(run[method], run["masks"]).nanmean().item() for run in runs if method in run]
            cells.append(f"{np.mean(shares):.3f} ({min(shares):.3f} to {max(shares):.3f})" if shares else "")
        print(f"| {method} | " + " | ".join(cells) + " |")
    for name, runs in columns.items():
        masks = torch.cat([run["masks"] for run in runs]).flatten(1)
        area = masks.float().mean(1)[masks.any(1)].mean().item()
        maps = torch.cat([run["joint"] for run in runs]).flatten(1)
        empty, full = (maps.amax(1) < 0.01).sum().item(), (maps.amin(1) > 0.99).sum().item()
        print(
            f"{name}: {len(maps)} maps, mask {area:.3f} of the image; mean {maps.mean():.3f}; largest value of a map "
            f"{maps.amax(1).min():.3f} to {maps.amax(1).max():.3f}, smallest {maps.amin(1).min():.3f} to "
            f"{maps.amin(1).max():.3f}; all 0: {empty}, all 1: {full}"
        )
    if len(columns) == 2:
        one, two = (torch.cat([outside(run) for run in runs]) for runs in columns.values())
        change = (two - one).numpy()
        draws = np.random.default_rng(0).integers(len(change), size=(2000, len(change)))
        low, high = np.quantile(change[draws].mean(1), [0.025, 0.975])
        a, b = columns
        print(
            f"mean of the map outside the mask: {a} {one.mean():.4f}, {b} {two.mean():.4f}; difference "
            f"{change.mean():+.4f} (95 % interval {low:+.4f} to {high:+.4f}, {len(change)} pairs)"
        )


if __name__ == "__main__":
    main()
