"""The layers of each classifier that have a name; without torch, so that `layer=all` is known at once."""

_RESNET = ("layer1", "layer2", "layer3", "layer4", "avgpool", "fc")
LAYERS = {
    "vgg_small": ("conv", "dense", "logits"),
    "lenet_avgpool": ("conv1", "conv2", "dense1", "dense2", "logits"),
    "dropout_cnn": ("conv1", "conv2", "dense", "logits"),
    "cam_net": ("conv1", "conv2", "features", "logits"),
    "vgg_xml": ("conv1", "conv2", "conv3", "conv4", "dense1", "dense2", "logits"),
    "vgg11": (*(f"conv{place}" for place in range(1, 9)), "logits"),
    "resnet10": ("stem", "block1", "block2", "block3", "block4", "pool", "logits"),
    **{f"resnet{depth}": tuple(f"network.{layer}" for layer in _RESNET) for depth in (18, 34, 50, 101, 152)},
}
"""Classifier -> its named layers, from the image on: `layer=all`."""
