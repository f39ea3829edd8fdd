"""AOPC against the bare forwards of as many images, alternating in one process, and its peak memory.

    python benchmarks/aopc.py [--images 1000] [--patch 4] [--batch 100] [--rounds 4] [--peers]

`vgg_small` with random weights on random images of MNIST's size; one fill, all steps. Prints the seconds of each round,
the ratio of the best, and the process's peak memory. `--peers` adds Quantus' RegionPerturbation, if that is installed,
on the same network, maps and fill.
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch

from xmnist import classifiers
from xmnist.layers import freeze, place
from xmnist.metrics import aopc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 1000), ("patch", 4), ("batch", 100), ("rounds", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    network = classifiers.build("vgg_small", (1, 28, 28), 10, dropout=0.5)
    freeze(place(network, torch.device("cpu")))
    images, maps = torch.rand(args.images, 1, 28, 28), torch.randn(args.images, 1, 28, 28)
    images[:, :, 0, 0] = 0.0
    targets = torch.randint(10, (args.images,))
    steps = (-(-28 // args.patch)) ** 2
    whole, rest = divmod(args.images * (steps + 1), args.batch)  # the images themselves, too
    ready = torch.rand(args.batch, 1, 28, 28)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(whole):
                network(ready)
            network(ready[:rest])

    def program() -> None:
        order = aopc.patch_order(maps, args.patch, 0)
        fill = aopc.filling("black", images, 0)
        found = aopc.curves(lambda x, _: network(x), images, targets, order, args.patch, fill, None, args.batch)
        aopc.aopc(found)

    def quantus() -> None:
        from quantus import RegionPerturbation

        options = {"normalise": False, "abs": False, "disable_warnings": True, "return_aggregate": False}
        metric = RegionPerturbation(args.patch, "morf", steps, perturb_baseline="black", **options)
        arrays = images.numpy(), targets.numpy()
        metric(network, *arrays, a_batch=maps.numpy(), softmax=True, batch_size=args.batch)

    runs: dict[str, Callable[[], None]] = {"bare forwards": bare, "program": program}
    seconds: dict[str, list[float]] = {}
    for _ in range(args.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds.setdefault(name, []).append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    size = f"{args.patch}x{args.patch}"
    print(f"threads {torch.get_num_threads()}, {args.images} images, {steps} steps of {size} patches")
    for name, each in seconds.items():
        print(f"{name}: " + ", ".join(f"{s:.2f}" for s in each))
    best = {name: min(each) for name, each in seconds.items()}
    print(f"ratio of the best: {best['program'] / best['bare forwards']:.3f}; peak memory {peak:.2f} GiB")
    if args.peers:
        start = time.perf_counter()
        quantus()
        theirs = time.perf_counter() - start
        print(f"Quantus, once: {theirs:.2f} s, {theirs / best['program']:.1f} times the program's")


if __name__ == "__main__":
    main()
