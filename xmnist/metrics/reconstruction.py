"""How much of an image, and of its class, a reconstruction keeps."""

from torch import Tensor

from xmnist.losses import mse, sse
from xmnist.metrics.classification import classification


def reconstruction(
    images: Tensor,
    reconstructions: Tensor,
    labels: Tensor,
    logits: Tensor,
    reconstruction_logits: Tensor,
    alpha: float,
    convention: str,
) -> dict[str, float]:
    """The decoder's columns of the ClaDec tables.

    Args:
        images, reconstructions: (N, C, H, W) in [0, 1].
        labels: (N,) true classes.
        logits, reconstruction_logits: (N, K), the explained classifier on the images and on the reconstructions.
        alpha: weight of the classification loss in `total_loss`, in [0, 1].
        convention: reconstruction loss in `total_loss`, `sse` or `mse`.

    Returns:
        `reconstruction_sse` (summed over pixels) and `reconstruction_mse` (averaged over them), both averaged over
        images; `classification_loss` and `accuracy` of the explained classifier on the reconstructions; `agreement`,
        the share of images whose reconstruction it gives the same class; `total_loss`, ClaDec's loss.
    """
    kept = classification(reconstruction_logits, labels)
    errors = {"sse": sse(images, reconstructions).item(), "mse": mse(images, reconstructions).item()}
    same = reconstruction_logits.argmax(1) == logits.argmax(1)
    return {
        "reconstruction_sse": errors["sse"],
        "reconstruction_mse": errors["mse"],
        "classification_loss": kept["loss"],
        "total_loss": (1 - alpha) * errors[convention] + alpha * kept["loss"],
        "accuracy": kept["accuracy"],
        "agreement": same.float().mean().item(),
    }
