"""The rules of the package's layout: who may import whom, and what stays free of torch."""

import ast
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

from benchmarks import structure

MODULES = structure.modules(structure.PACKAGE)
IMPORTS = structure.imports(structure.PACKAGE)
ROOMS = (
    *("cli", "stages", "reporting", "training", "plots", "runs", "metrics", "explainers", "models", "data", "config"),
    "runtime",
)
"""From the top: a room imports from itself and from those after it."""


def top(module: str) -> str:
    return module.split(".")[0]


@lru_cache
def packages(path: Path) -> set[str]:
    """The packages that a file imports, at any place."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {top(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(top(node.module))
    return found


def test_every_module_is_in_a_room_that_says_what_it_holds() -> None:
    assert {top(module) for module in MODULES} == {*ROOMS, "__main__", ""}
    assert all(ast.get_docstring(structure.parsed(MODULES[room])) for room in ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    up = {
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if top(module) == room and ROOMS.index(top(other)) < ROOMS.index(room)
    }
    assert up == set()


def test_no_imports_go_in_a_circle() -> None:
    assert structure.circles(IMPORTS) == 0


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hydra", {"cli"}),
        ("omegaconf", {"cli", "config", "runtime", "runs"}),
        ("matplotlib", {"plots"}),
        ("captum", {"runtime"}),  # lazily, for the explainers
        ("zennit", {"explainers", "models"}),
        ("torchvision", {"data", "models"}),
        ("jinja2", {"reporting"}),
        ("pandas", {"stages", "reporting", "runtime"}),
        ("scipy", {"metrics"}),
        ("torchmetrics", {"metrics"}),
        ("tqdm", {"runtime"}),
        ("yaml", {"cli", "runs", "runtime"}),
    ],
)
def test_packages_stay_in_their_rooms(package: str, allowed: set[str]) -> None:
    users = {top(module) for module, path in MODULES.items() if package in packages(path)}
    assert users == allowed


def test_nobody_below_the_configs_and_runs_reads_settings_by_string_keys() -> None:
    outside = {module: path for module, path in MODULES.items() if top(module) not in ("config", "runs")}
    found = {module: structure.keys_read(path) for module, path in outside.items()}
    assert not {module: keys for module, keys in found.items() if keys}


def test_nothing_is_printed_by_the_library() -> None:
    for module in set(MODULES) - {"cli.main", "cli.listing", "runtime.errors"}:
        calls = (n for n in ast.walk(structure.parsed(MODULES[module])) if isinstance(n, ast.Call))
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), module


def test_the_command_line_the_page_runs_and_configs_import_no_torch() -> None:
    """Nor matplotlib: whatever answers before anything is computed is there at once."""
    own = [m for m in MODULES if top(m) in ("cli", "reporting", "runs", "config", "") or m == "stages.report"]
    lines = [f"import xmnist.{module}".rstrip(".") for module in sorted(own) if module != "__main__"]
    lines += ["from xmnist.config.declarations import COMPONENTS, EXPLAINERS"]
    lines += ["assert all(map(len, (EXPLAINERS, *COMPONENTS.values())))"]  # all declarations are read
    lines += ["import sys", "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"]
    assert subprocess.run([sys.executable, "-c", "\n".join(lines)]).returncode == 0
