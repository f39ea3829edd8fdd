"""Stage `report`: one page of all finished runs."""

import json
import logging
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from xmnist.config.settings import ReportSettings
from xmnist.reporting import cards, collected, curves, gallery, overview, page, standings
from xmnist.runs import claims, inspection, store
from xmnist.runs.index import Found
from xmnist.runs.store import Run
from xmnist.runtime import environment, progress
from xmnist.runtime.errors import InputError

log = logging.getLogger(__name__)

SIZES = ((None, 1.0), (64, 1.0), (48, 1.0), (32, 1.0), (32, 0.5), (24, 0.5), (24, 0.25), (16, 0.1))
"""Steps in which a page is made smaller: pixels of a picture's longer side, and the share of images that is shown."""


WRAPPED = 200
"""Bytes that the page needs around each picture, or each chunk of pictures."""


def check(settings: ReportSettings) -> None:
    """Check, before anything is written, whether there is anything to show.

    Raises:
        InputError: no finished run fits the settings; or one run is named, and filters are given as well.
    """
    if settings.run and (filters := " ".join(settings.only.chosen())):
        raise InputError(f"run={settings.run} is one run, which needs no filter: leave {filters} out")
    collected.chosen(settings)


def main(settings: ReportSettings, typed: str) -> dict[str, Any]:
    """Make the page, and open it if the settings say so.

    Args:
        typed: the command that asked for it.

    Raises:
        InputError: there is nothing to show.
    """
    with progress.activity("reading runs"):
        run, several = Run("report", settings), collected.chosen(settings, log_left_out=True)
    with claims.claim(run, typed):
        run.write_json("environment.json", environment.describe("cpu", 1, 0))
        with progress.activity("making the page"):
            text, note = _render(several, settings)
        path = run.path / "index.html"
        with store.atomic(path) as file:
            file.write_text(text, encoding="utf-8")
        log.info(
            "%s: %d run%s, %.1f MB%s", path, len(several), "s" * (len(several) != 1), len(text.encode()) / 1e6, note
        )
    if settings.open and not webbrowser.open(path.resolve().as_uri()):
        log.warning("no browser could be started: open %s", path.resolve())
    return {"runs": len(several)}


def _render(several: Sequence[Found], settings: ReportSettings) -> tuple[str, str]:
    """Return the page, and a note about everything that had to be left out of it."""
    parts: dict[str, Any] = {
        "title": _title(settings),
        "tables": [*standings.standings(several), *standings.over_seeds(several)],
        "charts": curves.charts(several),
        "cards": cards.cards(several),
    }
    parts["overview"] = overview.overview(several, parts["tables"])
    pictures = [next(iter(collected.each("the pictures of", [run], page.pictures)), []) for run in several]
    bare = [page.entry(run, name) for run, name in zip(several, inspection.names(several), strict=True)]
    # A page without pictures is rendered first: the room for pictures is what it leaves of the limit.
    fixed = len(page.render(**parts, entries=bare, networks=[{"label": ""}], chunks=[], note="").encode())
    room = settings.megabytes * 1e6 - fixed
    limit = f"megabytes={settings.megabytes:g}"
    networks, tiles, note, taken = _fitting(several, settings.images, room, limit)
    room -= taken
    entries, left_out = [], 0
    for entry, run_pictures in zip(bare, pictures, strict=True):
        kept = []
        for picture in run_pictures:
            # A picture without room is skipped, as a smaller one after it may still fit.
            if len(picture.source) + WRAPPED <= room:
                kept.append(picture)
                room -= len(picture.source) + WRAPPED
        left_out += len(run_pictures) - len(kept)
        entries.append(replace(entry, pictures=kept, left=len(run_pictures) - len(kept)))
    text = page.render(**parts, entries=entries, networks=networks, chunks=tiles.chunks, note=note)
    notes = [note, f"{left_out} pictures of runs had no room with {limit}" if left_out else ""]
    notes += [f"what cannot be made smaller is larger than {limit}"] if room < 0 else []
    all_notes = "; ".join(line for line in notes if line)
    return text, f" ({all_notes})" if all_notes else ""


def _fitting(
    several: Sequence[Found], images: int, room: float, megabytes: str
) -> tuple[list[dict[str, Any]], gallery.Tiles, str, float]:
    """Return the networks, as many and as large pictures as there is room for, a note about that, and their size."""
    for side, share in SIZES:
        tiles, most = gallery.Tiles(side), max(1, round(share * images))
        networks = gallery.described(gallery.networks(several, most, tiles))
        taken = tiles.size + WRAPPED * len(tiles.chunks) + len(json.dumps(networks, separators=(",", ":")))
        if taken <= room:
            break
    notes = []
    if side and any(max(network["size"]) > side for network in networks):
        notes.append(f"pictures are at most {side} pixels high and wide ({megabytes})")
    if hidden := sum(network["hidden"] for network in networks):
        cause = f"images={images}" if most == images else megabytes
        notes.append(f"of each network's images the first {most} are shown, {hidden} are not ({cause})")
    return networks, tiles, "; ".join(notes), taken


def _title(settings: ReportSettings) -> str:
    chosen = [
        f"{key} {' and '.join(value) if isinstance(value, list) else value}"
        for key, value in settings.only.chosen().items()
    ]
    return ", ".join(chosen) or ("one run" if settings.run else "all runs")
