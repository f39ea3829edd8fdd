"""Base classes of all explainers: their interface and their guarantees."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform

from xmnist.config.components import given
from xmnist.config.declarations import EXPLAINERS, ExplainerDeclaration
from xmnist.config.rules import whole
from xmnist.runtime.errors import InputError
from xmnist.runtime.lazy import F, Tensor, nn, torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Explainer(ExplainerDeclaration):
    """An explanation method: `explainer(classifier, images, targets)` returns a map, or an image, for each image.

    Images are (N, C, H, W) in [0, 1], targets (N,) class numbers. A heatmap is (N, 1, H, W) and is about the target's
    logit; positive values are evidence for the target where the method has a sign. It works on a private copy in eval
    mode, so the classifier keeps its hooks, mode and parameters, also after an exception. The result for one image
    depends on that image, its target and the seed alone: not on its neighbours, nor on the size of the batches.

    Args:
        label: its name in messages.
        seed: seed of all its random numbers.
        train: training images (M, C, H, W), from which baselines and backgrounds come.
        batch_size: images at a time; limits the memory.
    """

    axiom: ClassVar[str] = "completeness"
    label: str = given("")
    seed: int = given(0)
    train: Tensor = given()
    batch_size: Annotated[int, whole(1), "images at a time"] = 100

    def __call__(self, classifier: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the maps or images.

        Raises:
            InputError: this explainer cannot explain this classifier, or an answer is not finite.
        """
        with self._named(), warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # captum warns of every hook that it sets
            answers = self.explain(self.prepare(classifier, images[:1]), images, targets).detach()
            self._check_shape(answers, images)
            _check_finite(answers, classifier, images)
        return answers

    def _check_shape(self, answers: Tensor, images: Tensor) -> None:
        channels = images.shape[1] if self.answer == "image" else 1
        wanted = (len(images), channels, *images.shape[2:])
        if tuple(answers.shape) != wanted:
            raise InputError(f"it answers with the shape {tuple(answers.shape)}, where {self.answer}s are {wanted}")

    def check(self, classifier: nn.Module, example: Tensor) -> None:
        """Check that this explainer can explain this classifier of images like `example` (1, C, H, W).

        Raises:
            InputError: says why it cannot.
        """
        with self._named():
            self.prepare(classifier, example)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Add this explainer's name to input errors."""
        try:
            yield
        except InputError as error:
            raise InputError(f"explainer {self.label}: {error}") from None

    def prepare(self, classifier: nn.Module, example: Tensor) -> nn.Module:
        """Return the network that the method works on: a copy, rewritten where the method needs it."""
        from xmnist.models.canonical import private

        return private(classifier)

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the maps or images for all images, computed in batches."""
        pairs = zip(images.split(self.batch_size), targets.split(self.batch_size), strict=True)
        return torch.cat([self.batch(network, *pair).detach() for pair in pairs])

    def batch(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the maps or images for one batch, in which no image is alone.

        Layers compute one image by other kernels than several, whose rounding differs: where several pixels of a window
        share the maximum, as on a plain background, another one of them would win.
        """
        if len(images) > 1:
            return self.attribute(network, images, targets)
        return self.attribute(network, images.repeat(2, 1, 1, 1), targets.repeat(2))[:1]

    def attribute(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the maps or images for one batch."""
        raise TypeError(f"{type(self).__name__} explains nothing by itself")

    def completeness_gap(self, classifier: nn.Module, images: Tensor, targets: Tensor, maps: Tensor) -> Tensor | None:
        """Return each map's sum minus the value that the method's `axiom` demands, or None where there is none.

        The axiom is completeness, where a map distributes the change from a reference, or conservation, where it
        distributes the logit itself.
        """
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Heatmap(Explainer):
    """An explainer whose maps can be averaged over shifted copies of the image, each map shifted back.

    Args:
        translations: largest shift in pixels, in both directions; 0 for none.
    """

    translations: Annotated[int, whole(0, 14), "average over shifts of up to so many pixels"] = 0

    def explain(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        d = self.translations
        if not d:
            return super().explain(network, images, targets)
        height, width = images.shape[2:]
        # Replicated pixels continue any background, where a constant would add edges to the image.
        padded = F.pad(images, (d, d, d, d), mode="replicate")
        total = images.new_zeros(len(images), 1, height + 2 * d, width + 2 * d)
        counts = torch.zeros_like(total[:1])  # a pixel near the edge leaves the image in some shifts
        for y, x in product(range(2 * d + 1), repeat=2):
            window = (..., slice(y, y + height), slice(x, x + width))
            total[window] += super().explain(network, padded[window], targets)
            counts[window] += 1
        return (total / counts)[..., d : d + height, d : d + width]


@dataclass(frozen=True, kw_only=True, eq=False)
class OneByOne(Heatmap):
    """A method that expands each image into a batch of its own: samples, or pairs with a background.

    It must stand first among the bases of a class that has others.
    """

    batch_size: int = field(default=1, init=False)

    def batch(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return self.attribute(network, images, targets)


E = TypeVar("E", bound=Explainer)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def explainer(name: str, *, title: str = "", **about: Any) -> Callable[[type[E]], type[E]]:
    """Declare a class as the explanation method of this name.

    Args:
        title: its name in pictures and tables; the name with blanks if there is none.
        about: more of its declaration, as attributes of `ExplainerDeclaration`.

    Raises:
        InputError: there is a method of this name already, or a key has no type.
    """
    return lambda kind: EXPLAINERS.declare(kind, name, **({"title": title} if title else {}), **about)  # type: ignore[return-value]


def summed(maps: Tensor) -> Tensor:
    """Sum a map (N, C, H, W) over channels: (N, 1, H, W); the sum of a signed map's values stays the same."""
    return maps.sum(1, keepdim=True)


def target_logits(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Return the logit (N,) of each image's target."""
    return network(images).gather(1, targets[:, None])[:, 0]


def _check_finite(answers: Tensor, classifier: nn.Module, images: Tensor) -> None:
    bad = (~answers.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        where = _first_layer_not_finite(classifier, images[first : first + 1])
        raise InputError(f"NaN or Inf in the answer for image {first + 1} of {len(images)}; {where}")


def _first_layer_not_finite(classifier: nn.Module, image: Tensor) -> str:
    from xmnist.models.canonical import private

    network, layers = private(classifier), list[str]()

    def look(layer: str, output: object) -> None:
        if isinstance(output, torch.Tensor) and not output.isfinite().all():
            layers.append(layer)

    # Blocks are left out: the layer inside them is the one to name.
    for layer, module in network.named_modules():
        if layer and not list(module.children()):
            module.register_forward_hook(lambda _, args, output, layer=layer: look(layer, output))
    with torch.no_grad():
        network(image)
    if layers:
        return f"the first layer to answer so is {layers[0]}"
    return "every layer's answer is finite, so they come from the method's backpropagated signal"
