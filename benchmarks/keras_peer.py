"""The Keras study's networks and training, for seconds an epoch: `python -m benchmarks --peers` runs it.

    python benchmarks/keras_peer.py DATA.npz [--epochs 2] [--batch 32]

DATA.npz holds `images` (N, 28, 28, 1) in [0, 1] and `labels` (N,). Prints one JSON object: for each network the seconds
of every epoch, the first of which builds its graph, and its last loss. Written after the descriptions in the study's
README (github.com/tomtuamnuq/cladec-mnist): Adam, fp32, batches of 32; ClaDec with alpha 0.25.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

ALPHA = 0.25


def classifier() -> keras.Model:
    inputs = keras.Input((28, 28, 1))
    x = inputs
    for width in (32, 64):
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(layers.BatchNormalization()(x))
    conv = x
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    dense = layers.Dense(128, activation="relu")(x)
    outputs = layers.Dense(10, activation="sigmoid")(dense)
    model = keras.Model(inputs, outputs)
    model.encoders = {"conv": keras.Model(inputs, conv), "dense": keras.Model(inputs, dense)}
    return model


def decoder(layer: str) -> keras.Model:
    if layer == "dense":
        inputs = keras.Input((128,))
        x = layers.Reshape((1, 1, 128))(inputs)
        x = layers.Conv2DTranspose(64, 4, strides=2, activation="relu")(x)
        x = layers.Conv2DTranspose(32, 3, strides=2, activation="relu")(x)
        x = layers.Conv2DTranspose(1, 3, strides=3, output_padding=1, activation="sigmoid")(x)
    else:
        inputs = keras.Input((7, 7, 64))
        x = layers.Conv2DTranspose(64, 4, strides=2, padding="same", activation="relu")(inputs)
        x = layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(x)
    return keras.Model(inputs, x)


class ClaDec(keras.Model):
    def __init__(self, explained: keras.Model, layer: str) -> None:
        super().__init__()
        self.explained, self.encoder, self.decoder = explained, explained.encoders[layer], decoder(layer)
        explained.trainable = False
        self.entropy = keras.losses.CategoricalCrossentropy()

    def call(self, images: Any) -> Any:
        return self.decoder(self.encoder(images, training=False))

    def train_step(self, data: Any) -> dict[str, Any]:
        images, labels = data
        codes = self.encoder(images, training=False)
        with tf.GradientTape() as tape:
            made = self.decoder(codes, training=True)
            reconstruction = tf.reduce_mean(tf.reduce_sum(tf.square(made - images), axis=(1, 2, 3)))
            entropy = self.entropy(labels, self.explained(made, training=False))
            loss = (1 - ALPHA) * reconstruction + ALPHA * entropy
        weights = self.decoder.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


class Clock(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    with np.load(args.data) as arrays:
        images, labels = arrays["images"], keras.utils.to_categorical(arrays["labels"], 10)
    explained, found = classifier(), {}
    for name in ("classifier", "cladec dense", "cladec conv"):
        model = explained if name == "classifier" else ClaDec(explained, name.split()[1])
        rate = 1e-3 if name == "classifier" else 5e-3
        model.compile(keras.optimizers.Adam(rate, epsilon=1e-4), loss="categorical_crossentropy")
        clock = Clock()
        history = model.fit(images, labels, batch_size=args.batch, epochs=args.epochs, verbose=0, callbacks=[clock])
        found[name] = {"seconds": clock.seconds, "loss": float(history.history["loss"][-1])}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
