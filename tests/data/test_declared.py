"""Data sets and selections that somebody declares, and what the built-in ones answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import torch
from torch import Tensor

from xmnist import data
from xmnist.config import defaults
from xmnist.config.declarations import DATASETS, SELECTIONS
from xmnist.config.rules import CLASS, whole
from xmnist.data.base import Info, Split
from xmnist.data.dataset import Dataset, dataset
from xmnist.data.selection import Selection, selection
from xmnist.runtime.errors import InputError


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """What a test declares is known in this test only."""
    known = [(group, dict(group._all)) for group in (DATASETS, SELECTIONS)]
    yield
    for group, before in known:
        group._declared.clear()
        group._declared.update(before)


def declared() -> None:
    @dataset("stripes", title="Stripes", shape=(1, 28, 28), classes=("across", "along"), drawn=True)
    def stripes(
        *, train: Annotated[int, whole(20)] = 200, test: Annotated[int, whole(1)] = 50, seed: int = 0
    ) -> tuple[Split, Split]:
        """Stripes across or along."""

        def drawn(count: int, seed: int) -> Split:
            labels = torch.randint(2, (count,), generator=torch.Generator().manual_seed(seed))
            along = (torch.arange(28) % 4 < 2).float().expand(count, 1, 28, 28)
            return Split(torch.where(labels.bool()[:, None, None, None], along, along.mT), labels)

        return drawn(train, seed), drawn(test, seed + 1)


def test_a_function_is_a_data_set_with_defaults_and_checks_of_its_own() -> None:
    declared()
    made = data.dataset_of({"name": "stripes", "test": 10})
    assert made.plain() == {"name": "stripes", "validation": 0.05, "train": 200, "test": 10, "seed": 0}
    assert made.info() == Info((1, 28, 28), ("across", "along")) and made.title == "Stripes"
    assert (made.drawn, made.masked, made.digest(""), made.training_images()) == (True, False, None, 0)
    assert made.identity() == made.resolved().plain() == made.public()
    whole = data.load({"name": "stripes", "test": 10}, "", seed=0)
    assert [len(part) for part in (whole.train, whole.validation, whole.test)] == [190, 10, 10]
    for options, message in (
        ({"train": 3}, "dataset.train must be a whole number of at least 20, at most a billion, got 3"),
        ({"trian": 30}, "no key 'dataset.trian'; did you mean 'dataset.train'?"),
    ):
        with pytest.raises(InputError) as caught:
            data.dataset_of({"name": "stripes", **options})
        assert message in str(caught.value)
    with pytest.raises(InputError, match="no dataset 'stripe'; did you mean 'stripes'?"):
        data.dataset_of({"name": "stripe"})
    with pytest.raises(InputError, match="dataset 'stripes' is there already, declared in test_declared"):
        declared()


def test_a_function_must_say_of_what_its_images_are() -> None:
    with pytest.raises(TypeError, match="@dataset.'bare'. of a function needs shape="):
        dataset("bare", shape=(1, 8, 8))(lambda: None)  # type: ignore[arg-type, return-value]


def test_a_class_is_a_data_set() -> None:
    @dataset("noise", unseen=("threads",))
    class Noise(Dataset):
        """Nothing but noise."""

        size: Annotated[int, whole(8, 64)]
        threads: int = 1

        def info(self) -> Info:
            return Info((1, self.size, self.size), ("a", "b"))

        def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
            split = Split(torch.rand(40, 1, self.size, self.size), torch.arange(40) % 2)
            return split, split[:10], self.info()

    assert data.info({"name": "noise", "size": 8}).shape == (1, 8, 8)
    assert Noise(size=8, threads=3).identity() == {"name": "noise", "validation": 0.05, "size": 8}
    assert len(data.load({"name": "noise", "size": 8, "validation": 0.5}, "", 0).train) == 20
    with pytest.raises(InputError, match="dataset.size is missing: it must be a whole number from 8 to 64"):
        data.info({"name": "noise"})


def test_selections_of_ones_own_as_class_and_as_function() -> None:
    @selection("last")
    class Last(Selection):
        """The last images."""

        count: Annotated[int, whole(1)]

        def rows(self, labels: Tensor, predicted: Tensor) -> Tensor:
            return torch.arange(len(labels))[-self.count :]

    @selection("taken_for")
    def taken_for(labels: Tensor, predicted: Tensor, *, other: Annotated[str | int, CLASS]) -> Tensor:
        return (predicted == other).nonzero()[:, 0]

    labels = torch.tensor([0, 1, 0, 1])
    assert data.selection_of({"name": "last", "count": 2}).choose(labels, labels, ("a", "b")).tolist() == [2, 3]
    chosen = data.selection_of({"name": "taken_for", "other": "b"})
    assert chosen.choose(labels, labels, ("a", "b")).tolist() == [1, 3]
    assert chosen.numbered(("a", "b")).plain() == {"name": "taken_for", "other": 1}
    with pytest.raises(InputError, match="select=taken_for: there is no such test image .other c."):
        data.selection_of({"name": "taken_for", "other": "c"}).choose(labels, labels, ("a", "b", "c"))


NAMED: list[tuple[dict[str, Any], set[str]]] = [
    ({"name": "mnist", "size": None}, {"size"}),
    ({"name": "mnist", "size": 32}, set()),
    ({"name": "folder", "path": "x", "fingerprint": None}, {"train", "objects", "background", "fingerprint"}),
    ({"name": "folder", "path": "x", "fingerprint": "0" * 64}, {"train", "objects", "background", "path"}),
    ({"name": "folder", "path": "x", "background": "black", "train": 8}, {"objects", "fingerprint"}),
]


@pytest.mark.parametrize(("given", "untold"), NAMED)
def test_names_hold_no_key_that_came_later_and_says_nothing(given: dict[str, Any], untold: set[str]) -> None:
    options = defaults.option("dataset", given["name"]) | given
    made = data.dataset_of(options)
    assert made.plain().keys() - made.identity().keys() == untold | {*made.unseen}
    assert made.identity().items() <= made.plain().items()
    older = {key: value for key, value in options.items() if key not in untold or key == "path"}
    assert data.dataset_of(older).identity() == made.identity()  # an old run is found by the same name


def test_selections_name_no_label_where_none_was_before() -> None:
    for name, told in (("per_class", False), ("sample", False), ("mixed", True), ("misclassified", True)):
        made = data.selection_of(defaults.option("select", name))
        assert ("label" in made.identity()) == told
        labelled = dataclasses.replace(made, label=3)  # type: ignore[call-arg]
        assert labelled.identity() == labelled.plain()


def test_what_is_not_known_here_keeps_its_options_and_no_folder(tmp_path: Path) -> None:
    other = {"name": "elsewhere", "images": str(tmp_path / "images"), "count": 3}
    assert data.recorded(other) is None and DATASETS.recorded(other).identity() == other
    assert data.public(other) == {"name": "elsewhere", "images": "images", "count": 3}
    folder = defaults.option("dataset", "folder") | {"path": str(tmp_path / "mine")}
    assert data.public(folder)["path"] == "mine"
    made = data.dataset_of(folder)
    assert "dataset.path=DIR (mine)" in made.source_note() and not made.present("") and made.resolved() is made
    assert (made.digest(""), made.training_images()) == (None, 0)
