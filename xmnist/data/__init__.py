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
"""Data set -> the module that has `info`, `prepare` and `load` for it."""


def info(dataset: dict[str, Any]) -> "Info":
    """Shape and classes of a data set, known before it is read."""
    return import_module(MODULES[dataset["name"]]).info(**dataset)


def prepare(dataset: dict[str, Any], data_dir: str) -> None:
    """Make sure that the data set can be read: its files are there (fetched now if need be) and whole.

    Raises:
        InputError: they are missing and cannot be fetched, or they are damaged.
    """
    import_module(MODULES[dataset["name"]]).prepare(data_dir=data_dir, **dataset)


def load(dataset: dict[str, Any], data_dir: str, seed: int) -> "Data":
    """Read a data set; `seed` draws the validation images from the training set, the same share of every class.

    The last one read is kept, because a decoder and the classifier that it needs want the same.
    """
    return _load(tuple(sorted(dataset.items())), data_dir, seed)


@lru_cache(maxsize=1)
def _load(items: tuple[tuple[str, Any], ...], data_dir: str, seed: int) -> "Data":
    from xmnist.data.base import cut_validation

    dataset = dict(items)
    share = dataset.pop("validation")
    train, test, facts = import_module(MODULES[dataset["name"]]).load(data_dir=data_dir, **dataset)
    return cut_validation(train, test, facts, share, seed)
