"""What the networks are trained to make small."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def sse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error summed over pixels, averaged over the batch: the Keras study's reconstruction loss."""
    return (reconstructions - images).square().flatten(1).sum(1).mean()


def mse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error averaged over pixels and batch: the original code's reconstruction loss."""
    return F.mse_loss(reconstructions, images)


RECONSTRUCTION = {"sse": sse, "mse": mse}


def cladec(
    classifier: Callable[[Tensor], Tensor],
    images: Tensor,
    reconstructions: Tensor,
    labels: Tensor,
    alpha: float,
    reconstruction: str,
) -> Tensor:
    """`(1 - alpha) * rec(images, reconstructions) + alpha * CE(classifier(reconstructions), labels)`.

    ClaDec's loss (Schneider and Vlachos, arXiv 2005.13630); a term of weight 0 is not computed.

    Args:
        classifier: the explained network, frozen and in eval mode; returns logits.
        images, reconstructions: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        alpha: in [0, 1]; its meaning depends on `reconstruction`, which rescales the first term.
        reconstruction: `sse` or `mse`.
    """
    loss = images.new_zeros(())
    if alpha < 1:
        loss = loss + (1 - alpha) * RECONSTRUCTION[reconstruction](images, reconstructions)
    if alpha > 0:
        loss = loss + alpha * F.cross_entropy(classifier(reconstructions), labels)
    return loss
