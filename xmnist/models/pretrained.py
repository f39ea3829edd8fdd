"""Initialisation of torchvision networks from trained weights."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any, Self

from xmnist.config.components import Options
from xmnist.config.rules import maybe, sha256, text
from xmnist.data.files import socket_timeout
from xmnist.models.base import Classifier
from xmnist.runtime.errors import InputError, one_line
from xmnist.runtime.lazy import Tensor, nn, torch
from xmnist.runtime.storage import digest, load_checkpoint

log = logging.getLogger(__name__)

IMAGENET = "imagenet"
"""The word for torchvision's own weights, instead of a file."""

SECONDS = 10.0
"""The longest wait for an answer of a server."""

CLASSES = ("fc.weight", "fc.bias")
"""The tensors that depend on the number of classes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained(Classifier):
    """A torchvision network as the part `network` of a classifier, which can be initialised from trained weights.

    It stands first among the bases of a declaration, so that the options of the network come before its own.
    """

    weights: Annotated[
        str | None,
        maybe(text("imagenet, or a file with a state dict")),
        "what its training begins with: null (drawn), imagenet (torchvision's, fetched), or a file",
    ] = None
    weights_sha256: Annotated[
        str | None,
        maybe(sha256("the file in weights")),
        "of that file, found by itself; where the file is gone, it names the runs that began with it",
    ] = None

    def resolved(self) -> Self:
        """Return the same classifier with the checksum of its file: the content, not the path, identifies the run.

        Where the file is gone, a given checksum is trusted, so that a finished run is found without the file.
        """
        path, expected = self.weights, self.weights_sha256
        if path is None or path == IMAGENET:
            if expected:
                raise InputError(f"classifier.weights_sha256 is that of a file in classifier.weights, which is {path}")
            return self
        if expected and not Path(path).exists():
            return self
        try:
            about = os.stat(path)
            checksum = _checksum(path, about.st_mtime_ns, about.st_size)
        except OSError as error:
            raise InputError(
                f"classifier.weights={path}: {error.strerror}; it must be {self.keys['weights'].rule.text}; the "
                f"config.yaml of a run that began with a file has its classifier.weights_sha256, with which it is "
                f"found without the file"
            ) from None
        if expected and expected != checksum:
            raise InputError(
                f"classifier.weights={path} has the SHA-256 {checksum}, not classifier.weights_sha256={expected}"
            )
        return replace(self, weights_sha256=checksum)

    def identity(self) -> Options:
        """Return name and options, with the checksum of the file of initial weights instead of its path."""
        options = self.plain()
        path, checksum = options.pop("weights"), options.pop("weights_sha256")
        return options | ({"weights": checksum or path} if path else {})

    def elsewhere(self) -> Self:
        return self if self.weights is None else replace(self, weights=Path(self.weights).name)

    def begins(self) -> bool:
        return bool(self.weights)

    def check_beginning(self, network: nn.Module) -> None:
        assert self.weights is not None
        find(network, self.name, self.weights, self.weights_sha256)

    def begin(self, network: nn.Module) -> str:
        assert self.weights is not None
        fresh = begin(network, self.name, self.weights, self.weights_sha256)
        return f"the weights of {self.weights}" + (f"; freshly initialised: {fresh}" if fresh else "")


@lru_cache
def _checksum(path: str, modified: int, size: int) -> str:
    """Return the checksum of a file, which is read again only if its time or size has changed."""
    return digest(Path(path))


def begin(model: nn.Module, name: str, source: str, checksum: str | None = None) -> str:
    """Load trained weights into a fresh ResNet; return a description of the parts that stay fresh."""
    state, fresh = find(model, name, source, checksum)
    model.get_submodule("network").load_state_dict(state, strict=False)
    return fresh


def find(model: nn.Module, name: str, source: str, checksum: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Return the initial tensors of a ResNet, by torchvision's names, and a description of the parts that stay fresh.

    Tensors of another stem or for another number of classes are left out. Where the images are gray and the weights
    were trained on colour images, the first convolution's weights are summed over channels: a gray image of three
    equal channels would give the same output.

    Args:
        model: may be on the meta device; it is not changed.
        name: torchvision's name of the network, such as `resnet18`.
        source: `imagenet`, or a file.
        checksum: the expected SHA-256 of the file.

    Raises:
        InputError: there are no such weights, or they are not those of this network.
    """
    fresh_state = model.get_submodule("network").state_dict()
    state = _imagenet(name) if source == IMAGENET else _in_file(source, name, checksum)
    try:
        return _fitted(fresh_state, state)
    except ValueError as error:
        raise _unfit(source, name, str(error)) from None


def _fitted(fresh_state: dict[str, Tensor], state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    missing = [
        key for key in fresh_state if key not in state and not key.endswith("num_batches_tracked")
    ]  # older than that
    more = [key for key in state if key not in fresh_state]
    for verb, keys in (("lacks", missing), ("also holds", more)):
        if keys:
            raise ValueError(f"it {verb} {keys[0]}" + (f" and {len(keys) - 1} others" if keys[1:] else ""))
    state, fresh = dict(state), []
    stem, wanted = state["conv1.weight"], fresh_state["conv1.weight"].shape
    if stem.shape == (wanted[0], 3, *wanted[2:]) and wanted[1] == 1:
        state["conv1.weight"] = stem = stem.sum(1, keepdim=True)
    if stem.shape != wanted and stem.ndim == 4 and len(stem) == wanted[0]:
        fresh.append(f"the first convolution ({_size(stem.shape[1:])} there, {_size(wanted[1:])} here)")
        del state["conv1.weight"]
    count, features = fresh_state["fc.weight"].shape
    head, bias = (state[key].shape for key in CLASSES)
    if len(head) == 2 and head[0] != count and head[1] == features and bias == head[:1]:
        fresh.append(f"the last layer ({head[0]} classes there, {count} here)")
        for key in CLASSES:
            del state[key]
    for key, value in state.items():
        if value.shape != fresh_state[key].shape:
            raise ValueError(f"its {key} is {_size(value.shape)}, not {_size(fresh_state[key].shape)}")
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or value.is_floating_point() != fresh_state[key].is_floating_point() or value.is_complex():
            raise ValueError(f"its {key} does not hold plain numbers")
        if not value.to(fresh_state[key].dtype).isfinite().all():
            raise ValueError(f"its {key} holds what is no finite number")
    return state, " and ".join(fresh)


def _size(shape: Any) -> str:
    return "x".join(map(str, shape)) or "a number"


def _unfit(source: str, name: str, reason: str) -> InputError:
    return InputError(
        f"classifier.weights={source} is not used: {one_line(reason)}; it must hold the state dict of torchvision's "
        f"{name}, or be the model.pt of a classifier={name}"
    )


def _in_file(source: str, name: str, checksum: str | None) -> dict[str, Tensor]:
    """Return the state dict in a file, by torchvision's names."""
    if not Path(source).is_file():
        raise _unfit(source, name, "there is no such file")
    try:
        if checksum is not None and digest(Path(source)) != checksum:
            raise ValueError("it was changed after the command began, or is not the file of classifier.weights_sha256")
        with warnings.catch_warnings(action="ignore"):  # PyTorch's of odd files: an error tells of them in one line
            state: Any = load_checkpoint(Path(source), old=True)
        state, notes = _unpacked(state)
    except (OSError, ValueError) as error:
        raise _unfit(source, name, str(error)) from None
    if notes:
        log.info("classifier.weights=%s: %s", source, "; ".join(notes))
    return {key: value.detach() for key, value in state.items()}


KEYS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Common keys of the state dict in a checkpoint."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
"""Common keys of the moving average of the weights."""

FIRST = "conv1.weight"
"""The first tensor of a torchvision ResNet."""


def _unpacked(checkpoint: dict[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Return the state dict in a checkpoint, by torchvision's names, and notes on omitted tensors and prefixes.

    Raises:
        ValueError: there is no state dict.
    """
    notes, state = list[str](), checkpoint
    inside = [key for key in (*KEYS, *AVERAGED) if isinstance(checkpoint.get(key), dict)]
    if inside:
        state = checkpoint[inside[0]]
        averages = [key for key in inside[1:] if key in AVERAGED]
        notes.append(f"the weights are those of '{inside[0]}'" + (f", not of '{averages[0]}'" if averages else ""))
    if not state or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise ValueError("it holds other things than named tensors")
    before = [key.removesuffix(FIRST) for key in state if re.fullmatch(rf"(.*\.)?{re.escape(FIRST)}", key)]
    starts = sorted(
        (prefix for prefix in before if not re.search(r"layer\d", prefix)),
        key=lambda prefix: ("ema" in prefix, len(prefix)),
    )
    prefix = starts[0] if starts else ""
    tensors = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if prefix == "network.":  # a classifier of this package: its normalisation was of other data
        return tensors, []
    omitted = [key for key in state if not key.startswith(prefix)]
    if prefix:
        notes.append(f"'{prefix}' is taken off their names")
    if omitted:
        notes.append(f"left out: {omitted[0]}" + (f" and {len(omitted) - 1} others" if omitted[1:] else ""))
    return tensors, notes


def _imagenet(name: str) -> dict[str, Tensor]:
    """Return torchvision's default weights of a network, from its cache folder or fetched into it."""
    from torchvision.models import get_model_weights  # takes seconds

    weights = get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    promised = re.search(r"-([0-9a-f]+)\.", file.name)
    if file.is_file() and promised and not digest(file).startswith(promised[1]):
        raise InputError(f"classifier.weights=imagenet: {file} is damaged; remove it, and it is fetched again")
    try:
        with socket_timeout(SECONDS), redirect_stdout(io.StringIO()):  # PyTorch says there what it fetches
            return weights.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError) as error:  # the last if what came has another checksum
        raise InputError(
            f"classifier.weights=imagenet: {weights.url} cannot be fetched ({one_line(error)}); with that file at "
            f"hand: classifier.weights=FILE, or put it into {file.parent}"
        ) from None
