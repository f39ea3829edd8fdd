"""The explainers' answers for each network: images as columns, a row for each explainer, layer and alpha."""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmnist.config.components import Options, listed
from xmnist.config.declarations import explainer_title, is_control
from xmnist.config.derived import learned, variant
from xmnist.config.settings import ExplainingSettings
from xmnist.explainers.learned import Learned
from xmnist.reporting.collected import each, stands_on, told_apart
from xmnist.runs import store, titles
from xmnist.runs.index import Found
from xmnist.runs.query import text_of
from xmnist.runtime.reading import csv_rows


class Tiles:
    """Pictures as bytes, without duplicates; `chunks` are their packed parts in the page.

    Images, maps and masks in [0, 1] become 0 to 255; differences in [-1, 1], and heatmaps, each divided by its largest
    absolute value, become 1 to 255, with 128 for zero.

    Args:
        side: maximum height and width in pixels; larger pictures are made smaller; None: no maximum.
    """

    def __init__(self, side: int | None) -> None:
        self.side, self.count, self.size = side, 0, 0
        self.chunks: list[dict[str, Any]] = []
        self._places: dict[bytes, int] = {}

    def add(self, pictures: NDArray[np.floating], kind: str) -> tuple[list[int], list[float] | None]:
        """Add pictures (N, C, H, W), and return their numbers and, for heatmaps, the largest absolute value of each.

        The new pictures of a call are one chunk: it is unpacked when one of its pictures is shown.
        """
        pictures = np.asarray(pictures, np.float32)
        if self.side and max(pictures.shape[2:]) > self.side:
            pictures = _smaller(pictures, self.side)
        scales = None
        if kind == "heatmap":
            largest = np.abs(pictures).max((1, 2, 3))
            scales = [float(f"{value:.4g}") for value in largest]
            # A heatmap of zeros has no largest value to divide by, and stays zero.
            pictures = pictures / np.where(largest, largest, 1)[:, None, None, None]
        signed = kind in ("heatmap", "difference")  # answers, not explainers
        pixels = 128 + 127 * pictures.clip(-1, 1) if signed else 255 * pictures.clip(0, 1)
        pixels = np.ascontiguousarray(pixels.round().astype(np.uint8).transpose(0, 2, 3, 1))
        return self._kept(pixels), scales

    def _kept(self, pictures: NDArray[np.uint8]) -> list[int]:
        numbers, fresh = list[int](), list[NDArray[np.uint8]]()
        for picture in pictures:
            # The shape is part of the key, as pictures of different shapes may have the same bytes.
            key = hashlib.sha256(str(picture.shape).encode() + picture.tobytes()).digest()
            if key not in self._places:
                self._places[key] = self.count + len(fresh)
                fresh.append(picture)
            numbers.append(self._places[key])
        if fresh:
            packed = base64.b64encode(zlib.compress(b"".join(picture.tobytes() for picture in fresh), 9)).decode()
            height, width, channels = fresh[0].shape
            shape = {"height": height, "width": width, "channels": channels}
            self.chunks.append({"start": self.count, "count": len(fresh), **shape, "data": packed})
            self.count, self.size = self.count + len(fresh), self.size + len(packed)
        return numbers


def _smaller(pictures: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Return pictures (N, C, H, W) whose longer side is `side`; each value is the mean of those that it replaces."""
    factor = side / max(pictures.shape[2:])
    height, width = (max(1, round(length * factor)) for length in pictures.shape[2:])
    flat = pictures.reshape(-1, *pictures.shape[2:])
    resized = [np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling.BOX)) for channel in flat]
    return np.stack(resized).reshape(*pictures.shape[:2], height, width)


@dataclass
class Row:
    """One explainer's answers, in `cells` by the number of their image.

    In a cell, `seen` is the predicted class of an answer that is an image, and `gap` a map's completeness gap.
    """

    name: str
    title: str
    kind: str
    layer: str | None
    alpha: float | None
    options: Options
    cells: dict[int | str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Network:
    """An explained network, the chosen images by number, and the explainers' answers for them."""

    id: str
    label: str
    size: tuple[int, int]
    images: dict[int | str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    hidden: set[int | str] = field(default_factory=set)


def networks(several: Sequence[Found], images: int, tiles: Tiles) -> list[Network]:
    """Return all explained networks, with at most `images` images of each."""
    out: dict[str, Network] = {}
    drawn = [run for run in several if run.stage == "explain" and (run.path / "explanations.npz").is_file()]
    for _ in each("the pictures of", drawn, lambda run: _take_up(out, run, images, tiles)):
        pass
    alike = [network.label for network in out.values()]
    more = told_apart(several) if len(set(alike)) < len(alike) else {}
    for network in out.values():
        if alike.count(network.label) > 1:
            network.label += f" ({more.get(network.id, network.id)})"
        _tell_apart(network.rows.values())
    return list(out.values())


def _take_up(networks: dict[str, Network], run: Found, limit: int, tiles: Tiles) -> None:
    explained, table = stands_on(run)[0], csv_rows(run.path / "selection.csv")
    name = store.run_id("train", explained)
    with np.load(run.path / "explanations.npz", allow_pickle=False) as file:
        arrays = dict(file)
    numbers: list[int | str] = arrays["indices"].tolist()
    if "labels" not in arrays:  # images of one's own, whose numbers are not those of test images
        numbers = [
            _own_image_key(row, position, image)
            for position, (row, image) in enumerate(zip(table, arrays["images"], strict=True))
        ]
    new = Network(name[-8:], titles.explained_title(explained), arrays["images"].shape[2:])
    network = networks.setdefault(name, new)
    positions = [position for position, number in enumerate(numbers) if number in network.images]
    fresh = [position for position in range(len(numbers)) if position not in positions]
    room = max(0, limit - len(network.images))
    # A set, because several runs may have left out the same image.
    network.hidden |= {numbers[position] for position in fresh[room:]}
    if fresh := fresh[:room]:
        drawn, _ = tiles.add(arrays["images"][fresh], "image")
        truth = tiles.add(arrays["masks"][fresh], "mask")[0] if "masks" in arrays else [None] * len(fresh)
        for position, tile, mask in zip(fresh, drawn, truth, strict=True):
            record = table[position]
            network.images[numbers[position]] = {
                **{"index": numbers[position], "label": record.get("class") or None},
                **{"predicted": record["predicted_class"], "file": record.get("file") or None},
                **{"probability": float(record["probability"]), "tile": tile, "mask": mask},
            }
    positions = sorted(positions + fresh)
    if not positions:
        return
    for name, row in _rows(run.own, arrays).items():
        key = json.dumps([row.name, row.layer, row.alpha, row.options], sort_keys=True)
        kept = network.rows.setdefault(key, row)
        # Several runs may explain an image by the same explainer: its first answer is kept.
        missing = [position for position in positions if numbers[position] not in kept.cells]
        if not missing:
            continue
        drawn, scales = tiles.add(arrays[name][missing], row.kind)
        for order, (position, tile) in enumerate(zip(missing, drawn, strict=True)):
            predicted, gap = table[position].get(f"{name} predicted_class"), table[position].get(f"{name} gap")
            cell = {"tile": tile, "scale": scales[order] if scales else None, "seen": predicted}
            kept.cells[numbers[position]] = {**cell, "gap": float(gap) if gap else None}


def _own_image_key(row: Mapping[str, Any], position: int, image: NDArray[np.floating]) -> str:
    """Return the key of an own image, in place of a number: equal in two runs if file name and pixels are equal."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()[:8]
    return f"{row.get('file') or f'own image {position + 1}'} ({digest})"


def _rows(settings: ExplainingSettings, arrays: Mapping[str, Any]) -> dict[str, Row]:
    """Return the rows of a run, without their cells, by the name of their array."""
    out = {}
    for name, explainer in settings.explainers.items():
        title, kind = explainer_title(name), explainer.answer
        options = {key: value for key, value in explainer.plain().items() if key != "batch_size"}
        if isinstance(explainer, Learned):
            for needs in learned(settings, explainer.models[0]):
                trained = {"run": store.run_id("train", needs), "neurons": settings.neurons}
                row = Row(name, title, kind, str(needs.layer), needs.plain()["alpha"], options | trained)
                out[",".join([name, *variant(settings, needs)])] = row
            continue
        several = listed(settings.target)
        for target in several:
            more = {} if explainer.models else {"target": target, "map": settings.map}
            key = f"{name},target={target}" if len(several) > 1 and not explainer.models else name
            out[key] = Row(name, title, kind, None, None, options | more)
    return {name: row for name, row in out.items() if name in arrays}


def _tell_apart(several: Iterable[Row]) -> None:
    """Add to equal titles of rows the options in which the rows differ."""
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in several:
        alike.setdefault((row.title, row.layer, row.alpha), []).append(row)
    for group in alike.values():
        keys = {
            key for row in group for key in row.options if any(o.options.get(key) != row.options[key] for o in group)
        }
        # The hash of a run says little to a reader: it is used only if nothing else differs.
        keys = keys - {"run"} or keys
        for row in group if len(group) > 1 else ():
            texts = (f"{key}={text_of(row.options[key])}" for key in sorted(keys & row.options.keys()))
            row.title += f" ({', '.join(texts)})"


def described(several: Sequence[Network]) -> list[dict[str, Any]]:
    """Return the networks as the page's script reads them; the values of each row are in the order of the images."""
    out = []
    for network in several:
        columns, ordered = list(network.images.values()), list(network.rows.values())
        layers, names = ([getattr(row, key) for row in ordered] for key in ("layer", "name"))
        # Sorting is stable: the second sort keeps the order of the first within each kind.
        ordered.sort(key=lambda row: (layers.index(row.layer), names.index(row.name), row.alpha or 0.0))
        ordered.sort(key=lambda row: row.kind in ("image", "difference"))  # maps first, as in pictures
        drawn = [
            {
                **{key: getattr(row, key) for key in ("name", "title", "kind", "layer", "alpha")},
                **({"control": True} if is_control(row.name) else {}),
                **{
                    key: [row.cells.get(image["index"], {}).get(key) for image in columns]
                    for key in ("tile", "scale", "seen", "gap")
                },
            }
            for row in ordered
        ]
        for row in drawn:
            for key in ("scale", "seen", "gap"):
                if not any(value is not None for value in row[key]):
                    del row[key]
        header = {"id": network.id, "label": network.label, "size": list(network.size), "hidden": len(network.hidden)}
        out.append({**header, "images": columns, "rows": drawn})
    return out
