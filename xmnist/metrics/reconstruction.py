"""How much of an image, and of its class, a reconstruction keeps."""

import torch
from torch import Tensor
from torch.nn import functional as F


def reconstruction(
    images: Tensor,
    reconstructions: Tensor,
    labels: Tensor,
    logits: Tensor,
    reconstruction_logits: Tensor,
    alpha: float,
    convention: str,
) -> dict[str, Tensor]:
    """The columns of the ClaDec tables, for each image, (N,).

    Args:
        images, reconstructions: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        logits, reconstruction_logits: (N, K), the explained classifier on the images and on the reconstructions.
        alpha: weight of the classification loss in `total_loss`, in [0, 1].
        convention: reconstruction loss in `total_loss`, `sse` or `mse`.

    Returns:
        `reconstruction_sse` (squared error, summed over pixels) and `reconstruction_mse` (averaged over them);
        `classification_loss` and `accuracy` (0 or 1) of the explained classifier on the reconstruction; `total_loss`,
        ClaDec's loss; `agreement`, 1 where the reconstruction is given the class that the image is given.
    """
    squares = (images - reconstructions).square().flatten(1)
    errors = {"sse": squares.sum(1), "mse": squares.mean(1)}
    entropy = F.cross_entropy(reconstruction_logits, labels, reduction="none")
    seen = reconstruction_logits.argmax(1)
    return {
        "reconstruction_sse": errors["sse"],
        "reconstruction_mse": errors["mse"],
        "classification_loss": entropy,
        "total_loss": torch.lerp(errors[convention], entropy, alpha),
        "accuracy": (seen == labels).float(),
        "agreement": (seen == logits.argmax(1)).float(),
    }
