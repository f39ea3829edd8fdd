"""A small convolutional network with dropout."""

from __future__ import annotations

from xmnist.models.base import DropoutRate, Shape, classifier
from xmnist.runtime.lazy import nn


@classifier("dropout_cnn", layers=("conv1", "conv2", "dense", "logits"), gates=("conv1.2", "conv2.3"), least=16)
def dropout_cnn(shape: Shape, classes: int, *, dropout: DropoutRate) -> nn.Module:
    """Two 5x5 convolutions with 10 and 20 channels, dropout, and two linear layers.

    After the MNIST notebook of github.com/intel/intel-xai-tools, which returns probabilities; this one returns logits.
    """
    from xmnist.models.layers import Dropout, Normalize, sequence

    channels, height, width = shape
    # Height and width after two unpadded 5x5 convolutions, each followed by 2x2 pooling.
    features = 20 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    return sequence(
        normalize=Normalize(channels),
        conv1=nn.Sequential(nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        conv2=nn.Sequential(nn.Conv2d(10, 20, 5), Dropout(dropout), nn.MaxPool2d(2), nn.ReLU()),
        flatten=nn.Flatten(),
        dense=nn.Sequential(nn.Linear(features, 50), nn.ReLU()),
        logits=nn.Linear(50, classes),
    )
