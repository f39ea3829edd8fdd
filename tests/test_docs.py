"""What docs say of components is what these declare."""

import re
from pathlib import Path

import pytest

from xmnist.config.declarations import CLASSIFIERS, DATASETS, EXPLAINERS, METRICS
from xmnist.config.kinds import MODELS

DOCS = Path(__file__).parents[1] / "docs"


def rows(page: str) -> dict[str, str]:
    """The rows of a page's tables, by each name in code style that stands in their first cell."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    out: dict[str, str] = {}
    for line in lines:
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            out[name] = out.get(name, "") + line
    return out


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_has_a_row_with_its_keys_and_source(name: str) -> None:
    declared, told = EXPLAINERS[name], rows("explainers.md")[name]
    assert all(f"`{key}`" in told for key in declared.keys if key not in ("batch_size", "translations"))
    assert declared.source == "" or declared.source.split()[-1] in told


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_part_with_its_scores_and_keys(name: str) -> None:
    part = re.split(r"^## ", (DOCS / "metrics.md").read_text(), flags=re.MULTILINE)[1:]
    (own,) = (each for each in part if each.startswith(f"{name}\n"))
    scores = [column.name.removesuffix("_recomputed") for column in METRICS[name].columns]
    told = [each for each in (*scores, *METRICS[name].keys) if not re.search(rf"\b{each}\b", own, re.IGNORECASE)]
    assert told == []


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_has_a_row_with_its_layers(name: str) -> None:
    assert re.findall(r"`([^`]+)`", rows("layers.md")[name].split("|")[2]) == list(CLASSIFIERS[name].layers)


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_has_a_row(name: str) -> None:
    assert name in rows("data.md")


def test_every_kind_of_model_is_told_of() -> None:
    pages = "".join(path.read_text() for path in (*DOCS.glob("*.md"), DOCS.parent / "README.md"))
    assert all(f"model={name}" in pages for name in MODELS if name != "classifier")
