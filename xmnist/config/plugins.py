"""Plug-ins: components of a user's own, declared in Python files, modules or installed packages. No torch.

Plug-ins are named by a command's `plugins=`, by the environment variable `XMNIST_PLUGINS`, or by installed packages in
the entry-point group `xmnist`. They are imported when the first component is asked for, and nothing else is imported: a
run directory only records the names and descriptions of its plug-ins.
"""

import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from xmnist.config import groups
from xmnist.config.components import Source, source_of
from xmnist.runtime.errors import InputError

VARIABLE = "XMNIST_PLUGINS"
"""The environment variable that names plug-ins, separated as in PATH; other processes of a command have it too."""

_loaded: dict[str, Source] = {}
_begun = False


def typed(words: Sequence[str]) -> list[str]:
    """Return the plug-ins that the words of a command line name, by `plugins=FILE` or `plugins=[FILE,MODULE]`."""
    values = [word.partition("=")[2] for word in words if re.match(r"\+*plugins=", word)]
    inside = re.sub(r"^\[(.*)\]$", r"\1", values[-1].strip()) if values else ""
    return [word.strip(" '\"") for word in inside.split(",") if word.strip(" '\"") not in ("", "null")]


def begin(words: Iterable[str]) -> None:
    """Load these plug-ins and those that are always there, in this process and in those that it starts.

    Raises:
        InputError: one of them is missing, cannot be imported, declares nothing, or declares an invalid component.
    """
    known = [word for word in os.environ.get(VARIABLE, "").split(os.pathsep) if word]
    named = [str(Path(word).expanduser().resolve()) if _is_file(word) else word for word in words]
    if named:
        os.environ[VARIABLE] = os.pathsep.join(dict.fromkeys([*known, *named]))
    if named or known or _announced():
        load_chosen()


def loaded() -> bool:
    """Return whether any plug-in is loaded."""
    return bool(_loaded)


def refuse() -> None:
    """Load no plug-ins in this process: it only shows the records of runs."""
    global _begun
    _begun = True


def _announced() -> list[metadata.EntryPoint]:
    return list(metadata.entry_points(group="xmnist"))


def load_chosen() -> None:
    """Load the plug-ins of the environment and of installed packages, once; a group calls it with its first component.

    Raises:
        InputError: as for `begin`.
    """
    global _begun
    if _begun:
        return
    _begun = True  # before loading: a plug-in that asks a group for a component must not load itself again
    _count()  # which imports all built-in components: those that a plug-in imported first would be taken for its own
    for entry in _announced():
        package = entry.dist.name if entry.dist else entry.name
        _loaded[package] = Source(package, entry.dist.version if entry.dist else "")
        _import(package, entry.module, _loaded[package])
    for word in os.environ.get(VARIABLE, "").split(os.pathsep):
        if word:
            load(word)


def load(word: str) -> None:
    """Import a plug-in: a file, or a module by its dotted name.

    Raises:
        InputError: it is missing, cannot be imported, declares nothing, or declares an invalid component.
    """
    if word in _loaded:
        return
    if _is_file(word):
        path = Path(word).expanduser().resolve()
        if not path.is_file():
            raise InputError(f"plugins={word}: there is no such file")
        # Named by its content, so that a file cannot hide a module of the same name.
        spec = importlib.util.spec_from_file_location(f"xmnist_plugin_{_digest(path)[:12]}", path)
    else:
        try:
            spec = importlib.util.find_spec(word)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.origin:
            raise InputError(f"plugins={word}: there is no such module (a file ends in .py)")
        path = Path(spec.origin)
    assert spec is not None
    _loaded[word] = source = Source(path.name if _is_file(word) else word, _digest(path))
    before = _count()
    _import(word, spec, source)
    if _count() == before:
        raise InputError(
            f"plugins={word} declares nothing: it needs @xmnist.explainer, @xmnist.metric, @xmnist.classifier, "
            f"@xmnist.dataset or @xmnist.model"
        )


def _is_file(word: str) -> bool:
    return word.endswith(".py") or "/" in word or os.sep in word


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _count() -> int:
    """Return the number of components of plug-ins; all built-in ones are imported."""
    return sum(len(group.own()) for group in list(groups.GROUPS.values()))  # more may be imported meanwhile


def _import(word: str, module: Any, source: Source) -> None:
    """Import a module, by its name or its spec; `source` is recorded as the origin of its declarations."""
    before, groups.declaring = groups.declaring, source
    try:
        if isinstance(module, str):
            import_module(module)
            return
        imported = importlib.util.module_from_spec(module)
        sys.modules[module.name] = imported  # fields whose annotations are texts are looked up there
        module.loader.exec_module(imported)
    except InputError as error:
        raise InputError(f"plugins={word}: {error}") from None
    except Exception as error:  # it runs code that somebody wrote, which may raise anything
        raise InputError(f"plugins={word} cannot be imported: {type(error).__name__}: {_reason(error)}") from error
    finally:
        groups.declaring = before


def _reason(error: Exception) -> str:
    """Return the message of an error with the last line of its traceback: file and line."""
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}, line {error.lineno})"
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = (str(error).splitlines() or [""])[0]
    return f"{text} ({last.filename}, line {last.lineno})"


def remember(settings: Mapping[str, Any]) -> None:
    """Store titles and columns of the components of a finished run, without importing anything."""
    for word, record in _recorded(settings):
        about, name = source_of(record), record.get("name")
        if about and isinstance(name, str) and name.isidentifier():
            groups.GROUPS[word].remember(name, about)


def missing(settings: Mapping[str, Any]) -> list[str]:
    """Return the plug-ins of a run that are not loaded here, or have changed since."""
    out = []
    for word, record in _recorded(settings):
        if about := source_of(record):
            kind = groups.GROUPS[word].get(str(record.get("name")))
            if kind is None or kind.plugin is None or kind.plugin.digest != about["digest"]:
                out.append(str(about.get("from")))
    return list(dict.fromkeys(out))


def _recorded(settings: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the components that a run directory's settings record, with their groups."""
    one = [(word, settings.get(word)) for word in groups.GROUPS]
    several = [(word, settings.get(f"{word}s")) for word in ("explainer", "metric")]
    records = one + [(word, record) for word, all_ in several if isinstance(all_, Mapping) for record in all_.values()]
    return [(word, record) for word, record in records if isinstance(record, Mapping)]


groups.others.append(load_chosen)
