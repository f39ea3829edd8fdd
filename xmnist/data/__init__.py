"""Data sets: images in pixel space, in memory, with labels, class names and, where there is ground truth, masks."""

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from xmnist.config.components import Component
from xmnist.config.declarations import DATASETS, SELECTIONS, DatasetDeclaration, SelectionDeclaration
from xmnist.data.base import Data, Info, Split
from xmnist.data.dataset import Dataset
from xmnist.data.selection import Selection
from xmnist.runtime.errors import InputError

Chosen = DatasetDeclaration | Mapping[str, Any]
"""A data set, or its name and options."""


def dataset_of(chosen: Chosen) -> Dataset:
    """Return the chosen data set.

    Raises:
        InputError: it is not known here, or has other options.
    """
    dataset = chosen if isinstance(chosen, Dataset) else DATASETS.made("dataset", _plain(chosen))
    assert isinstance(dataset, Dataset)
    return dataset


def _plain(chosen: Component | Mapping[str, Any]) -> dict[str, Any]:
    return chosen.plain() if isinstance(chosen, Component) else dict(chosen)


def recorded(chosen: Chosen) -> Dataset | None:
    """Return the data set of a run; None where it is not known here, or had other options."""
    with suppress(InputError):
        return dataset_of(chosen)
    return None


def public(chosen: Chosen) -> dict[str, Any]:
    """Return a run's options of a data set, with only the last part of folders of this machine."""
    known = recorded(chosen)
    if known is not None:
        return known.public()
    options = _plain(chosen)
    paths = {key: value for key, value in options.items() if isinstance(value, str) and os.path.isabs(value)}
    return options | {key: os.path.basename(value) for key, value in paths.items()}


def selection_of(chosen: SelectionDeclaration | Mapping[str, Any]) -> Selection:
    """Return the chosen selection.

    Raises:
        InputError: it is not known here, or has other options.
    """
    selection = chosen if isinstance(chosen, Selection) else SELECTIONS.made("select", _plain(chosen))
    assert isinstance(selection, Selection)
    return selection


def info(dataset: Chosen) -> Info:
    """Return shape and classes of a data set, known before it is read."""
    return dataset_of(dataset).info()


def load(dataset: Chosen, data_dir: str, seed: int) -> Data:
    """Read a data set; `seed` draws the validation images from the training set, the same share of every class.

    Files that are missing are fetched. The last data set read is kept: a decoder and its classifier use the same.

    Raises:
        InputError: files are missing and cannot be fetched, or are damaged; fewer images than asked for.
    """
    return _load(dataset_of(dataset), data_dir, seed)


def parts(dataset: Chosen, data_dir: str) -> tuple[Split, Split, Info]:
    """Return training and test images in their own order, before any are held back for validation."""
    return dataset_of(dataset).parts(data_dir)


@lru_cache(maxsize=1)
def _load(dataset: Dataset, data_dir: str, seed: int) -> Data:
    return dataset.load(data_dir, seed)
