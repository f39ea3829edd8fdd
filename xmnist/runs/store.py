"""Storage of runs: directories named by their settings, status, locks, checksums and reuse."""

import csv
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from xmnist import data
from xmnist.config.components import listed
from xmnist.config.derived import stands_on
from xmnist.config.settings import ExportSettings, Settings, StageSettings, of_plain
from xmnist.runs.identity import place, run_id
from xmnist.runtime import processes, reading
from xmnist.runtime.errors import DamageError, InputError, one_line
from xmnist.runtime.storage import (
    FULL,
    atomic,
    digest,
    first_line,
    load_checkpoint,
    save_checkpoint,
    write_yaml,
)

log = logging.getLogger(__name__)

CHECKSUMMED = ("*.pt", "*.json", "*.csv", "*.md", "*.npz", "grid.*")
"""Patterns of the files whose checksums the status of a finished run holds."""

WEIGHTS = "model.pt"
"""File with the weights of a trained network."""

EFFORT = ("epochs", "seconds", "images_per_second")
"""Entries of `metrics.json` that measure the cost of a run, not its quality."""


FIRST = ("grid", "examples", "aopc.", "depth", "reconstruction", "confusion")
"""Beginnings of the names of main pictures; such a picture is listed before the others of its run."""


S = TypeVar("S", bound=StageSettings)


@dataclass(frozen=True)
class Run(Generic[S]):
    """One stage with its settings, in its own directory."""

    stage: str
    settings: S

    @property
    def path(self) -> Path:
        """The run's directory: OUT/STAGE/DATASET/MODEL/ID."""
        return Path(self.settings.out_dir, self.stage, place(self.stage, self.settings))

    @property
    def id(self) -> str:
        """The hash of the run: the eight hexadecimal digits that end its name."""
        return self.path.name[-8:]

    def status(self) -> dict[str, Any]:
        """Return the content of status.json; empty if it is missing, or not as this run wrote it."""
        status, reason = reading.status(self.path)
        return {} if reason else status

    def write_status(self, status: dict[str, Any]) -> None:
        """Write status.json, even if the disk has no room for another file."""
        status = {**status, "run": self.path.name}
        text = json.dumps({**status, "checksum": reading.checksum(status)}, indent=2) + "\n"
        try:
            with atomic(self.path / "status.json") as file:
                file.write_text(text, encoding="utf-8")
        except OSError as error:
            if error.errno not in FULL or not (self.path / "status.json").is_file():
                raise
            with (self.path / "status.json").open("r+", encoding="utf-8") as file:  # reuses its space
                file.write(text)
                file.truncate()

    def metrics(self) -> dict[str, Any]:
        """Return the scores in the run's metrics.json."""
        return reading.content(self.path / "metrics.json")[0]

    def finished(self) -> bool:
        """Return whether the run is done, not stale, and its files are those that it wrote.

        Raises:
            DamageError: one of its files has changed.
        """
        status = self.status()
        if not status and (self.path / "status.json").is_file():
            log.warning("%s was damaged: this run is done again", self.path / "status.json")
        if stale := self.stale():
            log_once(logging.WARNING, f"{self.path} is stale, and done again: {stale}")
            return False
        return status.get("state") == "done" and self.intact()

    def bases(self) -> list["Run[Settings]"]:
        """Return the `train` runs that this run depends on."""
        return [Run("train", settings) for settings in stands_on(self.settings)]

    def sources(self) -> dict[str, Any]:
        """Return the digests of what the run is made from, as far as present: weights (`stands_on`) and `data`."""
        weights = {base.key: base.status()["files"][WEIGHTS] for base in self.bases() if base.sound()}
        data = self.data()
        return {"stands_on": weights} | ({"data": data} if data else {})

    def sound(self) -> bool:
        """Return whether the run is done, not stale, and has saved weights; its files are not read."""
        status = self.status()
        return status.get("state") == "done" and WEIGHTS in status.get("files", {}) and not self.stale()

    def stale(self) -> str:
        """Return why the finished run no longer matches its networks and data; empty if it does, or if this is unknown.

        A run without recorded sources is stale if a network that it depends on was begun after the run's end.
        """
        status = self.status()
        return self.changed(status, status["ended"]) if status.get("state") == "done" else ""

    def changed(self, sources: dict[str, Any], ended: str = "") -> str:
        """Return which of these `sources` has changed; empty if none has, or if it is gone and cannot be compared."""
        weights = sources.get("stands_on")
        for base in self.bases():
            status, name = base.status(), base.settings.model.name
            if status.get("state") != "done":
                continue
            if base.stale():
                return f"the {name} that it stands on is stale"
            now = status.get("files", {}).get(WEIGHTS)
            if status["started"] > ended if weights is None else weights.get(base.key, now) != now:
                return f"the {name} that it stands on was trained again"
        data = sources.get("data")
        if data and isinstance(self.settings, Settings | ExportSettings) and self.data() not in (None, data):
            return f"the files of {self.settings.dataset.name} are others now"
        return ""

    def data(self) -> str | None:
        """Return the digest of the data set's files; None if it has no files, or they are missing."""
        if not isinstance(self.settings, Settings | ExportSettings):  # a report has no data set
            return None
        dataset = data.recorded(self.settings.dataset)
        if dataset is None or dataset.stated_digest():  # else the run's name says what the files are
            return None
        return dataset.digest(self.settings.data_dir)

    @property
    def key(self) -> str:
        """The run's path below OUT, the same for any OUT and on any system."""
        return f"{self.stage}/{place(self.stage, self.settings)}"

    def intact(self) -> bool:
        """Return whether all files that the run has written, done or failed, are present.

        Raises:
            DamageError: one of the files has changed.
        """
        for name, checksum in self.status().get("files", {}).items():
            file = self.path / name
            if not file.is_file():
                log.warning("%s is gone: this run is done again", file)
                return False
            if digest(file) != checksum:
                raise DamageError(
                    f"{file} is not the file that this run wrote: it was damaged, or comes from another model; put the "
                    f"right one back, or redo the run with force=true"
                )
        return True

    def reusable(self) -> bool:
        """Return whether the finished run can be used as it is, without force=true.

        A config.yaml that no longer matches the run is written again.
        """
        if self.settings.force or not self.finished():
            return False
        try:
            described(self.path, self.stage)
        except ValueError as error:
            log.warning("%s: it is written again", error)
            write_yaml(self.path / "config.yaml", self.settings.plain())
        return True

    def log_summary(self, outcome: str) -> None:
        """Log the run's folder, its scores on the test images, its warnings, and its pictures."""
        if processes.rank():
            return

        def line(scores: dict[str, Any]) -> str:
            quality = {name.replace("_", " "): value for name, value in scores.items() if name not in EFFORT}
            return ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in quality.items())

        metrics = self.metrics()
        nested = all(isinstance(value, dict) for value in metrics.values())
        rows = [f"{name}: {line(row)}" for name, row in metrics.items()] if nested else [f"test: {line(metrics)}"]
        rows += [f"warning: {text}" for text in self.status().get("warnings") or []] if outcome != "done" else []
        drawn = [path.name for path in self.path.iterdir() if path.suffix in (".png", ".pdf", ".svg")]
        drawn = sorted(drawn, key=lambda name: (not name.startswith(FIRST), name))
        rows += [f"picture: {self.path / drawn[0]}"] if drawn else []
        rows += [f"beside it: {', '.join(drawn[1:])}"] if drawn[1:] else []
        summary = self.path / "summary.md"
        table = f"\n\n{summary.read_text(encoding='utf-8')}" if summary.is_file() else ""
        log.info("%s%s", "\n  ".join([f"{outcome}: {self.path}", *rows]), table)

    def draw(self, name: str, draw: Callable[[Path], None]) -> None:
        """Draw a picture in every format of the settings; `draw` gets a file with the format's suffix."""
        for kind in self.formats:
            with atomic(self.path / f"{name}.{kind}") as file:
                draw(file)

    def drawn(self) -> bool:
        """Return whether the run has pictures in all formats of the settings, or no pictures at all."""
        suffixes = {path.suffix[1:] for path in self.path.glob("*.*")} & {"png", "pdf", "svg"}
        return not suffixes or suffixes.issuperset(self.formats)

    @property
    def formats(self) -> list[str]:
        """The formats of the run's pictures; empty if it draws none."""
        return listed(self.settings.format) if isinstance(self.settings, Settings) else []

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; if several processes train a model, the first one writes all files."""
        if processes.rank():
            return
        with atomic(self.path / name) as file:
            file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def write_csv(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a CSV file with one line for each row; the first row's keys are the columns."""
        if processes.rank():
            return
        with atomic(self.path / name) as file, file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write a checkpoint: tensors and plain values."""
        if not processes.rank():
            save_checkpoint(self.path / name, state)

    def load(self, name: str) -> dict[str, Any] | None:
        """Read a checkpoint of tensors and plain values; None if there is none.

        Raises:
            InputError: it is damaged, or contains anything else.
        """
        try:
            return load_checkpoint(self.path / name) if (self.path / name).is_file() else None
        except ValueError as error:
            raise self.refused(name, str(error)) from None

    def load_into(self, model: Any, name: str) -> None:
        """Load the weights of checkpoint `name` into a network.

        Raises:
            InputError: it is missing, damaged or of another network.
        """
        state = self.load(name)
        if state is None:
            raise self.refused(name, "it is missing")
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise self.refused(name, str(error)) from None

    def refused(self, name: str, reason: str) -> InputError:
        """Return the error that states why checkpoint `name` is not used."""
        return InputError(
            f"{self.path / name} is no checkpoint of this run: {first_line(reason)}; remove it, or redo the run with "
            f"force=true"
        )


@lru_cache
def log_once(level: int, text: str) -> None:
    """Log a text only once, although a command, or each job of a sweep, would repeat it."""
    log.log(level, "%s", text)


def described(folder: Path, stage: str) -> Any:
    """Return the settings in a run's config.yaml.

    Raises:
        ValueError: the file cannot be read, or is not that of this run; the message is one line.
    """
    path = folder / "config.yaml"
    content, reason = reading.content(path)
    try:
        settings: Any = None if reason else of_plain(stage, content)
        name = "" if reason else run_id(stage, settings)
    except Exception as error:  # keys may be missing, or hold anything
        reason = one_line(error)[:100]
    if reason:
        raise ValueError(f"{path} cannot be read ({reason})")
    if name != folder.name:
        raise ValueError(f"{path} was changed: it would be the config of {name}")
    return settings
