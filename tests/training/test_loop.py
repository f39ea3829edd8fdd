import copy
import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.train import learning
from helpers import OPTIONS
from xmnist.data.base import Columns
from xmnist.runtime import devices, machine
from xmnist.runtime.errors import InputError
from xmnist.training import loop


class Problem:
    """Linear regression with dropout, which makes every epoch depend on its random numbers."""

    def __init__(self, dropout: float = 0.2) -> None:
        torch.manual_seed(7)
        self.model = nn.Sequential(nn.Dropout(dropout), nn.Linear(5, 1)).double()
        self.x = torch.randn(30, 5, dtype=torch.float64)
        self.y = self.x @ torch.arange(5.0, dtype=torch.float64).view(5, 1) + 1

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.model(x), y)

    def validate(self) -> dict[str, float]:
        return {"loss": self.loss(self.x, self.y).item()}

    def fit(self, **options: Any) -> list[loop.Row]:
        return loop.fit(
            self.model, self.loss, Columns(self.x, self.y), self.validate, **learning({**OPTIONS, **options})
        )


def test_it_finds_the_least_squares_solution() -> None:
    problem = Problem(dropout=0.0)
    problem.fit(epochs=300, lr=0.1, schedule="one_cycle")
    layer = problem.model[1]
    torch.testing.assert_close(layer.weight.flatten(), torch.arange(5.0, dtype=torch.float64), rtol=1e-4, atol=1e-4)
    assert layer.bias.item() == pytest.approx(1, abs=1e-4)


def test_history_has_a_row_an_epoch_with_the_mean_loss_over_rows() -> None:
    problem = Problem(dropout=0.0)
    before = problem.validate()["loss"]
    history = problem.fit(lr=1e-12)  # 30 rows in batches of 8: the last batch is smaller and must count less
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[0]["train_loss"] == pytest.approx(before, rel=1e-6)
    assert history[-1]["val_loss"] == pytest.approx(before, rel=1e-6)
    assert all(row["seconds"] > 0 and row["images_per_second"] > 0 for row in history)


def test_every_epoch_visits_every_row_once_in_a_new_order() -> None:
    problem, seen = Problem(), []

    def spy(x: Tensor, y: Tensor) -> Tensor:
        seen.extend(x[:, 0].tolist())
        return problem.loss(x, y)

    loop.fit(problem.model, spy, Columns(problem.x, problem.y), problem.validate, **learning({**OPTIONS, "epochs": 2}))
    first, second = seen[:30], seen[30:]
    assert sorted(first) == sorted(second) == sorted(problem.x[:, 0].tolist())
    assert first != second


def test_bf16_multiplies_in_bf16_and_keeps_weights_in_float32() -> None:
    problem = Problem(dropout=0.0)
    problem.model.float()
    seen = set()
    problem.model[1].register_forward_hook(lambda module, args, output: seen.add((module.training, output.dtype)))
    x, y = problem.x.float(), problem.y.float()
    validate = lambda: {"loss": F.mse_loss(problem.model(x), y).item()}  # noqa: E731
    options = learning({**OPTIONS, "precision": "bf16", "epochs": 30, "lr": 0.1})
    history = loop.fit(problem.model, problem.loss, Columns(x, y), validate, **options)
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    assert {p.dtype for p in problem.model.parameters()} == {torch.float32}
    assert history[-1]["val_loss"] < 0.01 * history[0]["val_loss"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "step", "plateau"])
def test_resumed_equals_uninterrupted(optimizer: str, schedule: str) -> None:
    states: list[dict[str, Any]] = []
    whole = Problem()
    options = {"optimizer": optimizer, "schedule": schedule, "keep": "best"}
    history = whole.fit(**options, save=lambda state: states.append(copy.deepcopy(state)))
    for state in states[:-1]:
        resumed = Problem()
        rows = resumed.fit(**options, state=state)
        assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True))
        timeless = [[{k: v for k, v in r.items() if "second" not in k} for r in h] for h in (history, rows)]
        assert timeless[0] == timeless[1]


def test_the_seed_decides() -> None:
    weights = []
    for seed in (0, 0, 1):
        problem = Problem()
        problem.fit(seed=seed)
        weights.append(problem.model[1].weight.detach().clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [("constant", [0.08] * 4), ("step", [0.08, 0.04, 0.04, 0.02]), ("plateau", [0.08, 0.04, 0.02, 0.01])],
)
def test_learning_rates_after_each_epoch(schedule: str, rates: list[float]) -> None:
    problem = Problem()
    problem.validate = lambda: {"loss": 1.0}  # never falls: the plateau schedule steps after every epoch but the first
    history = problem.fit(schedule=schedule, lr=0.08)
    assert [row["lr"] for row in history] == pytest.approx(rates)


@pytest.mark.parametrize(("warmup", "epochs"), [(0.25, 1), (1.0, 1), (0.05, 5)])
def test_one_cycle_takes_every_warmup(warmup: float, epochs: int) -> None:
    assert len(Problem().fit(schedule="one_cycle", warmup=warmup, epochs=epochs)) == epochs


def test_sgd_keeps_its_momentum_under_one_cycle() -> None:
    ends = []
    for momentum in (0.0, 0.9):
        problem = Problem()
        problem.fit(optimizer="sgd", schedule="one_cycle", momentum=momentum)
        ends.append(problem.model[1].weight.detach().clone())
    assert not torch.allclose(ends[0], ends[1])


def test_one_cycle_goes_up_and_ends_near_zero() -> None:
    rates = [row["lr"] for row in Problem().fit(schedule="one_cycle", lr=0.1, epochs=10, warmup=0.3)]
    assert max(rates) == pytest.approx(0.1, rel=0.05) and rates.index(max(rates)) in (2, 3)
    assert rates[-1] < 1e-5


@pytest.mark.parametrize(("keep", "kept"), [("best", 2), ("last", 4)])
def test_it_keeps_the_best_or_the_last_weights(keep: str, kept: int) -> None:
    problem, weights = Problem(), []
    losses = iter([3.0, 1.0, 2.0, 2.0])

    def validate() -> dict[str, float]:
        weights.append(problem.model[1].weight.detach().clone())
        return {"loss": next(losses)}

    problem.validate = validate
    problem.fit(keep=keep)
    assert torch.equal(problem.model[1].weight, weights[kept - 1])


@pytest.mark.parametrize(("delta", "epochs"), [(0.0, 10), (0.5, 3)])
def test_early_stopping(delta: float, epochs: int) -> None:
    problem, losses = Problem(), itertools.count(10, -0.1)
    problem.validate = lambda: {"loss": next(losses)}
    assert len(problem.fit(epochs=10, stop_patience=1, stop_delta=delta)) == epochs


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_loss_that_is_not_finite_stops_and_names_the_place(epoch: int) -> None:
    problem, calls, saved = Problem(), itertools.count(1), []
    bad = 4 * (epoch - 1) + 3  # 4 steps an epoch; the third one

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return problem.loss(x, y) * (math.nan if next(calls) == bad else 1.0)

    with pytest.raises(loop.NotFiniteError, match=f"nan in epoch {epoch}, step 3"):
        loop.fit(
            problem.model, loss, Columns(problem.x, problem.y), problem.validate, **learning(OPTIONS), save=saved.append
        )
    assert len(saved) == epoch - 1


def test_a_validation_loss_that_is_not_finite_stops() -> None:
    problem = Problem()
    problem.validate = lambda: {"loss": math.inf}
    with pytest.raises(loop.NotFiniteError, match="validation loss is inf after epoch 1"):
        problem.fit()


def test_frozen_parameters_stay() -> None:
    problem = Problem()
    problem.model[1].bias.requires_grad_(False)
    before = problem.model[1].bias.clone()
    problem.fit(optimizer="adamw", weight_decay=0.5)
    assert torch.equal(problem.model[1].bias, before)


@pytest.mark.parametrize("damage", ["model", "optimizer", "history"])
def test_a_state_of_another_training_is_refused(damage: str) -> None:
    states: list[dict[str, Any]] = []
    Problem().fit(epochs=1, save=lambda state: states.append(copy.deepcopy(state)))
    state = states[0]
    if damage == "model":
        state["model"] = nn.Linear(3, 3).state_dict()
    else:
        del state[damage]
    with pytest.raises(loop.StateError):
        Problem().fit(state=state)


def test_each_part_learns_at_its_own_rate() -> None:
    """One step of plain gradient descent moves a part by its rate times the gradient; what is frozen stays."""
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.randn(12, 1, dtype=torch.float64)
    moved = {}
    for rates in ({"0": 0.01, "1": 0.01}, {"0": 0.03, "1": 0.02}, {"0": 0.0, "1": 0.01}):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)).double()
        model[0].requires_grad_(bool(rates["0"]))
        start = copy.deepcopy(model.state_dict())
        options = learning({**OPTIONS, "optimizer": "sgd", "momentum": 0.0, "epochs": 1, "batch_size": 12, "lr": rates})
        loss = partial(lambda network, a, b: F.mse_loss(network(a), b), model)
        loop.fit(model, loss, Columns(x, y), lambda: {"loss": 0.0}, **options)
        moved[tuple(rates.values())] = [(model.state_dict()[f"{i}.weight"] - start[f"{i}.weight"]) for i in (0, 1)]
    (a, b), (c, d), (e, f) = moved.values()
    torch.testing.assert_close(c, 3 * a)
    torch.testing.assert_close(d, 2 * b)
    torch.testing.assert_close(f, b)
    assert not e.any() and a.any()


def test_plateau_stops_at_the_lowest_rate() -> None:
    problem = Problem()
    history = problem.fit(schedule="plateau", lr=0.1, factor=0.1, patience=0, min_lr=0.004, epochs=8, optimizer="sgd",
                          batch_size=30, momentum=0.99)  # fmt: skip
    assert min(row["lr"] for row in history) == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("name", "device", "vendor", "features", "used"),
    [
        ("auto", "cpu", "AuthenticAMD", {"avx512_bf16": True}, "bf16"),
        ("auto", "cpu", "GenuineIntel", {"avx512_bf16": True}, "fp32"),
        ("auto", "cpu", "GenuineIntel", {"avx512_bf16": True, "amx_bf16": True}, "bf16"),
        ("auto", "cpu", "AuthenticAMD", {"avx2": True, "avx512_bf16": False}, "fp32"),
        ("auto", "mps", "", {"avx512_bf16": True}, "fp32"),
        ("fp32", "cpu", "AuthenticAMD", {"avx512_bf16": True}, "fp32"),
        ("bf16", "cpu", "", {}, "bf16"),
    ],
)
def test_auto_is_bf16_where_the_hardware_is_faster_so(
    name: str, device: str, vendor: str, features: dict[str, bool], used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    monkeypatch.setattr(machine, "_processor", lambda: f"vendor_id : {vendor}")
    assert devices.find_precision(name, torch.device(device)) == used


def test_a_device_without_bf16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="precision=bf16: mps has no bfloat16"):
        devices.find_precision("bf16", torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert devices.find_precision("auto", torch.device("cuda")) == "fp32"


def test_a_last_image_alone_joins_the_batch_before_it_where_there_is_batchnorm() -> None:
    order = torch.randperm(9)
    plain, normed = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert [len(rows) for rows in loop._batches(order, 4, plain)] == [4, 4, 1]
    batches = loop._batches(order, 4, normed)
    assert [len(rows) for rows in batches] == [4, 5] and torch.equal(torch.cat(batches), order)
    assert [len(rows) for rows in loop._batches(order[:8], 4, normed)] == [4, 4]
    assert [len(rows) for rows in loop._batches(order[:1], 4, normed)] == [1]
