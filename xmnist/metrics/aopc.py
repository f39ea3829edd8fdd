"""Faithfulness by area over the perturbation curve: the fall of f(x) as patches are covered.

Patches are covered in the order of their relevance, most relevant first.

Source: Samek et al., "Evaluating the visualization of what a deep neural network has learned", IEEE TNNLS 28 (2017),
arXiv 1509.06321, section III-B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from xmnist.config.components import listed
from xmnist.config.declarations import Column
from xmnist.config.rules import choice, maybe, one_or_more, whole
from xmnist.metrics import panels, tables
from xmnist.metrics.base import MapContext, MapMetric, Tables, column_of, metric
from xmnist.metrics.panels import Lines, Panel, line
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import F, Tensor, np, pd, torch
from xmnist.runtime.seeds import derive_seed

if TYPE_CHECKING:
    from xmnist.data.base import Info

Predict = Callable[[Tensor, Tensor], Tensor]
"""Covered images (B, C, H, W), and the rows (B,) of their originals, to logits (B, K)."""


def patch_order(maps: Tensor, patch: int, seed: int) -> Tensor:
    """Return the patches of each map, numbered row by row, from the highest score to the lowest: (N, P).

    A patch's score is the mean of the map in it, with its sign; ties are broken by a shuffle. Patches of the last row
    and column are smaller where the patch does not divide the image. The order of `-maps` is least relevant first.

    Args:
        maps: (N, 1, H, W).
        patch: side of a patch, in pixels.
        seed: seed of the shuffle; each row of `maps` has a shuffle of its own.

    Raises:
        ValueError: a map has NaN or Inf, which no order can rank.
    """
    if not maps.isfinite().all():
        raise ValueError("a map has NaN or Inf")
    # On the CPU, since not every device has float64, in which the mean of a constant is exact: ties stay ties.
    scores = F.avg_pool2d(maps.cpu().double(), patch, ceil_mode=True).flatten(1)
    generator = torch.Generator().manual_seed(derive_seed(seed, "ties between patches"))
    # A stable sort of shuffled scores leaves ties in random order, where row order would favour the top.
    shuffle = torch.rand(scores.shape, generator=generator).argsort(1)
    order = shuffle.gather(1, scores.gather(1, shuffle).argsort(dim=1, descending=True, stable=True))
    return order.to(maps.device)


def filling(name: str, images: Tensor, seed: int) -> Tensor:
    """Return the values, in pixel space, for covered pixels of images (N, C, H, W): of a shape that expands to theirs.

    Args:
        name: one of `FILLS`; `mean` is the image's own mean colour, `uniform` has a random value for each pixel and
            channel, `gaussian_blur` the image itself under a wide blur.
        seed: seed of random values.
    """
    return FILLS[name](images, seed)


def _uniform(images: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(derive_seed(seed, "uniform fill"))
    return torch.rand(images.shape, generator=generator).to(images)


def _blur(images: Tensor, seed: int) -> Tensor:
    from xmnist.models.layers import blurred

    return blurred(images)


FILLS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "black": lambda images, _: images.new_zeros(1, 1, 1, 1),
    "white": lambda images, _: images.new_ones(1, 1, 1, 1),
    "gray": lambda images, _: images.new_full((1, 1, 1, 1), 0.5),
    "mean": lambda images, _: images.mean((2, 3), keepdim=True),
    "uniform": _uniform,
    "gaussian_blur": _blur,
}


def curves(
    predict: Predict,
    images: Tensor,
    targets: Tensor,
    order: Tensor,
    patch: int,
    fill: Tensor,
    steps: int | None = None,
    batch_size: int = 100,
) -> Tensor:
    """Return f(x_k) for k = 0..L, where f is the softmax probability of the target: (N, L + 1), float64.

    x_k is the image with the first k patches of its order covered, x_0 the image itself. Batches run over images and
    steps alike, so that `batch_size` limits the memory for any number of steps.

    Args:
        images, targets: (N, C, H, W) and (N,).
        order: patches of each image, (N, P), as `patch_order` gives them.
        patch: side of a patch, in pixels.
        fill: (N, C, H, W) or a shape that expands to it.
        steps: L, at most P; None for P.
        batch_size: images at a time.

    Raises:
        ValueError: the network returns NaN or Inf.
    """
    count, (height, width) = len(images), images.shape[2:]
    levels = 1 + (order.shape[1] if steps is None else min(steps, order.shape[1]))
    covered_at = order.argsort(1).int()  # the place of each patch in the order
    down, right = (-(-size // patch) for size in (height, width))
    probabilities = []
    for part in torch.arange(count * levels, device=images.device).split(batch_size):
        rows, step = part // levels, part % levels
        covered = (covered_at[rows] < step[:, None].int()).view(-1, 1, down, 1, right, 1)
        pixels = covered.expand(-1, 1, down, patch, right, patch).reshape(-1, 1, down * patch, right * patch)
        # Patches of the last row and column may reach beyond the image.
        pixels = pixels[..., :height, :width]
        perturbed = torch.where(pixels, fill[rows] if len(fill) > 1 else fill, images[rows])
        with torch.no_grad():
            probabilities.append(predict(perturbed, rows).softmax(1).gather(1, targets[rows, None])[:, 0])
    out = torch.cat(probabilities).view(count, levels).cpu().double()
    if not out.isfinite().all():
        raise ValueError("the network answers NaN or Inf to covered images")
    return out


def aopc(curves: Tensor) -> Tensor:
    """Return AOPC(L) = 1 / (L + 1) * sum_{k=0..L} f(x_0) - f(x_k), for each image and L: (N, L + 1) in [-1, 1].

    Source: Samek et al. (2017), equation 12, before the mean over images.
    """
    drops = curves[:, :1] - curves
    return drops.cumsum(1) / torch.arange(1, drops.shape[1] + 1, device=drops.device)


@metric(
    "aopc",
    title="AOPC",
    columns=[
        Column("aopc", "how much of the class's probability is lost, most relevant patches first", "higher"),
        Column("abpc", "the same, less what is lost with the least relevant patches first", "higher"),
        Column(
            "aopc_recomputed",
            "aopc with the joint model's map made anew for each covered image; aopc keeps it fixed",
            "higher",
        ),
        Column("abpc_recomputed", "abpc with the joint model's map made anew for each covered image", "higher"),
    ],
    help="faithfulness: the drop of the probability as patches are covered, most relevant first",
    tested=True,
)
class Aopc(MapMetric):
    """Faithfulness: the fall of the explained class's probability as patches are covered, most relevant first."""

    patch: Annotated[int | list[int], one_or_more(whole(1)), "side in pixels"]
    steps: Annotated[int | None, maybe(whole(0)), "how many patches; null: all"]
    batch_size: Annotated[int, whole(1), "images at a time"]
    precision: Annotated[str, choice("fp32", "bf16"), "what is multiplied in"]
    fill: Annotated[str | list[str], one_or_more(choice(*FILLS)), "what covers"]

    def check(self, info: Info, device: str) -> None:
        from xmnist.runtime import devices

        largest, limit = max(listed(self.patch)), min(info.shape[1:])
        if largest > limit:
            raise InputError(f"metrics.aopc.patch={largest} is larger than the image: at most {limit}")
        devices.find_precision(self.precision, devices.find_device(device))

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        images, targets, seed = context.images, context.targets, context.seed
        rows: dict[str, list[pd.DataFrame]] = {"aopc": [], "aopc_curves": []}
        # Independent of fill and network, and therefore computed once for all of them.
        orders = {
            side: {"morf": patch_order(maps, side, seed), "lerf": patch_order(-maps, side, seed)}
            for side in listed(self.patch)
        }
        for name in listed(self.fill):
            covering = filling(name, images, seed)
            for side, both in orders.items():
                for kind, predict in self._predictions(context).items():
                    where = {**({"map": kind} if kind else {}), "patch": side, "fill": name}
                    falls = {
                        order: curves(predict, images, targets, patches, side, covering, self.steps, self.batch_size)
                        for order, patches in both.items()
                    }
                    areas = {order: aopc(values) for order, values in falls.items()}
                    last = {order: column_of(values[:, -1]) for order, values in areas.items()}
                    scores = {"aopc": last["morf"], "aopc_lerf": last["lerf"], "abpc": last["morf"] - last["lerf"]}
                    rows["aopc"].append(pd.DataFrame({**where, "image": context.numbers, **scores}))
                    for order, values in falls.items():
                        means = {"f": column_of(values.mean(0)), "aopc": column_of(areas[order].mean(0))}
                        step = np.arange(values.shape[1])
                        rows["aopc_curves"].append(pd.DataFrame({**where, "order": order, "step": step, **means}))
        return {name: pd.concat(parts) for name, parts in rows.items()}

    def _predictions(self, context: MapContext) -> dict[str, Predict]:
        """Return the networks for covered images, by name.

        A joint model has two: with the map of the whole image, and with the map recomputed for each covered image.
        """
        from xmnist.models.joint import Joint
        from xmnist.models.layers import batched
        from xmnist.runtime import devices

        network, device = context.network, context.images.device
        lowered = devices.autocast(devices.find_precision(self.precision, device), device)
        if not isinstance(network, Joint):
            return {"": lowered(lambda covered, _: network(covered).float())}
        maps = batched(network.explainer, context.images)
        return {
            "fixed": lowered(lambda covered, rows: network.gated(covered, maps[rows]).float()),
            "recomputed": lowered(lambda covered, _: network(covered).float()),
        }

    @classmethod
    def scores(cls, rows: pd.DataFrame) -> pd.DataFrame:
        if "map" not in rows:
            return super().scores(rows)
        by_map = {kind: super(Aopc, cls).scores(part) for kind, part in rows.groupby("map")}
        return by_map["fixed"].join(by_map["recomputed"].add_suffix("_recomputed"))

    def details(self, rows: pd.DataFrame, names: Sequence[str], seed: int) -> dict[str, tuple[pd.DataFrame, str]]:
        """Return AOPC by explainer, patch size and fill, with intervals and tests, corrected over the explainers."""
        table = tables.by_patch_and_fill(rows, names, seed)
        return {"aopc_table": (table, tables.grid(table, "aopc"))}

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Return charts of AOPC(L) and mean f(x_k): rows are patch sizes, columns are fills, lines are explainers."""
        curves, out = tables["aopc_curves"], dict[str, panels.Chart]()
        for kind in list(dict.fromkeys(curves["map"])) if "map" in curves else [""]:
            rows = curves[(curves["order"] == "morf") & (curves["map"] == kind if kind else True)]
            for column, name, y in (
                ("aopc", "aopc", "AOPC(L) (higher is better)"),
                ("f", "mean_f", "mean f(x) (lower is better)"),
            ):
                grid = [
                    [
                        Panel(
                            f"{side}x{side} patches, {str(fill).replace('_', ' ')}",
                            "patches covered, most relevant first",
                            y,
                            [line(str(n), p["step"], p[column]) for n, p in part.groupby("explainer", sort=False)],
                            methods=True,
                        )
                        for fill, part in of_side.groupby("fill", sort=False)
                    ]
                    for side, of_side in rows.groupby("patch", sort=False)
                ]
                title = f"{subject.chosen}\njoint model's map {kind}" if kind else subject.chosen
                out[f"{name}_{kind}" if kind == "recomputed" else name] = Lines(grid, title)
        return out
