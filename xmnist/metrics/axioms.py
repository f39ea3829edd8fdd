"""Axioms that explanations should satisfy, and the sanity check by cascading parameter randomisation."""

from __future__ import annotations

from typing import Annotated

from xmnist.config.declarations import Column
from xmnist.config.rules import whole
from xmnist.explainers.configured import ConfiguredExplainer
from xmnist.metrics import panels
from xmnist.metrics.base import MapContext, MapMetric, Tables, column_of, metric
from xmnist.metrics.panels import Lines, Panel, line
from xmnist.runtime.lazy import F, Tensor, nn, pd, torch
from xmnist.runtime.seeds import derive_seed

TOUCHED = 1e-6
"""Share of a map's largest value above which a pixel is in the map, and of a logit above which it has changed."""


@metric(
    "axioms",
    columns=[
        Column("sensitivity_a", "share of single pixels that matter and are in the map", "higher", "1 is best"),
        Column("completeness_gap", "size of sum(map) - (f(x) - f(x0))", "lower", "0 where the axiom holds"),
        Column("conservation_gap", "size of sum(map) - f(x)", "lower", "0 where the axiom holds"),
        Column(
            "invariance_gap",
            "how much the map differs for the same function, written another way",
            "lower",
            "0 is best",
        ),
        Column(
            "reset_rank_correlation", "with the map of a network whose weights are all reset", best="near 0 is best"
        ),
        Column("reset_ssim", "structural similarity with the map of that network", best="near 0 is best"),
    ],
    help="completeness, sensitivity(a), implementation invariance, cascading parameter randomisation",
)
class Axioms(MapMetric):
    """Completeness or conservation, sensitivity(a), implementation invariance, cascading parameter randomisation."""

    count: Annotated[int, whole(1), "of the selected images"]
    pixels: Annotated[int, whole(1), "sensitivity(a): tried in each image"]

    def measure(self, context: MapContext, maps: Tensor) -> Tables:
        from xmnist.metrics import similarity
        from xmnist.models.interventions import reset_from_the_top, rewritten

        network, seed, explainer = context.network, context.seed, context.explainer
        images, targets, maps = context.images[: self.count], context.targets[: self.count], maps[: self.count]
        numbers, rows = context.numbers[: self.count], list[pd.DataFrame]()

        def add(axiom: str, values: Tensor, layer: str = "") -> None:
            rows.append(pd.DataFrame({"axiom": axiom, "layer": layer, "image": numbers, "value": column_of(values)}))

        gap = explainer.gap(network, images, targets, maps)
        if gap is not None:
            add(f"{explainer.explainer.axiom}_gap", gap)
        add("sensitivity_a", sensitivity(network, explainer, images, targets, self.pixels, seed))
        twin = explainer(rewritten(network, tuple(images.shape[1:]), seed), images, targets)
        add("invariance_gap", similarity.relative_difference(maps, twin))
        for layer, reset in reset_from_the_top(network, seed):
            reset_maps = explainer(reset, images, targets)
            add("reset_rank_correlation", similarity.rank_correlation(maps, reset_maps), layer)
            add("reset_ssim", similarity.structural_similarity(maps, reset_maps), layer)
        return {"axioms": pd.concat(rows)}

    @classmethod
    def scores(cls, rows: pd.DataFrame) -> pd.DataFrame:
        """Return one value per image and score: sizes of gaps, and similarities after all layers are randomised."""
        last = rows[rows["layer"] == rows.groupby("axiom")["layer"].transform("last")]
        # Gaps of opposite signs would cancel in a mean over images.
        wide = last.assign(value=last["value"].where(~last["axiom"].str.endswith("_gap"), last["value"].abs()))
        return wide.pivot(index=["explainer", "image"], columns="axiom", values="value")

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Return charts of the similarity to the original maps as layers are randomised."""
        rows = tables["axioms"]
        layers = list(dict.fromkeys(rows.loc[rows["axiom"] == "reset_ssim", "layer"]))
        axes = []
        for axiom, y in (("reset_rank_correlation", "rank correlation"), ("reset_ssim", "SSIM")):
            part = rows[rows["axiom"] == axiom]
            means = part.groupby(["explainer", "layer"], sort=False)["value"].mean()
            lines = [
                line(name, list(range(len(layers) + 1)), [1.0, *(means[name, layer] for layer in layers)])
                for name in dict.fromkeys(part["explainer"])
            ]
            title, x = f"{y} with the map of the trained network", "randomised layers, from the top"
            axes.append(Panel(title, x, f"{y} (near 0 is better)", lines, ["none", *layers], methods=True))
        title = f"{subject.title}, {rows['image'].nunique()} test images"
        return {"randomisation": Lines([axes], title, markers=True)}


def sensitivity(
    network: nn.Module, subject: ConfiguredExplainer, images: Tensor, targets: Tensor, pixels: int, seed: int
) -> Tensor:
    """Return sensitivity(a): the share (N,) of pixels that change the logit of a black image and are in its map.

    Each of up to `pixels` random pixels of an image is put alone into a black image, which is explained. The share is
    NaN if no pixel changes the logit.

    Source: Sundararajan et al., "Axiomatic attribution for deep networks", arXiv 1703.01365, section 2.1.
    """
    from xmnist.models.layers import batched

    count, where = len(images), (images != 0).any(1).flatten(1)
    pixels = min(pixels, where.shape[1])
    generator = torch.Generator().manual_seed(derive_seed(seed, "pixels of sensitivity(a)"))
    # Pixels that are not black come first: a black one would change nothing in a black image.
    drawn = (torch.rand(where.shape, generator=generator).to(images) + where).argsort(1, descending=True)[:, :pixels]
    alone = F.one_hot(drawn, where.shape[1]).view(-1, 1, *images.shape[2:])  # (N * pixels, 1, H, W)
    probe_targets = targets.repeat_interleave(pixels)
    probes = images.repeat_interleave(pixels, 0) * alone
    both = []
    for explained, part, classes in subject.parts(network, probes, probe_targets):
        logits = torch.cat([batched(explained, part), explained(torch.zeros_like(part[:1]))])
        both.append(torch.stack([logits[:-1].gather(1, classes[:, None])[:, 0], logits[-1, classes]]))
    after, before = torch.cat(both, 1)
    maps = subject(network, probes, probe_targets).abs().flatten(1)
    in_map = (maps * alone.flatten(1)).sum(1) > TOUCHED * maps.amax(1)
    # The absolute floor of 1 keeps rounding of a logit near 0 from counting as a change.
    matters = (after - before).abs() > TOUCHED * before.abs().clamp_min(1)
    return (in_map & matters).view(count, -1).sum(1) / matters.view(count, -1).sum(1)
