"""Training losses."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from xmnist.runtime import distributed


def sse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error summed over pixels, averaged over the batch: the Keras study's reconstruction loss."""
    return (reconstructions - images).square().flatten(1).sum(1).mean()


def mse(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Squared error averaged over pixels and batch: the original code's reconstruction loss."""
    return F.mse_loss(reconstructions, images)


RECONSTRUCTION = {"sse": sse, "mse": mse}


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy; with weights (K,) of the classes, it is divided by those of the whole batch's labels."""
    mean = F.cross_entropy(logits, labels, weights)
    return mean if weights is None else distributed.weighted(mean, weights[labels].sum())


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
    # Skipping a term of weight 0 saves a pass through the classifier or over the pixels.
    loss = images.new_zeros(())
    if alpha < 1:
        loss = loss + (1 - alpha) * RECONSTRUCTION[reconstruction](images, reconstructions)
    if alpha > 0:
        loss = loss + alpha * F.cross_entropy(classifier(reconstructions), labels)
    return loss


def bce(images: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy (N,) of images in [0, 1] and sigmoid(logits), summed over pixels; safe for any logit."""
    wide = logits.to(images.dtype)  # they may be bfloat16, in which a sum over pixels loses most of its digits
    return F.binary_cross_entropy_with_logits(wide, images, reduction="none").flatten(1).sum(1)


def kl(means: Tensor, logvars: Tensor) -> Tensor:
    """Kullback-Leibler divergence (N,) of N(mean, exp(logvar)) from N(0, 1), summed over the latent space.

    `0.5 * sum(mean^2 + exp(logvar) - logvar - 1)`; means and log-variances are (N, latent).
    Source: Kingma and Welling, "Auto-encoding variational Bayes", arXiv 1312.6114, appendix B.
    """
    return 0.5 * (means.square() + logvars.exp() - logvars - 1).sum(1)


def variational(
    classifier: Callable[[Tensor], Tensor],
    images: Tensor,
    logits: Tensor,
    labels: Tensor,
    means: Tensor,
    logvars: Tensor,
    alpha: float,
    beta: float,
) -> Tensor:
    """`(1 - alpha) * BCE(images, logits) + alpha * CE(classifier(sigmoid(logits)), labels) + beta * KL`.

    The Keras study's loss of a variational ClaDec, averaged over the batch; a term of weight 0 is not computed.

    Args:
        classifier, labels: as for `cladec`.
        images: (N, C, H, W) in [0, 1].
        logits: of the reconstructions.
        means, logvars: of the latent points, (N, latent).
        alpha: in [0, 1].
        beta: weight of the divergence; 1 for a VAE, other values for a beta-VAE.
    """
    loss = images.new_zeros(())
    if alpha < 1:
        loss = loss + (1 - alpha) * bce(images, logits).mean()
    if alpha > 0:
        loss = loss + alpha * F.cross_entropy(classifier(logits.sigmoid()), labels)
    if beta > 0:
        loss = loss + beta * kl(means, logvars).mean()
    return loss


def total_variation(maps: Tensor) -> Tensor:
    """Mean absolute difference of vertical neighbours plus that of horizontal ones, averaged over the batch.

    Each mean is over its own number of pairs, (H-1) W and H (W-1). 0 for a constant map; maps are (N, 1, H, W).
    """
    return maps.diff(dim=2).abs().mean() + maps.diff(dim=3).abs().mean()


def explanation(maps: Tensor, beta: float, masks: Tensor | None = None, gamma: float = 0.0) -> Tensor:
    """`beta * mean|z| + (1 - beta) * TV(z)`; with masks plus `gamma * |sum((1-m) z) / (sum(1-m) + 1e-6)|` an image.

    The unsupervised and the hybrid explanation loss of Rio-Torto et al., Pattern Recognition Letters 133 (2020), for
    each image, averaged over the batch.

    Args:
        maps: z, (N, 1, H, W) in [0, 1].
        beta: in [0, 1]; weight of sparsity against smoothness.
        masks: m, of the same shape; true or 1 on the object.
        gamma: weight of the penalty for values outside the object.
    """
    loss = beta * maps.abs().mean() + (1 - beta) * total_variation(maps)
    if masks is None:
        return loss
    # The 1e-6 keeps the quotient finite for a mask that covers the whole image.
    outside = 1 - masks.to(maps.dtype)
    strayed = (outside * maps).flatten(1).sum(1) / (outside.flatten(1).sum(1) + 1e-6)
    return loss + gamma * strayed.abs().mean()
