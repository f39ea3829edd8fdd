"""Pictures of trained models: reconstructions, latent spaces, and the maps of joint models after each phase."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from xmnist.config.derived import plain
from xmnist.config.settings import Settings
from xmnist.data.base import Data, Split
from xmnist.models import decoders
from xmnist.models.layers import batched
from xmnist.models.vae import LatentSpace
from xmnist.plots import grids, latent_space
from xmnist.runs.store import Run
from xmnist.runs.titles import phase_title, title

EXAMPLES = 8
"""Number of images in a picture, of as many classes as there are, beside up to half as many misclassified ones."""


@dataclass(frozen=True)
class Reconstructor:
    """A run's network, which reconstructs images."""

    run: Run[Settings]
    network: nn.Module
    reconstruct: Callable[[Tensor], Tensor]

    def title(self, layers: bool) -> str:
        """Return the title of its row of images, with its layer if there are several."""
        settings = self.run.settings
        lines = [settings.model.title, *([f"layer {settings.layer}"] if layers else [])]
        return "\n".join([*lines, *([f"alpha {plain(settings.alpha)}"] if settings.alpha is not None else [])])


def examples(
    run: Run[Settings],
    explained: nn.Module,
    reconstructors: Sequence[Reconstructor],
    test: Split,
    classes: Sequence[str],
) -> None:
    """Draw a few test images and their reconstructions, with the predicted class of each by the explained classifier.

    For one decoder beside its reference, also draw their difference.
    """
    indices = choose(test.labels, batched(explained, test.images).argmax(1))
    originals = test.images[indices]
    layers = isinstance(run.settings.layer, list)
    named_images = [
        ("original", originals),
        *((reconstructor.title(layers), reconstructor.reconstruct(originals)) for reconstructor in reconstructors),
    ]
    rows = [
        grids.Row(name, images.cpu().numpy(), [classes[i] for i in batched(explained, images).argmax(1).tolist()])
        for name, images in named_images
    ]
    models = [reconstructor.run.settings.model for reconstructor in reconstructors]
    if len(models) == 2 and models[1].reference == models[0].name:
        dropped = (named_images[1][1] - named_images[2][1]).mean(1, keepdim=True).cpu().numpy()
        rows.append(grids.Row(f"{models[0].title} −\n{models[1].title}", dropped, None, "difference"))
    truth = [classes[i] for i in test.labels[indices].tolist()]
    notes = padding(reconstructor.network for reconstructor in reconstructors)
    run.draw("examples", lambda file: grids.grid(rows, truth, title(run.settings), file, notes=notes))


def padding(networks: Iterable[nn.Module]) -> list[str]:
    """Return the legend's note on decoders whose last row and column are padding, as published."""
    note = "ClaDec, RefAE: the last row and column are the published decoder's padding (model.decoder=auto has none)"
    return [note] if any(map(decoders.padded, networks)) else []


PLACED = 10_000
"""Number of training images, spread evenly over all of them, in a picture of a latent space."""

SPAN = (0.01, 0.99)
"""Quantiles of the training means between which a picture shows decoded images: few means lie far out."""


def latent(run: Run[Settings], space: LatentSpace, images: Data) -> None:
    """Draw decoded images along the latent dimensions, and the means of each class, two dimensions at a time.

    Of more than four dimensions, the four with the largest variance of the training means are drawn; in images that
    are decoded along two of them, the others have the training images' mean.
    """
    some = min(PLACED, len(images.train))
    splits = {"training": images.train.subset(torch.arange(some) * len(images.train) // some), "test": images.test}
    means = {name: torch.cat([space.means(part.images) for part in split.parts()]) for name, split in splits.items()}
    train = means["training"]
    most = sorted(train.var(0, correction=0).argsort(descending=True)[:4].tolist())
    planes = [_plane(space, train, x, y, images.info.shape) for x, y in combinations(most, 2)]
    clouds = [
        latent_space.Cloud(name, means[name].cpu().numpy(), split.labels.cpu().numpy())
        for name, split in splits.items()
    ]
    of = title(run.settings)
    quantiles = "from the {:.0%} to the {:.0%} quantile of the training images' means".format(*SPAN)
    also = "" if train.shape[1] == 2 else "; other dimensions at their mean"
    run.draw("latent_grid", lambda file: latent_space.grid(planes, f"{of}\ndecoded {quantiles}{also}", file))
    framed, names = f"{of}\nframe: {quantiles}", images.info.classes
    run.draw("latent_clusters", lambda file: latent_space.clusters(clouds, planes, names, framed, file))


def _plane(space: LatentSpace, means: Tensor, x: int, y: int, shape: tuple[int, int, int]) -> latent_space.Plane:
    """Decode the images of a plane, at as many points as remain large enough to see."""
    count = min(20, max(5, 640 // max(shape[1:])))
    ends = means.double().quantile(torch.tensor(SPAN, dtype=torch.float64, device=means.device), 0)
    middle, half = ends.mean(0), (ends[1] - ends[0]).clamp_min(1e-3) / 2  # a collapsed dimension has no extent
    points = means.mean(0).repeat(count, count, 1)
    steps = torch.linspace(-1, 1, count, dtype=torch.float64, device=means.device)
    points[..., x] = (middle[x] + half[x] * steps).to(points.dtype)
    points[..., y] = (middle[y] + half[y] * steps).to(points.dtype)[:, None]
    decoded = space.decode(points.flatten(0, 1)).unflatten(0, (count, count)).float().cpu().numpy()
    low, high = (middle - half).tolist(), (middle + half).tolist()
    return latent_space.Plane(x, y, ((low[x], high[x]), (low[y], high[y])), decoded)


def maps(
    run: Run[Settings],
    network: nn.Module,
    explainer: Callable[[Tensor], Tensor],
    split: Split,
    classes: Sequence[str],
    phase: int,
) -> None:
    """Draw a few images, and the maps of an explainer that was trained with its network, after a phase."""
    predicted = batched(network, split.images).argmax(1)
    indices = choose(split.labels, predicted)
    subset = split[indices]
    rows = [grids.Row("image", subset.images.cpu().numpy(), [classes[i] for i in predicted[indices].tolist()])]
    if subset.masks is not None:
        rows.append(grids.Row("ground truth", subset.masks.float().cpu().numpy(), None, "mask"))
    rows.append(grids.Row("explanation", batched(explainer, subset.images).cpu().numpy(), None, "map"))
    done = f"{title(run.settings)}\nafter phase {phase}: {phase_title(run.settings, phase)}"
    truth = [classes[i] for i in subset.labels.tolist()]
    run.draw(f"phase{phase}", lambda file: grids.grid(rows, truth, done, file))


def choose(labels: Tensor, predicted: Tensor, count: int = EXAMPLES) -> Tensor:
    """Return rows of the first `count` correctly classified images, equally by class, then of half as many others."""
    classes = labels.unique()[:count]
    per_class = max(1, count // len(classes))
    right = [((labels == k) & (predicted == k)).nonzero()[:per_class].flatten() for k in classes]
    wrong = (predicted != labels).nonzero().flatten()[: count // 2]
    return torch.cat([*right, wrong])
