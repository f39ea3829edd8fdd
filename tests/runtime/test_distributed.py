"""Two processes that train one model end with what one process ends with."""

import copy
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.multiprocessing import start_processes

from benchmarks.train import learning
from helpers import OPTIONS, TINY, build, ended, started, type_
from xmnist.data.base import Columns, Data, Info, Split
from xmnist.data.sets.folder import Folder
from xmnist.models import joint
from xmnist.models.layers import Dropout
from xmnist.runtime import devices, distributed, processes
from xmnist.runtime.errors import InputError
from xmnist.training import loop, losses, objectives

SIZE = 16
PAIR = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}

Found = dict[str, Any]


def data(train: int) -> Data:
    """Random images in float64, in which other orders of adding make no difference that is seen; classes are uneven."""
    torch.manual_seed(1)

    def split(count: int) -> Split:
        images, masks = torch.rand(count, 1, SIZE, SIZE, dtype=torch.float64), torch.zeros(count, 1, SIZE, SIZE)
        masks[1:, :, 4:9, 4:9] = 1  # the first has no object
        return Split(images, (torch.arange(count) ** 2) % 3, masks.bool())

    images = Data(split(train), split(7), split(7), Info((1, SIZE, SIZE), ("a", "b", "c"), masks=True)).balanced()
    assert images.class_weights is not None
    return replace(images, class_weights=images.class_weights.double())


def fit(task: objectives.Task, held: Split, **options: Any) -> list[loop.Row]:
    task.prepare()
    watch = lambda: distributed.measured(task.watch, held)  # noqa: E731
    # Adam's usual eps would make steps of gradients that are nothing but rounding.
    options = learning({**OPTIONS, "epochs": 2, "eps": 1e-4, "figures": task.figures, **options})
    rows = loop.fit(task.model, task.loss, task.rows(), watch, **options)
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def built(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(2)
    return build(name, (1, SIZE, SIZE), 3, **options).double()


def plain(width: int = 4) -> nn.Module:
    """A classifier with dropout and without BatchNorm."""
    return built("vgg_xml", dropout=0.5, width=width, batch_norm=False)


def classifier(folder: Path, model: nn.Module, train: int = 21) -> Found:
    """Dropout and class weights; 8 + 8 + 5 rows, of which the second process has one more than the first."""
    images = data(train)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(processes.rank())  # drawn on another machine
    return {
        "rows": fit(objectives.classifier.classifier(model, images), images.validation),
        "model": model.state_dict(),
    }


def resumed(folder: Path) -> Found:
    """One epoch, and another one from what was saved after it."""
    states: list[dict[str, Any]] = []
    images = data(21)
    task = objectives.classifier.classifier(plain(), images)
    fit(task, images.validation, save=lambda state: states.append(copy.deepcopy(state)))
    task = objectives.classifier.classifier(plain(), images)
    rows = fit(task, images.validation, state=states[0])
    return {"rows": rows, "model": task.model.state_dict()}


def phases(folder: Path) -> Found:
    """A joint model that is to keep to its masks, in its three phases; without BatchNorm."""
    images = data(19)
    torch.manual_seed(3)
    explainer = joint.Explainer((1, SIZE, SIZE), width=2, depth=2, init_bias=0.5).double()
    explainer.head[1] = nn.Identity()
    model = joint.Joint(plain(width=2), explainer)
    rows = []
    for alpha, frozen in zip((1.0, 0.25, 0.9), (("explainer",), ("classifier",), ()), strict=True):
        task = objectives.joint.joint(model, images, frozen, alpha, beta=0.5, gamma=1.0, loss="hybrid")
        rows += fit(task, images.validation, lr={"classifier": 0.01, "explainer": 0.01}, optimizer="sgd")
    return {"rows": rows, "model": model.state_dict()}


def decoder(folder: Path) -> Found:
    """A decoder of codes that are kept."""
    explained, images = built("cam_net", width=2).eval(), data(9)
    task = objectives.cladec.cladec(explained, images, "features", "conv64", alpha=0.5, reconstruction="mse")
    task.model.double()
    return {"rows": fit(task, images.validation, lr=1e-3), "model": task.model.state_dict()}


def variational_decoder(folder: Path) -> Found:
    """Points that are drawn."""
    explained, images = built("cam_net", width=2).eval(), data(9)
    task = objectives.vae.cladec_vae(explained, images, "logits", latent=2, beta=1.0, alpha=0.5)
    task.model.double()
    return {"rows": fit(task, images.validation, lr=1e-3), "model": task.model.state_dict()}


def autoencoder(folder: Path) -> Found:
    """The classifier's last layers are no part of it, and must not decay."""
    images = data(9)
    explained = built("cam_net", width=2).eval()
    task = objectives.cladec.refae(explained, plain(), images, "conv2", "conv64", "sse")
    task.model.double()
    return {"rows": fit(task, images.validation, lr=1e-3, weight_decay=0.1), "model": task.model.state_dict()}


def variational(folder: Path) -> Found:
    """Points that are drawn, in an encoder with dropout that learns too."""
    images = data(9)
    explained = built("cam_net", width=2).eval()
    task = objectives.vae.refvae(explained, plain(), images, "dense1", latent=2, beta=1.0)
    task.model.double()
    return {"rows": fit(task, images.validation, lr=1e-3), "model": task.model.state_dict()}


def norm(folder: Path, count: int) -> Found:
    """One batch through BatchNorm of maps and of vectors: each process normalises its own rows, where it has two."""
    torch.manual_seed(4)
    convolution = nn.Conv2d(2, 3, 3, padding=1)
    last = nn.BatchNorm1d(48) if count > 1 else nn.Identity()
    model = nn.Sequential(nn.BatchNorm2d(2), convolution, nn.Flatten(), last).double()
    images = 3 * torch.randn(count, 2, 4, 4, dtype=torch.float64) + 5
    wanted = torch.randn(count, 48, dtype=torch.float64)

    def loss(rows: slice) -> Tensor:
        return (model(images[rows]) - wanted[rows]).square().mean()

    if processes.count() > 1:
        assert distributed.normalises_apart(model)
        share, step = distributed.share(count), distributed.parallel(model, loss)
        value = step(share.rows) * share.scale
        value.backward()
        mean = distributed.summed(value.detach() / 2)
        distributed.share_buffers(model)
    else:
        parts, before = ([slice(0, count // 2), slice(count // 2, count)] if count >= 4 else [slice(0, count)]), None
        mean = torch.zeros(())
        for rows in parts:
            mean = mean + len(images[rows]) / count * loss(rows)
            before = before or copy.deepcopy(model.state_dict())
        mean.backward()
        assert before is not None
        model.load_state_dict(before)  # the running statistics are those of the first process
    return {"mean": mean, "gradients": [p.grad for p in model.parameters()], "model": model.state_dict()}


def dropout(folder: Path) -> Found:
    torch.manual_seed(6)
    images = torch.ones(5, 4, dtype=torch.float64)
    share, made = distributed.share(5), torch.zeros_like(images)
    with distributed.batch(share):
        made[share.rows] = Dropout(0.5)(images[share.rows])
    return {"sum of outputs": made, "next": torch.rand(1)}


def not_finite(folder: Path) -> Found:
    """A loss that is not a number in the rows of one process alone."""
    values = torch.ones(12, 1)
    torch.manual_seed(loop.derive_seed(0, "epoch 1"))
    values[torch.randperm(12)[7]] = torch.nan  # the last of the second batch
    model = nn.Linear(1, 1)
    model.requires_grad_()
    source, options = Columns(values), learning({**OPTIONS, "batch_size": 4, "epochs": 1})
    with pytest.raises(loop.NotFiniteError) as error:
        loop.fit(model, lambda x: model(x).square().mean(), source, lambda: {"loss": 0.0}, **options)
    return {"says": str(error.value)}


def streamed(folder: Path) -> Found:
    """Images from disk, augmented: each process reads its own, which are those that one would have."""
    options: dict[str, Any] = {"size": 8, "channels": 3, "masks": "none", "test": 0.2, "seed": 0, "aug_prob": 0.5}
    images = Folder(path=str(folder), class_weights=None, stream=True, workers=0, **options)
    train, *_ = images.parts("")
    batches = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).split(5)
    own = [distributed.share(len(rows)) for rows in batches]
    read = train.source("images", "labels").batches([b[s.rows] for b, s in zip(batches, own, strict=True)], seed=1)
    made = torch.zeros(len(train), 3, 8, 8)
    for number, (share, (images, labels)) in enumerate(zip(own, read, strict=True)):
        assert len(images) == len(labels) == share.rows.stop - share.rows.start
        made[5 * number :][share.rows] = images
    return {"moments": torch.stack(train.images.moments()), "sum of images": made}


def agreement(folder: Path) -> Found:
    """The first process decides, and others do not hear of what it does by itself."""
    if not processes.rank():
        with distributed.alone():
            assert distributed.share(10).rows == slice(0, 10)
            assert distributed.agreed("alone") == "alone"
    return {"agreed": distributed.agreed(f"by {processes.rank()}")}


JOBS: dict[str, Callable[[Path], Found]] = {
    "classifier": lambda folder: classifier(folder, plain()),
    "dropout between convolutions": lambda folder: classifier(folder, built("dropout_cnn", dropout=0.5)),
    "last batch of three rows": lambda folder: classifier(folder, plain(), 19),
    "last batch of one row": lambda folder: classifier(folder, plain(), 17),
    "resumed": resumed,
    "phases": phases,
    "decoder": decoder,
    "variational decoder": variational_decoder,
    "autoencoder": autoencoder,
    "variational": variational,
    **{f"norm of {count}": lambda folder, count=count: norm(folder, count) for count in (8, 7, 3, 2, 1)},
    "dropout": dropout,
    "not finite": not_finite,
    "streamed": streamed,
    "agreement": agreement,
}


def work(rank: int, port: int, folder: Path) -> None:
    os.environ.update(PAIR, RANK=str(rank), LOCAL_RANK=str(rank), MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with distributed.started(torch.device("cpu")):
        torch.save({name: job(folder / "images") for name, job in JOBS.items()}, folder / f"{rank}.pt")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty tiny images in two classes."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.manual_seed(5)
    for place in range(30):
        path = folder / "images" / "ab"[place % 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((torch.rand(8, 8, 3) * 255).byte().numpy()).save(path)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Found]]:
    """What each of two processes makes of all jobs."""
    start_processes(work, (free_port(), folder), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("name", JOBS)
def test_two_processes_end_with_what_one_ends_with(name: str, found: list[dict[str, Found]], folder: Path) -> None:
    expected, both = JOBS[name](folder / "images"), [each[name] for each in found]
    # In float64 only the order of the sums differs; a joint model's explanation loss is computed in float32.
    close = {"rtol": 1e-4, "atol": 1e-6} if name == "phases" else {"rtol": 1e-7, "atol": 1e-9}
    for key, value in expected.items():
        if key.startswith("sum of"):
            torch.testing.assert_close(both[0][key] + both[1][key], value, **close)
            continue
        for own in both:
            if isinstance(value, str):
                assert own[key] == value
            else:
                torch.testing.assert_close(own[key], value, **close)
    if "model" in expected:  # nor do the two drift apart
        torch.testing.assert_close(both[0]["model"], both[1]["model"], rtol=0, atol=0)


def test_a_share_is_of_whole_rows_and_weighs_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_size", 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "_rank", rank)
        shares.append(distributed.share(8))
        assert shares[rank].scale == 3 * shares[rank].weights[rank]
        assert distributed.share(5) == distributed.Share(5, slice(0, 5), (1 / 3,) * 3)
    assert [(share.rows.start, share.rows.stop) for share in shares] == [(0, 2), (2, 5), (5, 8)]
    assert shares[0].weights == (2 / 8, 3 / 8, 3 / 8)


def test_class_weights_of_one_process_are_torchs() -> None:
    logits, labels, weights = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 2]), torch.tensor([1.0, 2.0, 0.5])
    assert losses.cross_entropy(logits, labels, weights) == nn.functional.cross_entropy(logits, labels, weights)


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {**PAIR, "RANK": "1", "LOCAL_RANK": "1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert devices.find_device("auto") == devices.find_device("cuda") == torch.device("cuda:1")
    with pytest.raises(InputError, match="device=cuda gives each its own"):
        devices.find_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="device=cuda:2: there is none here"):
        devices.find_device("auto")


def clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("XMNIST_", "HYDRA_"))}


def torchrun(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "xmnist", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=clean(), stdout=pipe, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_the_command_line_under_torchrun(xmnist: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "work"
    # Plain descent in small steps, in which rounding does not grow to what could be seen.
    words = ["train", *TINY, "alpha=0.5", "trainer.optimizer=sgd", "trainer.lr=0.001", "trainer.decoder.lr=0.00001"]
    words += ["classifier=dropout_cnn"]
    training = torchrun(*words, "out_dir=two", folder=folder)
    answer, _ = training.communicate(timeout=200)
    assert not training.returncode, answer
    assert len(re.findall("^epoch 2/2 ", answer, re.MULTILINE)) == 2, answer  # the classifier's and the decoder's
    assert xmnist(*words, "out_dir=one").returncode == 0

    one, two = ({p.relative_to(folder / name): p for p in (folder / name).rglob("*")} for name in ("one", "two"))
    assert one.keys() == two.keys()
    for path in (path for path in one if path.name == "metrics.json"):
        alone, both = (json.loads(files[path].read_text()) for files in (one, two))
        for name in alone.keys() - {"seconds", "images_per_second"}:
            assert both[name] == pytest.approx(alone[name], rel=1e-4), (path, name)
        alone, both = (torch.load(files[path.with_name("model.pt")]) for files in (one, two))
        # Steps are 1e-3 of a weight's size; sums in float32 over a batch's pixels are good for 1e-4 of what they sum.
        torch.testing.assert_close(both, alone, rtol=1e-3, atol=2e-4)
        alone, both = (json.loads(files[path.with_name("environment.json")].read_text()) for files in (one, two))
        assert (alone["processes"], both["processes"]) == (1, 2)

    # Once more, and a network with BatchNorm: as torchrun would start them, but in processes that begin at once.
    for number, again in enumerate(([*words, "out_dir=two"], ["train", *TINY, "model=classifier"])):
        said, port = str(tmp_path / f"said{number}"), str(free_port())
        where = [clean() | PAIR | {"RANK": rank, "LOCAL_RANK": rank, "MASTER_PORT": port} for rank in "01"]
        processes = [started(type_, again, folder, each, (said, said)) for each in where]
        assert [ended(process) for process in processes] == [0, 0]
    first, second = (Path(tmp_path / f"said{number}").read_text() for number in (0, 1))
    assert first.count("already done: ") == 1
    assert second.count("BatchNorm has the statistics of each process's own rows") == 1 and "BatchNorm" not in answer


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["train", "-m", *TINY, "alpha=0,0.5"], "leave -m out"),
        (["explain", *TINY], "start xmnist explain without it"),
    ],
)
def test_torchrun_is_for_one_training(
    words: list[str], answer: str, xmnist: Callable[..., Any], tmp_path: Path
) -> None:
    refused = xmnist(*words, **PAIR, RANK="0", LOCAL_RANK="0", MASTER_PORT="1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"xmnist: torchrun trains one model at a time: {answer}\n"
    assert not list((tmp_path / "work").iterdir())
