"""The page as one self-contained HTML file, which loads nothing from elsewhere."""

import base64
import hashlib
import io
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from xmnist import __version__
from xmnist.config.declarations import explainer_title
from xmnist.metrics import tables
from xmnist.reporting.collected import content
from xmnist.reporting.standings import Cell
from xmnist.runs import commands
from xmnist.runs.index import Found

ASSETS = Path(__file__).parent / "assets"

DRAWN = ("grid", "curves", "aopc", "mean_f", "roc", "precision_recall", "confusion", "classes", "reconstruction")
"""Pictures of runs that the page leaves out, because it draws interactive ones instead."""

ELSEWHERE = re.compile(r"^(data_dir|out_dir|device|train_missing|force|fail_fast): .*\n", re.MULTILINE)
"""Lines of a config.yaml that change no result, and may reveal details of a user's machine."""

FOLDER = re.compile(r"^(  (?:path|weights): ).*/([^/\n]+)$", re.MULTILINE)
"""Lines with the path of a file or folder, of which the page shows only the last part."""

WIDEST = 1400
"""Maximum width of a run's picture in pixels."""


@dataclass(frozen=True)
class Picture:
    """A picture of a run, small enough for the page."""

    name: str
    width: int
    height: int
    source: str


def pictures(run: Found) -> list[Picture]:
    """Return the pictures of a run that the page does not draw itself, such as a latent space."""
    return [_picture(path) for path in sorted(run.path.glob("*.png")) if path.stem not in DRAWN]


def _picture(path: Path) -> Picture:
    with Image.open(path) as image:
        image.thumbnail((WIDEST, WIDEST * 4))
        out = io.BytesIO()
        image.convert("RGB").save(out, "webp", quality=80, method=4)
        data = base64.b64encode(out.getvalue()).decode()
        return Picture(path.name, *image.size, f"data:image/webp;base64,{data}")


@dataclass(frozen=True)
class Entry:
    """A run in the list of runs; `left` is the number of its pictures that had no room."""

    run: Found
    name: str
    figures: str
    command: str
    config: str
    environment: dict[str, str]
    pictures: Sequence[Picture] = ()
    left: int = 0


def entry(run: Found, name: str) -> Entry:
    """Return the list's entry of a run, without pictures, and without the folders of the machine where it was made."""
    recorded = content(run.path / "environment.json")
    versions = ", ".join(f"{name} {number}" for name, number in recorded.pop("versions", {}).items() if number)
    environment = {"versions": versions, **{key: str(value) for key, value in recorded.items() if value is not None}}
    config = ELSEWHERE.sub("", (run.path / "config.yaml").read_text(encoding="utf-8"))
    config = FOLDER.sub(r"\1\2", config)
    command = commands.public(shlex.split(run.command or ""))
    figures = ", ".join(f"{value:.4g} {_called(name)}" for name, value in run.figures.items())
    return Entry(run, name, figures, command, config, environment)


def _called(score: str) -> str:
    """Return the readable name of a score, such as `aopc of Grad-CAM` for `aopc of gradcam`."""
    name, of, explainer = score.partition(" of ")
    return f"{name.replace('_', ' ')}{of}{explainer_title(explainer) if of else ''}"


def render(**context: Any) -> str:
    """Return the page; all values of the context are escaped."""
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FileSystemLoader(ASSETS),
        # An unknown name in the template must be an error, not a gap in the page.
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False, "ensure_ascii": False}
    environment.filters |= {"numbers": numbers, "method": explainer_title}
    style, head, script = (_asset(*names) for names in (["page.css"], ["head.js"], SCRIPTS))
    static = {
        "version": __version__,
        "style": style,
        "head": head,
        "script": script,
        "csp": _policy(style, [head, script]),
    }
    return environment.get_template("index.html.jinja").render(**static, **context)


def numbers(cell: Cell) -> tuple[str, str]:
    """Return a cell's value and its uncertainty, as texts with matching digits."""
    assert cell.value is not None
    if cell.spread is not None:
        value, spread = tables.numbers(cell.value, cell.spread)
        return value, f"± {spread}"
    if cell.low is None or cell.high is None:
        return tables.numbers(cell.value)[0], ""
    value, low, high = tables.numbers(cell.value, cell.low, cell.high)
    return value, f"[{low}, {high}]"


SCRIPTS = ("page.js", "gallery.js", "overview.js", "charts.js", "tables.js", "start.js")


def _asset(*names: str) -> str:
    return "\n" + "".join((ASSETS / name).read_text(encoding="utf-8") for name in names)


def _policy(style: str, scripts: Iterable[str]) -> str:
    """Return the page's content security policy: it runs its own scripts, by their checksums, and loads nothing."""

    def allowed(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; img-src data:; style-src {allowed(style)}; "
        f"script-src {' '.join(map(allowed, scripts))}; base-uri 'none'; form-action 'none'"
    )
