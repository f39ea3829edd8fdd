"""How well a classifier does."""

from torch import Tensor
from torch.nn import functional as F


def classification(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy and mean cross-entropy of logits (N, K) for true labels (N,)."""
    return {
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
        "loss": F.cross_entropy(logits, labels).item(),
    }
