import math

import pytest
import torch

from xmnist.metrics.classification import classification
from xmnist.metrics.localisation import mass_inside
from xmnist.metrics.reconstruction import reconstruction


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
    assert figures["reconstruction_sse"] == 1.0
    assert figures["reconstruction_mse"] == 0.25
    assert figures["accuracy"] == 0.5  # 0 of 0, 1 of 0, 0 of 1, 1 of 1
    assert figures["agreement"] == 0.75  # only the third changes its class
    assert figures["classification_loss"] == pytest.approx(4.5, abs=1e-3)
    assert figures["total_loss"] == pytest.approx(0.75 * 1.0 + 0.25 * figures["classification_loss"])


def test_total_loss_follows_the_convention() -> None:
    images, made, labels = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    logits = torch.zeros(2, 2)
    totals = {c: reconstruction(images, made, labels, logits, logits, 0.0, c)["total_loss"] for c in ("sse", "mse")}
    assert totals == {"sse": 4.0, "mse": 1.0}


def test_mass_inside_is_the_share_of_the_maps_size_in_the_mask() -> None:
    maps = torch.tensor([[1.0, -3.0], [0.0, 4.0]]).view(1, 1, 2, 2).repeat(4, 1, 1, 1)
    maps[3] = 0
    masks = torch.zeros(4, 1, 2, 2, dtype=torch.bool)
    masks[0, 0, 0] = True
    masks[1] = True
    masks[3] = True
    found = mass_inside(maps, masks)
    assert found[:2].tolist() == [0.5, 1.0] and found[2:].isnan().all()
