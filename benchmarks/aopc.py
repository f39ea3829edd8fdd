"""AOPC against the bare forwards of as many images, and against Quantus."""

from collections.abc import Iterator

import torch

from benchmarks.timing import Ratio, Seconds, side_by_side
from benchmarks.train import CPU, classifier
from xmnist.metrics import aopc
from xmnist.models.layers import freeze
from xmnist.runtime.devices import autocast

PATCH, BATCH = 4, 100


def ratios(rounds: int, images: int) -> Iterator[Ratio]:
    """`vgg_small`, at most 1,000 images, one fill, all 49 patches, batches of 100, in both precisions."""
    for precision in ("fp32", "bf16"):
        ours, bare = _program(min(images, 1000), precision), _bare(min(images, 1000), precision)
        yield side_by_side(f"AOPC of {min(images, 1000)} images against its forwards, {precision}", bare, ours, rounds)


def against_quantus(rounds: int) -> Iterator[Ratio]:
    """The same AOPC by Quantus' RegionPerturbation: same network, maps and fill."""
    for precision in ("fp32", "bf16"):
        name = f"peer: Quantus' AOPC of 1000 images, ours in {precision}"
        yield side_by_side(name, _quantus(1000), _program(1000, precision), rounds)


def _scene(count: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Network, images with a black pixel, maps and targets."""
    network = freeze(classifier())
    images, maps = torch.rand(count, 1, 28, 28), torch.randn(count, 1, 28, 28)
    images[:, :, 0, 0] = 0.0
    return network, images, maps, torch.randint(10, (count,))


def _bare(count: int, precision: str) -> Seconds:
    network, *_ = _scene(1)
    whole, rest = divmod(count * ((28 // PATCH) ** 2 + 1), BATCH)  # the images themselves, too
    ready = torch.rand(BATCH, 1, 28, 28)

    def run() -> None:
        with torch.no_grad(), autocast(precision, CPU):
            for _ in range(whole):
                network(ready)
            network(ready[:rest])

    return run


def _program(count: int, precision: str) -> Seconds:
    network, images, maps, targets = _scene(count)

    def run() -> None:
        order, fill = aopc.patch_order(maps, PATCH, 0), aopc.filling("black", images, 0)
        with autocast(precision, CPU):
            found = aopc.curves(lambda x, _: network(x), images, targets, order, PATCH, fill, None, BATCH)
        aopc.aopc(found)

    return run


def _quantus(count: int) -> Seconds:
    from quantus import RegionPerturbation

    network, images, maps, targets = _scene(count)
    options = {"normalise": False, "abs": False, "disable_warnings": True, "return_aggregate": False}
    metric = RegionPerturbation(PATCH, "morf", (28 // PATCH) ** 2, perturb_baseline="black", **options)

    def run() -> None:
        metric(network, images.numpy(), targets.numpy(), a_batch=maps.numpy(), softmax=True, batch_size=BATCH)

    return run
