"""Base class and decorator of all data sets. No torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

from xmnist.config.components import Options
from xmnist.config.declarations import DATASETS, DatasetDeclaration
from xmnist.config.groups import of_function
from xmnist.config.rules import SEED, choice, number
from xmnist.data.base import Data, Info, Split, cut_validation

Seed = Annotated[int, SEED, "of what is drawn; the run's own seed does not change the images"]
Masks = Annotated[str, choice("boxes", "pixels"), "ground truth: boxes or pixels of the objects"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset(DatasetDeclaration):
    """Images with labels, in separate training and test sets."""

    validation: Annotated[
        float, number(0, 0.5, above=True), "share of the training images, the same of every class"
    ] = 0.05

    def info(self) -> Info:
        """Return shape and classes, known before anything is read.

        Raises:
            InputError: there can be no such images.
        """
        raise TypeError(f"{type(self).__name__} says nothing of its images")

    def class_names(self) -> tuple[str, ...]:
        return self.info().classes

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        """Return training and test images in their own order, before any are held back for validation.

        Raises:
            InputError: files are missing and cannot be fetched, or are damaged; fewer images than asked for.
        """
        raise TypeError(f"{type(self).__name__} has no images")

    def load(self, data_dir: str, seed: int) -> Data:
        """Return all images; `seed` draws the validation images from the training set."""
        return cut_validation(*self.parts(data_dir), self.validation, seed)

    def present(self, data_dir: str) -> bool:
        """Return whether all files that it is read from are there."""
        return True

    def digest(self, data_dir: str) -> str | None:
        """Return the digest of the files that it is read from; None where one is missing, or the images are drawn.

        Raises:
            InputError: they cannot be read as data.
        """
        return None

    def stated_digest(self) -> str | None:
        """Return the digest in the options, which makes it part of a run's name; None for most."""
        return None

    def public(self) -> Options:
        """Return name and options, with only the last part of folders of this machine."""
        return {key: Path(value).name if key in self.places else value for key, value in self.plain().items()}

    def source_note(self) -> str:
        """Return a note on the source of the images for other machines; empty where these are drawn."""
        return ""


@dataclass(frozen=True, kw_only=True, eq=False)
class _OfFunction(Dataset):
    """A data set whose images a function returns."""

    facts: ClassVar[Info]
    function: ClassVar[Callable[..., tuple[Split, Split]]]

    def info(self) -> Info:
        return self.facts

    def parts(self, data_dir: str) -> tuple[Split, Split, Info]:
        taken = inspect.signature(self.function).parameters
        train, test = self.function(**{key: value for key, value in self.options().items() if key in taken})
        return train, test, self.facts


D = TypeVar("D", bound=Dataset)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def dataset(
    name: str,
    *,
    title: str = "",
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] = (),
    masks: bool = False,
    **about: Any,
) -> Callable[[type[D] | Callable[..., tuple[Split, Split]]], type[D]]:
    """Declare a class, or a function that returns training and test images, as the data set of this name.

    Args:
        title: its name in texts; `name` with blanks if there is none.
        shape: of a function's images, (C, H, W).
        classes: the names of the classes, in the order of the labels, where they are always the same.
        masks: whether a function's images have ground truth.
        about: further attributes of its class.

    Raises:
        InputError: there is a data set of this name already, or a key has no type.
        TypeError: shape or classes of a function's images are missing.
    """

    def declared(kind: Any) -> Any:
        if not isinstance(kind, type):
            if shape is None or not classes:
                raise TypeError(f"@dataset({name!r}) of a function needs shape=(C, H, W) and classes=(...)")
            kind = of_function(_OfFunction, kind)
            about.update(facts=Info(shape, tuple(classes), masks), masked=masks)
        return DATASETS.declare(kind, name, **({"title": title} if title else {}), **about)

    return declared
