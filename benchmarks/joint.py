"""One epoch of joint training against a bare loop of the same arithmetic on random tensors, in one process.

    python benchmarks/joint.py [--images 12000] [--batch 64] [--width 16] [--depth 2] [--rounds 4]

Prints seconds an epoch (the best of alternating rounds) and their ratio, for phase 2 or 3 (`--phase`).
"""

import argparse
import time

import torch
from torch import Tensor
from torch.nn import functional as F

from xmnist import classifiers, joint, tasks, trainer
from xmnist.data.base import Data, Info, Split
from xmnist.layers import place

CPU = torch.device("cpu")
OPTIONS = {
    **{
        "seed": 0,
        "epochs": 1,
        "precision": "fp32",
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "eps": 1e-8,
        "momentum": 0.9,
    },
    **{"schedule": "one_cycle", "warmup": 0.3, "step_epochs": 1, "factor": 0.1, "patience": 2, "keep": "best"},
    **{"stop_patience": None, "stop_delta": 0.0, "min_lr": 0.0},
}


def network(width: int, depth: int) -> joint.Joint:
    torch.manual_seed(0)
    classifier = classifiers.build("vgg_small", (1, 28, 28), 10, dropout=0.5)
    model = joint.Joint(classifier, joint.Explainer((1, 28, 28), width, depth, 3.0))
    place(model, CPU)
    return model


def program(images: Tensor, labels: Tensor, model: joint.Joint, batch: int, frozen: tuple[str, ...]) -> float:
    """Seconds of an epoch of `tasks.joint` in `trainer.fit`; looking at the validation images is not counted."""
    split = Split(images, labels)
    few = split[:10]
    data = Data(split, few, few, Info((1, 28, 28), tuple("0123456789")))
    task = tasks.joint(model, data, frozen, 0.9, 0.9, 1.0, "unsupervised")
    task.prepare()
    options = {**OPTIONS, "batch_size": batch, "lr": {"classifier": 1e-3, "explainer": 1e-3}, "figures": task.figures}
    return trainer.fit(model, task.loss, task.rows(), lambda: task.watch(few), **options)[0]["seconds"]


def bare(images: Tensor, labels: Tensor, model: joint.Joint, batch: int, frozen: tuple[str, ...]) -> float:
    """Seconds of the same arithmetic: two networks, four products and sums, one optimiser."""
    model.freeze(*frozen)
    model.train()
    own, explainer = model.classifier, model.explainer
    descent = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3, fused=True)
    start = time.perf_counter()
    for rows in torch.randperm(len(images)).split(batch):
        x = images[rows]
        z = explainer(x)
        features = own.stem[3](own.stem[:3](own.normalize(x)) * z)
        features = own.conv[3](own.conv[:3](features) * F.avg_pool2d(z, 2))
        logits = own.logits(own.dense(own.dropout(own.flatten(features))))
        variation = z.diff(dim=2).abs().mean() + z.diff(dim=3).abs().mean()
        loss = 0.9 * F.cross_entropy(logits, labels[rows]) + 0.1 * (0.9 * z.abs().mean() + 0.1 * variation)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("images", 12000), ("batch", 64), ("width", 16), ("depth", 2), ("rounds", 4), ("phase", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    images, labels = torch.rand(args.images, 1, 28, 28), torch.randint(10, (args.images,))
    frozen = ("classifier",) if args.phase == 2 else ()
    seconds: dict[str, list[float]] = {"bare": [], "program": []}
    for _ in range(args.rounds):
        for name, run in (("bare", bare), ("program", program)):
            seconds[name].append(run(images, labels, network(args.width, args.depth), args.batch, frozen))
    floor, ours = min(seconds["bare"]), min(seconds["program"])
    print(f"threads {torch.get_num_threads()}, {args.images} images, phase {args.phase}")
    print("bare loop: " + ", ".join(f"{s:.2f}" for s in seconds["bare"]))
    print("program:   " + ", ".join(f"{s:.2f}" for s in seconds["program"]))
    print(f"ratio of the best: {ours / floor:.3f}")


if __name__ == "__main__":
    main()
