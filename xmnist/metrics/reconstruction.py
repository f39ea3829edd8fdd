"""Information about an image, and about its class, that a reconstruction retains."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from xmnist.config.declarations import Column
from xmnist.config.rules import yes_or_no
from xmnist.metrics import panels
from xmnist.metrics.base import Metric, Tables, column_of, metric
from xmnist.metrics.panels import Lines, Panel, Series
from xmnist.runtime.lazy import F, Tensor, nn, pd, torch

if TYPE_CHECKING:
    from xmnist.data.base import Split


def reconstruction(
    images: Tensor,
    reconstructions: Tensor,
    labels: Tensor,
    logits: Tensor,
    reconstruction_logits: Tensor,
    alpha: float,
    convention: str,
) -> dict[str, Tensor]:
    """Return the columns of the ClaDec tables, for each image, (N,).

    Args:
        images, reconstructions: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        logits, reconstruction_logits: (N, K), the explained classifier on the images and on the reconstructions.
        alpha: weight of the classification loss in `total_loss`, in [0, 1].
        convention: reconstruction loss in `total_loss`, `sse` or `mse`.

    Returns:
        `reconstruction_sse` (squared error, summed over pixels) and `reconstruction_mse` (averaged over them);
        `classification_loss` and `accuracy` (0 or 1) of the explained classifier on the reconstruction; `total_loss`,
        ClaDec's loss; `agreement`, 1 where the predicted class of the reconstruction is that of the image.
    """
    squares = (images - reconstructions).square().flatten(1)
    errors = {"sse": squares.sum(1), "mse": squares.mean(1)}
    entropy = F.cross_entropy(reconstruction_logits, labels, reduction="none")
    predicted = reconstruction_logits.argmax(1)
    return {
        "reconstruction_sse": errors["sse"],
        "reconstruction_mse": errors["mse"],
        "classification_loss": entropy,
        "total_loss": torch.lerp(errors[convention], entropy, alpha),
        "accuracy": (predicted == labels).float(),
        "agreement": (predicted == logits.argmax(1)).float(),
    }


SHOWN = ("reconstruction_sse", "classification_loss", "accuracy", "evaluation_accuracy")
"""The scores that are drawn."""


@metric(
    "reconstruction",
    columns=[
        Column("reconstruction_sse", "squared error, summed over pixels", "lower"),
        Column("reconstruction_mse", "squared error, averaged over pixels", "lower"),
        Column("reconstruction_bce", "binary cross-entropy, summed over pixels", "lower"),
        Column("kl", "divergence of a variational model's code from N(0, 1); what its weight beta keeps small"),
        Column("classification_loss", "of the explained classifier on the reconstructions", "lower"),
        Column(
            "total_loss",
            "(1 - alpha) * reconstruction + alpha * classification; of a variational model plus beta * kl",
        ),
        Column("accuracy", better="higher"),
        Column("agreement", "how often the predicted class of the reconstruction is that of the image", "higher"),
        Column("evaluation_accuracy", "of a fresh classifier, trained and tested on the reconstructions", "higher"),
    ],
    help="information retained by cladec and refae (or their VAEs), for each alpha; evaluation accuracy",
)
class Reconstruction(Metric):
    """Information that decoders retain of all test images, and of their classes."""

    measures: ClassVar = "decoders"
    evaluation_accuracy: Annotated[bool, yes_or_no(), "train a fresh classifier on the reconstructions of each"]

    @property
    def judges(self) -> bool:
        return self.evaluation_accuracy

    def measure(
        self,
        parts: Iterable[Split],
        logits: Tensor,
        look: Callable[[Split, Tensor], tuple[Tensor, dict[str, Tensor]]],
        judge: nn.Module,
    ) -> Tables:
        """Return the rows of each test image.

        Args:
            parts: the test images, a few at a time.
            logits: the explained classifier's (N, K), on all of them.
            look: reconstructs images, and computes the columns of each.
            judge: a fresh classifier of the reconstructions.
        """
        from xmnist.models.layers import batched

        start, rows = 0, []
        for part in parts:
            reconstructions, columns = look(part, logits[start : start + len(part)])
            if self.evaluation_accuracy:
                columns["evaluation_accuracy"] = (batched(judge, reconstructions).argmax(1) == part.labels).float()
            images = range(start, start + len(part))
            rows.append(pd.DataFrame({"image": images} | {key: column_of(values) for key, values in columns.items()}))
            start += len(part)
        return {"reconstruction": pd.concat(rows)}

    def charts(self, tables: Tables, summary: pd.DataFrame, subject: panels.Subject) -> dict[str, panels.Chart]:
        """Return bars of the scores; for several layers, lines from layer to layer."""
        if subject.layers:
            return {"depth": _ladder(summary, subject)}
        return {"reconstruction": panels.bars(summary, "model", SHOWN, subject.decoded)}


def unchanged(part: Split, logits: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the images themselves in the place of reconstructions: the upper bound, without any loss."""
    columns = reconstruction(part.images, part.images, part.labels, logits, logits, 0.0, "sse")
    # The total loss depends on a decoder's alpha, which there is none of here.
    return part.images, {name: values for name, values in columns.items() if name != "total_loss"}


def _ladder(summary: pd.DataFrame, subject: panels.Subject) -> Lines:
    """Return lines of the information retained by each layer; the classifier itself is a level line."""
    layers, series = subject.layers, dict[str, list[tuple[int, pd.Series]]]()
    for _, row in summary[summary["kind"] == "model"].iterrows():
        parts = str(row["name"]).split(",")
        where = [part.removeprefix("layer=") for part in parts if part.startswith("layer=")]
        name = ",".join(part for part in parts if not part.startswith("layer="))
        # A model without a layer, such as the classifier, has the same scores at every layer.
        places = [layers.index(where[0])] if where else range(len(layers))
        series.setdefault(name, []).extend((index, row) for index in places)
    axes = []
    known = {column.name: column for column in Reconstruction.columns}
    for column in (column for column in SHOWN if column in summary):
        lines = []
        for name, rows in series.items():  # "classifier" is the row of the images themselves
            points = [(index, row) for index, row in rows if isinstance(row[column], float) and pd.notna(row[column])]
            bounds = [row[f"{column}_low"] for _, row in points], [row[f"{column}_high"] for _, row in points]
            values = [row[column] for _, row in points]
            lines.append(Series(name, [index for index, _ in points], values, bounds, name == "classifier"))
        title = f"{column.replace('_', ' ')} ({known[column].better} is better)"
        axes.append(Panel(title, subject.across, "", lines, layers, methods=True))
    return Lines([axes[:2], axes[2:]] if len(axes) > 2 else [axes], subject.decoded, markers=True)
