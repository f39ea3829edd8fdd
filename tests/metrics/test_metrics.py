import math

import numpy as np
import pytest
import torch
from torch import Tensor

from xmnist.metrics.classification import POINTS, Curve, classification, corners, report
from xmnist.metrics.localisation import mass_inside, pointing_game, rank_inside
from xmnist.metrics.pompom import pompom
from xmnist.metrics.reconstruction import reconstruction
from xmnist.metrics.similarity import rank_correlation, relative_difference, structural_similarity
from xmnist.metrics.statistics import holm, interval, paired_test


def test_classification_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    figures = classification(logits, torch.tensor([0, 0, 0]))
    losses = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e)]
    assert figures == {"accuracy": pytest.approx(2 / 3), "loss": pytest.approx(sum(losses) / 3)}


def test_reconstruction_by_hand() -> None:
    images, made = torch.zeros(4, 1, 2, 2), torch.full((4, 1, 2, 2), 0.5)
    labels = torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [0.0, 9.0]])
    on_made = torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]])
    figures = reconstruction(images, made, labels, logits, on_made, alpha=0.25, convention="sse")
    assert figures["reconstruction_sse"].tolist() == [1.0] * 4
    assert figures["reconstruction_mse"].tolist() == [0.25] * 4
    assert figures["accuracy"].tolist() == [1, 0, 0, 1]
    assert figures["agreement"].tolist() == [1, 1, 0, 1]
    assert figures["classification_loss"].tolist() == pytest.approx([0, 9, 9, 0], abs=1e-3)
    torch.testing.assert_close(figures["total_loss"], 0.75 + 0.25 * figures["classification_loss"])


def test_total_loss_follows_the_convention() -> None:
    images, made, labels = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    logits = torch.zeros(2, 2)
    totals = {c: reconstruction(images, made, labels, logits, logits, 0.0, c)["total_loss"] for c in ("sse", "mse")}
    assert {c: total.tolist() for c, total in totals.items()} == {"sse": [4.0, 4.0], "mse": [1.0, 1.0]}


def test_mass_inside_is_the_share_of_the_maps_size_in_the_mask() -> None:
    maps = torch.tensor([[1.0, -3.0], [0.0, 4.0]]).view(1, 1, 2, 2).repeat(4, 1, 1, 1)
    maps[3] = 0
    masks = torch.zeros(4, 1, 2, 2, dtype=torch.bool)
    masks[0, 0, 0] = True
    masks[1] = True
    masks[3, 0, 0, 0] = True
    found = mass_inside(maps, masks)
    assert found[[0, 1, 3]].tolist() == [0.5, 1.0, 0.25] and found[2].isnan()


def one(values: list[list[float]]) -> Tensor:
    """A map of one image."""
    return torch.tensor(values)[None, None]


def test_rank_inside_is_the_share_of_the_largest_values_in_the_mask() -> None:
    mask = one([[1, 1, 0], [0, 0, 0]]).bool()
    assert rank_inside(one([[9.0, -8.0, 1.0], [0.0, 0.0, 0.0]]), mask).item() == 1.0
    assert rank_inside(one([[9.0, 1.0, 8.0], [0.0, 0.0, 0.0]]), mask).item() == 0.5
    assert rank_inside(one([[0.0, 1.0, 8.0], [7.0, 0.0, 0.0]]), mask).item() == 0.0
    assert rank_inside(torch.zeros(1, 1, 2, 3), mask).item() == pytest.approx(2 / 6)  # all tie: by chance
    assert rank_inside(one([[5.0, 1.0, 1.0], [1.0, 0.0, 0.0]]), mask).item() == pytest.approx((1 + 1 / 3) / 2)
    assert rank_inside(torch.ones(1, 1, 2, 3), torch.zeros_like(mask)).isnan().all()


def test_pointing_game_looks_at_the_largest_value() -> None:
    mask = one([[1, 1, 0], [0, 0, 0]]).bool()
    assert pointing_game(one([[0.0, -8.0, 1.0], [0.0, 0.0, 0.0]]), mask).item() == 1.0
    assert pointing_game(one([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]]), mask).item() == 0.0
    assert pointing_game(one([[4.0, 0.0, 4.0], [4.0, 4.0, 0.0]]), mask).item() == 0.25
    assert pointing_game(torch.ones(1, 1, 2, 3), torch.zeros_like(mask)).isnan().all()


def test_pompom_is_the_share_of_the_outside_where_the_map_is_positive() -> None:
    mask = one([[1, 1, 0], [0, 0, 0]]).bool()
    assert pompom(one([[3.0, 3.0, 0.0], [0.0, 0.0, 0.0]]), mask).item() == 0.0
    assert pompom(one([[0.0, 0.0, 1.0], [2.0, 3.0, 4.0]]), mask).item() == pytest.approx(1.0, abs=1e-6)
    assert pompom(one([[9.0, 0.0, -1.0], [0.0, 0.0, 4.0]]), mask).item() == pytest.approx(0.5, abs=1e-6)
    assert pompom(torch.zeros(1, 1, 2, 3), mask).item() == 0.0
    assert pompom(torch.ones(1, 1, 2, 3), torch.ones_like(mask)).item() == 0.0  # nothing is outside
    assert pompom(one([[1e6, 0.0, 0.5], [0.0, 0.0, 2.0]]), mask).item() == pytest.approx(0.25, abs=1e-6)  # scaled first


def test_report_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    scores = torch.tensor([[5, 1, 0], [4, 0, 1], [1, 3, 0], [0, 2, 1], [3, 2, 0], [0, 1, 2]]).float()
    found = report(scores, labels, ("a", "b", "c"))
    rows = {row["class"]: row for row in found.rows}
    assert list(rows) == ["a", "b", "c", "micro", "macro", "weighted"]
    assert list(rows["a"]) == ["class", "precision", "recall", "f1", "support", "auc", "ap"]
    assert rows["a"]["precision"] == rows["a"]["recall"] == rows["a"]["f1"] == pytest.approx(2 / 3)
    assert (rows["b"]["precision"], rows["b"]["recall"]) == (0.5, 0.5) and rows["c"]["f1"] == 1.0
    assert [rows[name]["support"] for name in rows] == [3, 2, 1, 6, 6, 6]
    assert rows["micro"]["f1"] == pytest.approx(4 / 6)
    assert rows["macro"]["precision"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert rows["weighted"]["recall"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1) / 6)
    assert found.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 1]]
    likely = scores.softmax(1)
    for k, name in enumerate(("a", "b", "c")):  # AUC: how often one of the class scores above one that is not
        pairs = [(x > y).float() + (x == y) / 2 for x in likely[labels == k, k] for y in likely[labels != k, k]]
        assert rows[name]["auc"] == pytest.approx(torch.stack(pairs).mean().item())
    flat, there = likely.flatten(), torch.nn.functional.one_hot(labels, 3).flatten().bool()
    pairs = [(x > y).float() + (x == y) / 2 for x in flat[there] for y in flat[~there]]
    assert rows["micro"]["auc"] == pytest.approx(torch.stack(pairs).mean().item(), abs=1e-6)
    order = there[flat.argsort(descending=True)].double()
    precision = order.cumsum(0) / torch.arange(1, len(order) + 1)
    assert rows["micro"]["ap"] == pytest.approx((precision * order).sum().item() / 6, abs=0.02)  # up to ties
    assert [curve.name for curve in found.roc] == ["a", "b", "c", "micro"]
    assert all(curve.x[0] == 0 and curve.x[-1] == 1 for curve in found.roc)


def test_a_curve_keeps_its_corners_and_its_area() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.75, 1.0, 1.0])
    y = torch.tensor([0.0, 0.25, 0.5, 0.5, 0.75, 1.0, 1.0])
    kept = corners(Curve("a", x, y, 0.7))
    assert kept.x.tolist() == [0, 0, 0.5, 1] and kept.y.tolist() == [0, 0.5, 0.5, 1] and kept.area == 0.7
    steps = torch.rand(2, 5000, generator=generator).cumsum(1)
    x, y = steps / steps[:, -1:]
    kept = corners(Curve("many", x, y, 0.5))
    assert len(kept.x) == POINTS and kept.x[[0, -1]].tolist() == x[[0, -1]].tolist()
    assert torch.trapezoid(kept.y, kept.x) == pytest.approx(torch.trapezoid(y, x).item(), abs=1e-3)
    empty = Curve("none", torch.empty(0), torch.empty(0), float("nan"))
    assert not len(corners(empty).x)


def test_a_class_without_an_image_has_no_figures() -> None:
    found = report(torch.eye(3), torch.tensor([0, 1, 1]), ("a", "b", "c"))
    rows = {row["class"]: row for row in found.rows}
    assert all(math.isnan(rows["c"][key]) for key in ("precision", "recall", "f1", "auc", "ap"))
    assert rows["macro"]["recall"] == pytest.approx((1 + 0.5) / 2) and rows["weighted"]["recall"] == pytest.approx(
        2 / 3
    )


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(0.3, 1.0, (400, 80))
    found = [interval(values, seed=n) for n, values in enumerate(samples)]
    assert 0.91 < np.mean([low <= 0.3 <= high for low, high in found]) < 0.98
    assert interval(samples[0], 1) == interval(samples[0], 1) != interval(samples[0], 2)
    assert 0.8 < (found[0][1] - found[0][0]) / (2 * 1.96 * samples[0].std() / 80**0.5) < 1.2


def test_intervals_of_next_to_nothing() -> None:
    assert all(map(math.isnan, interval(np.array([1.0]), 0))) and all(map(math.isnan, interval(np.array([]), 0)))
    assert interval(np.full(9, 0.25), 0) == (0.25, 0.25)


def test_paired_test_by_hand() -> None:
    others = np.zeros(6)
    assert paired_test(np.array([1.0, 2, 3, 4, 5, 6]), others) == pytest.approx(2 / 2**6)
    assert paired_test(np.array([1.0, -2, 3, -4, 5, -6]), others) > 0.5
    assert paired_test(others, others) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    found = holm([0.02, math.nan, 0.04])
    assert math.isnan(found[1]) and [found[0], found[2]] == pytest.approx([0.04, 0.04])


def test_similarity_of_maps() -> None:
    maps = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for measure in (rank_correlation, structural_similarity):
        assert measure(maps, maps).tolist() == pytest.approx([1.0] * 3)
        assert measure(maps, 7 * maps).tolist() == pytest.approx([1.0] * 3)
        assert (measure(maps, maps.flip(0))[[0, 2]].abs() < 0.3).all()
    assert rank_correlation(maps, maps.exp()).tolist() == pytest.approx([1.0] * 3)
    assert rank_correlation(maps, -maps).tolist() == pytest.approx([-1.0] * 3)
    flat = torch.zeros_like(maps)
    assert rank_correlation(maps, flat).tolist() == [0.0] * 3 and rank_correlation(flat, flat).tolist() == [1.0] * 3
    assert structural_similarity(flat, flat).tolist() == pytest.approx([1.0] * 3)
    assert relative_difference(maps, maps).tolist() == relative_difference(flat, flat).tolist() == [0.0] * 3
    assert relative_difference(maps, flat).tolist() == relative_difference(flat, maps).tolist() == [1.0] * 3
    for one, other in ((maps, 2 * maps), (2 * maps, maps)):
        assert relative_difference(one, other).tolist() == pytest.approx([0.5] * 3)
    assert relative_difference(maps, -maps).tolist() == pytest.approx([2.0] * 3)
