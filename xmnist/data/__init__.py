"""Data sets: images in pixel space, in memory, with labels, class names and, where there is ground truth, masks."""

import json
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmnist.data.base import Data, Info, Split

_DOWNLOADED = "xmnist.data.downloaded"
MODULES = {
    **{name: _DOWNLOADED for name in ("mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "cifar100")},
    "glyphs": "xmnist.data.glyphs",
    "polygons": "xmnist.data.polygons",
    **{name: "xmnist.data.cluttered" for name in ("cluttered_mnist", "cluttered_glyphs")},
    "folder": "xmnist.data.folder",
}
"""Data set -> the module that has `info` and `load` for it."""


def info(dataset: dict[str, Any]) -> "Info":
    """Shape and classes of a data set, known before it is read."""
    return import_module(MODULES[dataset["name"]]).info(**dataset)


def load(dataset: dict[str, Any], data_dir: str, seed: int) -> "Data":
    """Read a data set; `seed` draws the validation images from the training set, the same share of every class.

    Files that are missing are fetched. The last data set read is kept: a decoder and its classifier want the same.

    Raises:
        InputError: files are missing and cannot be fetched, or are damaged; fewer images than asked for.
    """
    return _load(json.dumps(dataset), data_dir, seed)


def parts(dataset: dict[str, Any], data_dir: str) -> "tuple[Split, Split, Info]":
    """The training and the test images in their own order, before any are held back for validation."""
    own = {key: value for key, value in dataset.items() if key not in ("validation", "class_weights", "fingerprint")}
    return import_module(MODULES[dataset["name"]]).load(data_dir=data_dir, **own)


@lru_cache(maxsize=1)
def _load(described: str, data_dir: str, seed: int) -> "Data":
    from xmnist.data.base import cut_validation

    dataset = json.loads(described)
    cut = cut_validation(*parts(dataset, data_dir), dataset["validation"], seed)
    return cut.balanced() if dataset.get("class_weights") else cut
