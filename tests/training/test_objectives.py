import pytest
import torch
from torch import nn

from benchmarks.train import learning
from helpers import OPTIONS, build
from xmnist.data.base import Columns, Data
from xmnist.models.layers import fit_normalisation, freeze
from xmnist.training import loop, objectives


def explained(data: Data) -> nn.Module:
    torch.manual_seed(5)
    model = build("vgg_small", data.info.shape, len(data.info.classes), dropout=0.5)
    fit_normalisation(model, data.train.images)
    return freeze(model)


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def fit(task: objectives.Task, data: Data, epochs: int = 1) -> list[loop.Row]:
    options = learning({**OPTIONS, "epochs": epochs, "figures": task.figures})
    task.prepare()
    return loop.fit(task.model, task.loss, task.rows(), lambda: task.watch(data.validation), **options)


def cladec(model: nn.Module, data: Data, alpha: float = 0.5, layer: str = "dense") -> objectives.Task:
    torch.manual_seed(11)
    return objectives.cladec.cladec(model, data, layer=layer, decoder="published", alpha=alpha, reconstruction="sse")


@pytest.mark.parametrize("layer", ["conv", "dense", "logits"])
def test_the_classifier_does_not_move_while_cladec_trains(tiny_data: Data, layer: str) -> None:
    model = explained(tiny_data)
    before = state(model)
    task = cladec(model, tiny_data, layer=layer)
    decoder = state(task.model)
    fit(task, tiny_data)
    assert same(before, state(model)) and not model.training
    assert all(p.grad is None for p in model.parameters())
    assert not same(decoder, state(task.model))


def test_codes_computed_once_give_what_codes_computed_anew_give(
    tiny_data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for limit in (2**30, 0):
        monkeypatch.setattr(objectives.base, "CODES_AT_MOST", limit)
        task = cladec(explained(tiny_data), tiny_data)
        rows = task.rows()
        assert isinstance(rows, Columns) and [c.shape[1:] for c in rows.columns[2:]] == ([(128,)] if limit else [])
        fit(task, tiny_data, epochs=2)
        results.append(state(task.model))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("layer", ["conv", "dense"])
def test_codes_in_bfloat16_are_what_a_training_in_it_rounds_them_to(tiny_data: Data, layer: str) -> None:
    results = []
    for precision in ("fp32", "bf16"):
        torch.manual_seed(11)
        own = {"layer": layer, "decoder": "published", "alpha": 0.5, "reconstruction": "sse", "precision": precision}
        task = objectives.cladec.cladec(explained(tiny_data), tiny_data, **own)  # type: ignore[arg-type]
        rows = task.rows()
        assert isinstance(rows, Columns)
        assert rows.columns[2].dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
        options = learning({**OPTIONS, "precision": "bf16", "epochs": 2})
        loop.fit(task.model, task.loss, rows, lambda task=task: task.watch(tiny_data.validation), **options)  # type: ignore[misc]
        results.append(state(task.model))
    assert same(*results)


def test_the_whole_task_at_alpha_0_learns_nothing_from_the_classifier(tiny_data: Data) -> None:
    results = []
    for labels in (tiny_data.train.labels, (tiny_data.train.labels + 1) % 3):
        split = type(tiny_data.train)(tiny_data.train.images, labels)
        data = Data(split, tiny_data.validation, tiny_data.test, tiny_data.info)
        pair = []
        for alpha in (0.0, 0.5):
            task = cladec(explained(tiny_data), data, alpha=alpha)
            fit(task, data)
            pair.append(state(task.model))
        results.append(pair)
    assert same(results[0][0], results[1][0])  # alpha 0: the labels do not matter
    assert not same(results[0][1], results[1][1])  # alpha 0.5: they do


def test_refae_trains_encoder_and_decoder_and_leaves_the_classifier(tiny_data: Data) -> None:
    model = explained(tiny_data)
    before = state(model)
    torch.manual_seed(12)
    fresh = build("vgg_small", (1, 28, 28), 3, dropout=0.5)
    assert not torch.equal(fresh.get_submodule("dense.0").weight, model.get_submodule("dense.0").weight)
    task = objectives.cladec.refae(model, fresh, tiny_data, layer="dense", decoder="published", reconstruction="sse")
    start = state(task.model)
    fit(task, tiny_data)
    end = state(task.model)
    moved = {name for name in start if not torch.equal(start[name], end[name])}
    assert same(before, state(model))
    assert {"0.classifier.stem.0.weight", "0.classifier.dense.0.weight", "1.1.weight"} <= moved
    assert "0.classifier.logits.weight" not in moved  # it comes after the layer


def test_looking_at_a_code_does_not_move_batch_statistics(tiny_data: Data) -> None:
    fresh = build("vgg_small", (1, 28, 28), 3, dropout=0.5)
    before = state(fresh)
    objectives.cladec.refae(
        explained(tiny_data), fresh, tiny_data, layer="conv", decoder="published", reconstruction="mse"
    )
    assert same(before, state(fresh))


def test_the_classifier_task_learns(tiny_data: Data) -> None:
    torch.manual_seed(0)
    model = build("vgg_small", (1, 28, 28), 3, dropout=0.0)
    task = objectives.classifier.classifier(model, tiny_data)
    before = task.test(tiny_data.train)["loss"]
    options = learning({**OPTIONS, "lr": 1e-3, "epochs": 12})
    loop.fit(model, task.loss, task.rows(), lambda: task.test(tiny_data.validation), **options)
    assert task.test(tiny_data.train)["loss"] < before / 2


def test_figures_are_those_of_the_reconstructions(tiny_data: Data) -> None:
    model = explained(tiny_data)
    task = cladec(model, tiny_data, alpha=0.25)
    task.model.eval()
    assert task.reconstruct is not None
    made = task.reconstruct(tiny_data.test.images)
    figures = task.test(tiny_data.test)
    assert figures["reconstruction_mse"] == pytest.approx((made - tiny_data.test.images).square().mean().item())
    share = (model(made).argmax(1) == tiny_data.test.labels).float().mean().item()
    assert figures["accuracy"] == pytest.approx(share)
