"""The rules of the package's layout: who may import whom, and what stays free of torch."""

import ast
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

import xmnist

ROOT = Path(xmnist.__file__).parent
MODULES = {
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__"): p
    for p in ROOT.rglob("*.py")
}
LEVELS = [
    {"__main__"},
    {"cli"},
    {"arguments"},
    {"hooks", "trust"},
    {"basis", "sweeps"},
    {"train", "explain", "evaluate", "export", "report"},
    {"reporting"},
    {"measures", "seeds"},
    {"explaining", "charts", "search", "listing"},
    {"inspection", "missing", "pack"},
    {"existing", "verify"},
    {"tables", "together", "filters"},
    {"training", "selection", "found"},
    {"fitting"},
    {"pictures"},
    {"grids", "latent_figures", "hints"},
    {"runs", "tasks", "trainer", "figures", "sheets", "explainers", "pretrained", "summary", "diagnosis"},
    {"identity", "wording", "styles"},
    {"titles"},
    {"config", "environment", "devices"},
    {"sizing", "meanings"},
    {"derived", "storage"},
    {"schema"},
    {"rules"},
    {"data"},
    {"metrics"},
    {"interventions"},
    {"classifiers", "decoders", "joint", "losses", "vae"},
    {"layers"},
    {"parallel", "workers"},
    {"errors", "interrupts", "named", "progress", "reading", ""},
    {"processes", "streams", "machine"},
]
"""From the top: a module imports from levels below its own; `data` and `metrics` are packages."""


PANDAS = {"charts", "evaluate", "measures", "search", "seeds", "tables"}


def top(module: str) -> str:
    return module.split(".")[0]


LEVEL = {name: depth for depth, names in enumerate(LEVELS) for name in names}


@lru_cache
def imports(path: Path) -> set[str]:
    """Everything that a file imports, at any place, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "xmnist" else {node.module}
            )
    return found


def own(path: Path) -> set[str]:
    return {top(n.removeprefix("xmnist.")) for n in imports(path) if n.startswith("xmnist.")} - {"__version__"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module: str) -> None:
    assert top(module) in LEVEL, f"{module} has no place in the layout"
    for other in own(MODULES[module]) - {top(module)}:
        assert LEVEL[other] > LEVEL[top(module)], f"{module} -> {other}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("hydra", {"cli", "hooks", "trust"}),
        ("omegaconf", {"cli", "config", "hooks", "storage", "trust", "wording"}),
        ("matplotlib", {"figures", "grids", "latent_figures", "sheets"}),
        ("captum", {"explainers.gradients", "explainers.cam"}),
        ("zennit", {"explainers.lrp", "explainers.folding"}),
        ("torchvision", {"data.downloaded", "data.streamed", "classifiers", "layers", "pretrained"}),
        ("jinja2", {"reporting.page"}),
        ("pandas", {*PANDAS, "reporting.collected", "reporting.standings", "reporting.curves"}),
        ("scipy", {"metrics.similarity", "metrics.statistics"}),
        ("torchmetrics", {"metrics.classification", "metrics.similarity"}),
        ("tqdm", {"progress"}),
        ("yaml", {"cli", "hooks", "pack", "reading"}),
    ],
)
def test_packages_stay_where_they_belong(package: str, allowed: set[str]) -> None:
    users = {module for module, path in MODULES.items() if any(top(name) == package for name in imports(path))}
    assert users and users <= allowed


def test_nothing_is_printed_by_the_library() -> None:
    for module in set(MODULES) - {"cli", "errors", "listing"}:
        calls = (n for n in ast.walk(ast.parse(MODULES[module].read_text())) if isinstance(n, ast.Call))
        assert not any(isinstance(c.func, ast.Name) and c.func.id == "print" for c in calls), module


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "hooks",
        "config",
        "derived",
        "schema",
        "runs",
        "explainers",
        "data",
        "data.files",
        "data.fingerprint",
        "data.layouts",
        "arguments",
        "basis",
        "errors",
        "hints",
        "inspection",
        "listing",
        "report",
    ],
)
def test_modules_of_the_command_line_import_no_torch(module: str) -> None:
    code = f"import sys, xmnist.{module}; sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
