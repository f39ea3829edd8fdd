"""How the code is built: sizes, imports, strings that stand for settings and components.

    python -m benchmarks.structure [FOLDER ...]

prints a table with a column for each folder that holds a package (default: the folder of xmnist). tests/test_layout.py
holds what of it is a rule.
"""

import ast
import statistics
import sys
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import xmnist

PACKAGE = Path(xmnist.__file__).parent
SETTINGS = (
    "settings",
    "options",
    "own",
    "trainer",
    "dataset",
    "classifier",
    "model",
    "select",
    "metrics",
    "explainers",
)
"""Names under which settings travel."""

COMPONENTS = ("classifier", "dataset", "explainer", "metric", "model", "select")
"""The groups of configs whose files are components."""


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(package: Path) -> dict[str, Path]:
    """The modules of a package, by their dotted names below it; a folder's own is called as the folder."""
    out = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def imports(package: Path, name: str = "xmnist") -> dict[str, set[str]]:
    """Module -> the modules of its package that it imports, at any place in it."""
    known = modules(package)
    out: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.ImportFrom) or node.level or (node.module or "").split(".")[0] != name:
                continue
            base = (node.module or "").removeprefix(name).lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                out[module].add(full if full in known else base)
        out[module] -= {module, ""}
    return out


def depth(graph: Mapping[str, set[str]]) -> int:
    """How many modules the longest chain of imports has.

    Raises:
        CycleError: the imports go in a circle.
    """
    found: dict[str, int] = {}
    for module in TopologicalSorter(graph).static_order():
        found[module] = 1 + max((found[other] for other in graph.get(module, ())), default=0)
    return max(found.values())


def circles(graph: Mapping[str, set[str]]) -> int:
    """1 if imports go in a circle, else 0."""
    try:
        depth(graph)
    except CycleError:
        return 1
    return 0


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """The functions of a file, with the lines that each has besides its docstring."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first, length = node.body[0], (node.end_lineno or 0) - node.lineno + 1
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                length -= (first.end_lineno or 0) - first.lineno + 1
            yield node.name, length


def comments(path: Path) -> int:
    """How many comments a file has."""
    with path.open("rb") as file:
        return sum(token.type == tokenize.COMMENT for token in tokenize.tokenize(file.readline))


def _root(node: ast.AST) -> str:
    """The name that an expression such as run.settings["model"] ends in before its keys."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def keys_read(path: Path) -> list[tuple[int, str]]:
    """The line and key of each string with which a file looks into settings."""
    out = []
    for node in ast.walk(parsed(path)):
        key: ast.AST | None = None
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _root(node.value) in SETTINGS:
            key = node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            key = node.args[0] if node.args and _root(node.func.value) in SETTINGS else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            out.append((key.lineno, key.value))
    return out


@cache
def component_names(conf: Path) -> frozenset[str]:
    """What the components are called that have a file in conf/."""
    return frozenset(path.stem for group in COMPONENTS for path in (conf / group).glob("*.yaml"))


def names_compared(path: Path, names: frozenset[str]) -> list[tuple[int, str]]:
    """The line and name of each comparison with the name of a component that is spelled out."""
    out = []
    for node in ast.walk(parsed(path)):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        for side in sides:
            each = side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]
            out += [(e.lineno, str(e.value)) for e in each if isinstance(e, ast.Constant) and e.value in names]
    return out


def measured(package: Path) -> dict[str, str]:
    """What there is to say of a package, a line each."""
    files, graph = modules(package), imports(package)
    sizes = [len(path.read_text(encoding="utf-8").splitlines()) for path in files.values()]
    long = sorted(length for path in files.values() for _, length in functions(path))
    told = sum(comments(path) for path in files.values())
    folders = [sum(path.parent == folder for path in files.values()) for folder in {p.parent for p in files.values()}]
    conf = next((each for each in (package / "conf", package.parent / "conf") if each.is_dir()), package)
    settings = {module: len(keys_read(path)) for module, path in files.items()}
    compared = {module: len(names_compared(path, component_names(conf))) for module, path in files.items()}
    inner = [count for module, count in settings.items() if module.split(".")[0] not in ("config", "runs")]
    return {
        "files, lines": f"{len(files)}, {sum(sizes):,}",
        "lines a file, median (max)": f"{statistics.median(sizes):.0f} ({max(sizes)})",
        "lines a function, median / p90 / max": " / ".join(
            str(long[place]) for place in (len(long) // 2, len(long) * 9 // 10, -1)
        ),
        "comments per 100 lines": f"{100 * told / sum(sizes):.1f}",
        "depth of the import graph": str(0 if circles(graph) else depth(graph)),
        "circles": str(circles(graph)),
        "files in one folder, most": str(max(folders)),
        "string keys of settings (outside config/ and runs/)": f"{sum(settings.values())} ({sum(inner)})",
        "comparisons with a component's name": str(sum(compared.values())),
    }


def main() -> None:
    packages = [Path(word) for word in sys.argv[1:]] or [PACKAGE]
    columns = [measured(package) for package in packages]
    width = max(map(len, columns[0]))
    for name in columns[0]:
        print(f"{name:<{width}}  " + "  ".join(f"{column[name]:>16}" for column in columns))


if __name__ == "__main__":
    main()
