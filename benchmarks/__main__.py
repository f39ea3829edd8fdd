"""How far the program is from the arithmetic that it has to do, measured side by side on this machine.

    python -m benchmarks [NAME ...] [--peers] [--rounds 4] [--images 6000] [--out FOLDER]

Each line is the time of the program to that of a floor, the best of alternating rounds in one process (commands and
Keras: in processes of their own). FOLDER gets benchmarks.csv and benchmarks.png.
"""

import argparse
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from benchmarks import aopc, commands, explainers, joint, peers, report, train
from benchmarks.timing import Ratio

MEASURED: dict[str, Callable[[int, int], Iterator[Ratio]]] = {
    "train": train.ratios,
    "joint": joint.ratios,
    "aopc": aopc.ratios,
    "explainers": explainers.ratios,
    "commands": commands.ratios,
    "peers": peers.ratios,
    "report": lambda rounds, images: iter(()),
}

WAITS = {"commands": commands.waits, "report": report.waits}
"""What has no floor, and is told in seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(MEASURED)}")
    parser.add_argument("--peers", action="store_true", help="others that do the same, on MNIST in XMNIST_DATA")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=6000, help="training images in each epoch")
    parser.add_argument("--out", type=Path, help="a folder for the table and the figure")
    args = parser.parse_args()
    unknown = set(args.names) - set(MEASURED)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))} (there are {', '.join(MEASURED)})")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.images} images, {args.rounds} rounds")
    names = args.names or [name for name in MEASURED if name != "peers"]
    found = []
    for name in dict.fromkeys([*names, *(["peers"] if args.peers else [])]):
        for ratio in MEASURED[name](args.rounds, args.images):
            print(ratio, flush=True)
            found.append(ratio)
        for what, seconds in WAITS[name](args.rounds) if name in WAITS else ():
            print(f"{what}: {seconds:.2f} s", flush=True)
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([ratio.row() for ratio in found]).to_csv(args.out / "benchmarks.csv", index=False)
        _draw(found, args.out / "benchmarks.png")


def _draw(found: list[Ratio], file: Path) -> None:
    """A bar for each ratio, on a logarithmic axis: left of 1 is faster than what it is compared with."""
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.27 * len(found)), layout="constrained")
    rows = range(len(found))
    axes.barh(rows, [ratio.ratio - 1 for ratio in found], left=1, color="#4477aa")
    for row, ratio in zip(rows, found, strict=True):
        axes.annotate(
            f" {ratio.ratio:.2f} ", (ratio.ratio, row), va="center", ha="left" if ratio.ratio > 1 else "right"
        )
    axes.set(
        yticks=rows,
        yticklabels=[ratio.name for ratio in found],
        xscale="log",
        xlabel="time, to what it is compared with",
    )
    axes.margins(x=0.15, y=0.01)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
