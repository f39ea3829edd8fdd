"""Data sets: images in pixel space, in memory, with labels, class names and, where there is ground truth, masks."""

from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmnist.data.base import Data, Info

_DOWNLOADED = "xmnist.data.downloaded"
MODULES = {
    **{name: _DOWNLOADED for name in ("mnist", "fashion_mnist", "kmnist", "emnist", "cifar10", "cifar100")},
    "glyphs": "xmnist.data.glyphs",
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
    return _load(tuple(sorted(dataset.items())), data_dir, seed)


@lru_cache(maxsize=1)
def _load(items: tuple[tuple[str, Any], ...], data_dir: str, seed: int) -> "Data":
    from xmnist.data.base import cut_validation

    dataset = dict(items)
    share = dataset.pop("validation")
    train, test, facts = import_module(MODULES[dataset["name"]]).load(data_dir=data_dir, **dataset)
    return cut_validation(train, test, facts, share, seed)
