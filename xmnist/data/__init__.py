"""Data sets: images in pixel space, in memory, with labels, class names and, where there is ground truth, masks."""

import os
from contextlib import suppress
from functools import lru_cache
from typing import Any

from xmnist.config.declarations import DATASETS, SELECTIONS
from xmnist.data.base import Data, Info, Split
from xmnist.data.dataset import Dataset
from xmnist.data.selection import Selection
from xmnist.runtime.errors import InputError


def dataset_of(options: dict[str, Any]) -> Dataset:
    """The data set of a config's options."""
    made = DATASETS.made("dataset", options)
    assert isinstance(made, Dataset)
    return made


def recorded(options: dict[str, Any]) -> Dataset | None:
    """The data set of a run's options; None where it is not known here, or had other options."""
    with suppress(InputError):
        return dataset_of(options)
    return None


def public(options: dict[str, Any]) -> dict[str, Any]:
    """A run's options of a data set without the folders of this machine: of those, their last part."""
    known = recorded(options)
    if known is not None:
        return known.public()
    here = {key: value for key, value in options.items() if isinstance(value, str) and os.path.isabs(value)}
    return options | {key: os.path.basename(value) for key, value in here.items()}


def selection_of(options: dict[str, Any]) -> Selection:
    """The selection of a config's options."""
    made = SELECTIONS.made("select", options)
    assert isinstance(made, Selection)
    return made


def info(dataset: dict[str, Any]) -> Info:
    """Shape and classes of a data set, known before it is read."""
    return dataset_of(dataset).info()


def load(dataset: dict[str, Any], data_dir: str, seed: int) -> Data:
    """Read a data set; `seed` draws the validation images from the training set, the same share of every class.

    Files that are missing are fetched. The last data set read is kept: a decoder and its classifier want the same.

    Raises:
        InputError: files are missing and cannot be fetched, or are damaged; fewer images than asked for.
    """
    return _load(dataset_of(dataset), data_dir, seed)


def parts(dataset: dict[str, Any], data_dir: str) -> tuple[Split, Split, Info]:
    """The training and the test images in their own order, before any are held back for validation."""
    return dataset_of(dataset).parts(data_dir)


@lru_cache(maxsize=1)
def _load(dataset: Dataset, data_dir: str, seed: int) -> Data:
    return dataset.load(data_dir, seed)
