import logging
from typing import Any

import pytest
import torch

from xmnist import data
from xmnist.runtime.errors import InputError

CLASSES = ("cat", "dog", "eel")
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
SEEN = torch.tensor([0, 1, 2, 1, 1, 0, 1, 2, 2, 0, 0, 1])


def chosen(name: str, **options: Any) -> list[int]:
    return data.selection_of({"name": name, **options}).choose(LABELS, SEEN, CLASSES).tolist()


def test_per_class_takes_the_first_of_each() -> None:
    assert chosen("per_class", count=1, label=None) == [0, 1, 2]
    assert chosen("per_class", count=2, label=None) == [0, 3, 1, 4, 2, 5]


def test_indices_are_taken_as_they_are() -> None:
    assert chosen("indices", indices=[7, 0]) == [7, 0]


def test_confusion_takes_the_first_that_are_taken_for_the_other() -> None:
    assert chosen("confusion", true=0, predicted=1, count=2) == [3, 6]
    assert chosen("confusion", true="cat", predicted="dog", count=1) == [3]


@pytest.mark.parametrize("label", [None, 0, "eel"])
def test_mixed_takes_right_ones_then_wrong_ones(label: int | str | None) -> None:
    rows = chosen("mixed", correct=1, wrong=2, label=label, seed=0)
    right = (LABELS == SEEN)[rows].tolist()
    assert right == [True, False, False] and len(set(rows)) == 3
    if label is not None:
        assert {CLASSES[i] for i in LABELS[rows].tolist()} == {"cat" if label == 0 else label}
    assert rows == chosen("mixed", correct=1, wrong=2, label=label, seed=0)


def test_the_seed_draws_other_images() -> None:
    drawn = {tuple(chosen("misclassified", count=3, label=None, seed=seed)) for seed in range(5)}
    assert len(drawn) > 1
    assert all((LABELS != SEEN)[list(rows)].all() for rows in drawn)


def test_fewer_images_than_asked_for_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert len(chosen("mixed", correct=9, wrong=1, label="dog", seed=0)) == 3
    assert caplog.messages == ["9 test images were asked for (classified right), there are 2"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "confusion",
            {"true": 1, "predicted": 3, "count": 1},
            r"no class '3' \(by name, or by number from 0 to 2: cat",
        ),
        ("mixed", {"correct": 1, "wrong": 1, "label": "cta", "seed": 0}, "no class 'cta'; did you mean 'cat'"),
        ("indices", {"indices": [3, 12]}, r"there is no test image 12 \(they run from 0 to 11\)"),
        ("confusion", {"true": 1, "predicted": "dog", "count": 1}, "select=confusion needs two classes"),
        ("mixed", {"correct": 0, "wrong": 0, "label": None, "seed": 0}, "select=mixed: there is no such test image"),
    ],
)
def test_what_does_not_exist_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        chosen(name, **options)


def test_a_confusion_that_never_happens_is_an_error_that_names_the_classes() -> None:
    with pytest.raises(
        InputError, match=r"select=confusion: there is no such test image \(true class cat, predicted class eel\)"
    ):
        chosen("confusion", true=0, predicted="eel", count=1)


def test_classes_are_checked_before_anything_is_trained() -> None:
    select = {"name": "confusion", "true": "cat", "predicted": 2, "count": 3}
    assert data.selection_of(select).numbered(CLASSES).plain() == {**select, "true": 0}
    with pytest.raises(InputError, match="no class 'cow'"):
        data.selection_of({**select, "true": "cow"}).numbered(CLASSES)
