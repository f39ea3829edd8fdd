"""The command `xmnist runs`, which lists, compares and removes runs. No torch, no pandas, no Hydra."""

import dataclasses
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from xmnist.runs import index, inspection, pack, query, verify
from xmnist.runs.index import Found
from xmnist.runs.query import UNITS
from xmnist.runtime.errors import InputError, report, unknown

USAGE = """xmnist runs: list the runs, newest last, show and compare them, remove some, or check and pack them

usage: xmnist runs [KEY=VALUE ...] [flags]
       xmnist runs show RUN [out_dir=DIR]
       xmnist runs compare RUN RUN [RUN ...] [out_dir=DIR]
       xmnist runs verify [RUN|all ...] [out_dir=DIR]
       xmnist runs pack RUN -o FILE.zip [out_dir=DIR]

RUN is a hash (the digits that end a run's name; the first few will do), a run's folder, or last.
show: its path, command, settings, scores and pictures. compare: the settings that differ, and the scores side by
side, with their differences to the first run's. verify: are their files, the networks that they stand on, and their
data those that were recorded? Exit 1 if something differs. pack: a run with all that it stands on, and a README.txt,
for somebody who checks it elsewhere.

filters, all of which must fit; several values are separated by commas:
  state=STATE       done, failed, interrupted, running; killed: its process died (the same command goes on with it);
                    stale: the networks or data that it was made from are others now (it is done again when asked for);
                    damaged: its status.json cannot be read
  stage=STAGE       train, explain, evaluate, export
  older=AGE         begun longer ago than this: a number and s, m, h, d or w, such as 7d
  newer=AGE         begun since then
  KEY=VALUE         dataset, model, classifier, layer, alpha, seed, explainer, metric, and any other key of a run's
                    config.yaml, such as trainer.epochs=6; of a list, one of its values or all of them, as [1,0.25,0.9]

examples:
  xmnist runs dataset=mnist model=cladec alpha=0,0.25
  xmnist runs newer=2h --json
  xmnist runs state=failed,interrupted --remove

flags and folder:
  out_dir=DIR       where the runs are (default: outputs)
  --json            all that is known of each, as a list of objects
  --remove          show them, ask, and remove them; what is needed again is made again
  --yes             remove without asking
  --help            this text
"""

FLAGS = ("--json", "--remove", "--yes", "--help", "-h")

SHORT = {"reconstruction_sse": "sse"}
"""Short names of scores in the table."""

SAID = re.compile(r"\b(metric|explainer|select|of|classifier|layer|loss|alpha)=|,seed=0\b")
"""Parts of a run's name that are left out where there is little room, as the rest is understood without them."""


def main(argv: Sequence[str]) -> None:
    """List or remove runs, as the words of a command line say.

    Raises:
        InputError: one of the words is wrong.
    """
    if argv and argv[0] in COMMANDS and not {"--help", "-h"} & set(argv):
        return COMMANDS[argv[0]](argv[1:])
    flags, filters = _parsed([word for word in argv if word not in COMMANDS])
    if {"--help", "-h"} & set(flags):
        sys.stdout.write(USAGE)
        return
    out_dir = Path(filters.pop("out_dir", "outputs"))
    runs = index.below(out_dir)
    query.check_keys(filters, runs)
    if not runs:
        report(f"no runs below {out_dir}{os.sep} yet")
    runs = query.chosen(runs, filters)
    if "--remove" in flags:
        _remove(runs, asking="--yes" not in flags)
    elif "--json" in flags:
        _write(json.dumps([dataclasses.asdict(run) for run in runs], indent=2, default=str) + "\n")
    else:
        _write(table(runs, _width()))


def _split(argv: Sequence[str]) -> tuple[list[str], Path]:
    """Return the words of a command line that name runs, and the folder where the runs are."""
    out_dirs = [word.partition("=")[2] for word in argv if word.startswith("out_dir=")]
    out_dir = Path(out_dirs[-1] if out_dirs else "outputs")
    if not out_dir.is_dir():
        raise InputError(f"out_dir={out_dir}: there is no such folder")
    return [word for word in argv if not word.startswith("out_dir=")], out_dir


def _verify(argv: Sequence[str]) -> None:
    words, out_dir = _split(argv)
    text, sound = verify.report(verify.chosen(words, out_dir), out_dir)
    _write(text)
    if not sound:
        sys.exit(1)


def _show(argv: Sequence[str]) -> None:
    words, out_dir = _split(argv)
    if len(words) != 1:
        raise InputError("xmnist runs show takes one run: its hash, its folder, or last")
    _write(inspection.show(index.named(words[0], out_dir)))


def _compare(argv: Sequence[str]) -> None:
    words, out_dir = _split(argv)
    _write(inspection.compare([index.named(word, out_dir) for word in words]))


def _pack(argv: Sequence[str]) -> None:
    words, out_dir = _split(argv)
    if len(words) != 3 or "-o" not in words[:2] or "all" in words:
        raise InputError("xmnist runs pack RUN -o FILE.zip: it takes one run, and the file to write")
    position = words.index("-o")
    target, named = Path(words[position + 1]), [word for word in words if word not in words[position : position + 2]]
    (about,) = verify.chosen(named, out_dir)
    packed = pack.pack(about, target)
    _write("\n".join([f"{target}: {size_text(target.stat().st_size)}", *(f"  {key}" for key in packed)]) + "\n")


COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {
    **{"show": _show, "compare": _compare, "verify": _verify, "pack": _pack}
}
"""Subcommands of `xmnist runs`."""


def _width() -> int | None:
    """Return the maximum width of a table, or None for any width, if the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _parsed(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the flags and filters of a command line, after a check of each of them."""
    flags = [word for word in argv if word.startswith("-")]
    for flag in flags:
        if flag not in FLAGS:
            raise unknown("flag", flag, FLAGS, "flags")
    filters: dict[str, str] = {}
    for word in (word for word in argv if word not in flags):
        key, _, text = word.partition("=")
        if not key or not text:
            raise InputError(f"cannot read '{word}': a filter is KEY=VALUE, such as state=failed")
        if key in filters:
            raise InputError(f"{key} is given twice; several values are separated by commas: {key}={filters[key]},...")
        filters[key] = text
        query.check_value(key, text)
        if key == "out_dir" and not Path(text).is_dir():
            raise InputError(f"out_dir={text}: there is no such folder")
    if {"--json", "--remove"} <= set(flags):
        raise InputError("--json lists and --remove removes: give one of them")
    if "--yes" in flags and "--remove" not in flags:
        raise InputError("--yes belongs to --remove")
    if "--remove" in flags and not set(filters) - {"out_dir"}:
        raise InputError("--remove needs a filter that says which runs, such as state=failed")
    if "--remove" in flags and "--yes" not in flags and not sys.stdin.isatty():
        raise InputError("--remove asks first, and there is no terminal to ask at: add --yes to remove without")
    return flags, filters


HEADS = ("hash", "state", "stage", "dataset", "model", "age", "size", "settings", "result")
NARROW = 100
"""Width of a terminal, in columns, below which the table leaves out age and size."""


def table(runs: Sequence[Found], width: int | None) -> str:
    """Return one line for each run below a line of headings; a narrow terminal gets shorter settings and results."""
    names, left_out = inspection.names(runs), ("age", "size") if (width or NARROW) < NARROW else ()
    head = [word for word in HEADS if word not in left_out]
    # Short results are tried before any text is cut off.
    for brief in (False, True):
        rows = [head]
        for run, name in zip(runs, names, strict=True):
            cells = {"age": age_text(run.age_seconds), "size": size_text(run.bytes)}
            age_and_size = [cells[word] for word in cells if word not in left_out]
            identity = (run.id, run.state, run.stage, run.dataset, run.model or "")
            rows.append([*identity, *age_and_size, name, _result(run, brief)])
        *fixed, settings, result = [max(map(len, column)) for column in zip(*rows, strict=True)]
        room = (width or sys.maxsize) - sum(length + 2 for length in fixed) - 2
        if settings + result <= room:
            break
    else:
        result = max(min(result, max(15, room - settings, room // 3), room - 10), 9)
        settings = max(room - result, 10)
    return "".join(_line(row, (*fixed, settings, result)) for row in rows) if runs else ""


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    out = []
    for column, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        text = "".join(letter if letter.isprintable() else "?" for letter in cell)  # no cursor movement
        text = SAID.sub("", text) if len(text) > width else text
        text = f"{text[: width - 1]}…" if len(text) > width else text
        number = len(cells) == len(HEADS) and HEADS[column] in ("age", "size")
        out.append(text.rjust(width) if number else text.ljust(width))
    return "  ".join(out).rstrip() + "\n"


def _result(run: Found, brief: bool) -> str:
    """Return a run's scores and its problems; the more important part is first, because the end may be cut off."""
    figures = [f"{value:.4g} {SHORT.get(name, name)}" for name, value in run.figures.items()]
    parts = [
        ", ".join(figures[:1] if brief else figures),
        run.error or ("; ".join(run.warnings) if run.warnings else None),
    ]
    return "; ".join(part for part in (parts if run.state == "done" else parts[::-1]) if part)


def age_text(seconds: float) -> str:
    """Return an age as one whole number with its unit: 45s, 12m, 3h, 5d, 8w."""
    unit = next((unit for unit in "wdhm" if seconds >= 2 * UNITS[unit]), "s")
    return f"{int(seconds // UNITS[unit])}{unit}"


def size_text(size: float) -> str:
    """Return a number of bytes in a readable unit: 950 B, 12.3 MB."""
    unit, *larger = ("B", "kB", "MB", "GB", "TB")
    # The limits are those of rounding: 999.6 kB would be printed as 1000 kB.
    while size >= 999.5 and larger:
        size, unit = size / 1000, larger.pop(0)
    return f"{size:.0f} {unit}" if size >= 99.95 or unit == "B" else f"{size:.1f} {unit}"


def _remove(runs: Sequence[Found], asking: bool) -> None:
    """Remove the runs that are neither locked by a process nor edited, if the user agrees."""
    free = [run for run in runs if not run.edited and not index.is_locked(run.path)]
    for run in runs:
        if run not in free:
            why = (
                "its config.yaml was edited, so a filter may not mean it"
                if run.edited
                else "a process is at work on it"
            )
            why = why if os.access(run.path, os.W_OK) else "this user may not write there"
            report(f"{run.path} stays: {why}")
    if not free:
        return
    these = "this run" if len(free) == 1 else f"these {len(free)} runs"
    _write(table(free, _width()))
    if asking and not _agreed(f"remove {these} ({size_text(sum(run.bytes for run in free))})? [y/N] "):
        _write("nothing was removed\n")
        return
    gone = [run for run in free if _removed(run)]
    _write(f"removed {len(gone)} run{'' if len(gone) == 1 else 's'} ({size_text(sum(run.bytes for run in gone))})\n")
    if len(gone) < len(free):
        sys.exit(1)


def _agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _removed(run: Found) -> bool:
    """Remove a run and return whether it is gone; a run that was begun again meanwhile stays, and a message says so."""
    lock = run.path / ".lock"
    try:
        with FileLock(lock, timeout=0):
            if run.path.is_symlink() or index.read(run.path).started != run.started:
                raise OSError("it is another one by now" if not run.path.is_symlink() else "it is a link")
            inside = sorted(run.path.iterdir(), key=lambda path: path.name != "status.json")
            for path in inside:  # the status first: what is left by an interrupt must not look like a finished run
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                elif path != lock:
                    path.unlink()
        # The lock file goes last, so that no other process can claim the run while its files are removed.
        lock.unlink(missing_ok=True)
        run.path.rmdir()  # refuses if a process has begun this run anew in between
        with suppress(OSError):  # the first that is not empty
            for folder in list(run.path.parents)[: 2 if run.stage == "export" else 3]:
                folder.rmdir()
    except OSError as error:
        report(f"{run.path} stays: {'a process is at work on it' if isinstance(error, Timeout) else error}")
        return False
    return True
