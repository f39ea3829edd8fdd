"""How far the program is from the arithmetic that it has to do, measured side by side on this machine.

    python -m benchmarks [NAME ...] [--rounds 4] [--images 6000] [--out FILE.csv]

Names: train (steps and epochs against bare loops), commands (whole commands against their steps, alphas together, how
long a user waits); all of them by default. `benchmarks/aopc.py` and `benchmarks/joint.py` are run by themselves.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import torch

from benchmarks import commands, train
from benchmarks.timing import Ratio

MEASURED: dict[str, Callable[[int, int], Iterator[Ratio]]] = {"train": train.ratios, "commands": commands.ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to measure")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=6000, help="training images in each epoch")
    parser.add_argument("--out", type=Path, help="a CSV file for all ratios")
    args = parser.parse_args()
    unknown = set(args.names) - set(MEASURED)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))} (there are {', '.join(MEASURED)})")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.images} images, {args.rounds} rounds")
    rows = []
    for name in args.names or MEASURED:
        for ratio in MEASURED[name](args.rounds, args.images):
            print(ratio, flush=True)
            rows.append(ratio.row())
        if name == "commands":
            for what, seconds in commands.waits(args.rounds):
                print(f"{what}: {seconds:.2f} s", flush=True)
    if args.out:
        pd.DataFrame(rows).to_csv(args.out, index=False)


if __name__ == "__main__":
    main()
