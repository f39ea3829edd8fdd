"""The named layers of every classifier: that they exist, in this order, and that the page for users names them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from helpers import build
from xmnist.config.declarations import CLASSIFIERS
from xmnist.config.defaults import conf_dir, option

PAGE = Path(conf_dir()).parent / "docs" / "layers.md"


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_named_layers_answer_in_their_order_and_the_last_one_with_the_logits(name: str) -> None:
    called: list[str] = []
    with torch.device("meta"):
        network = build(shape=(3, 32, 32), classes=7, **option("classifier", name)).eval()
        for layer in CLASSIFIERS[name].layers:
            network.get_submodule(layer).register_forward_hook(lambda *_, layer=layer: called.append(layer))
        network(torch.empty(1, 3, 32, 32))
    assert tuple(called) == CLASSIFIERS[name].layers == network.layers
    assert isinstance(network.get_submodule(called[-1]), nn.Linear)


@pytest.mark.skipif(not PAGE.is_file(), reason="not a checkout")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_page_of_layers_names_them_all(name: str) -> None:
    (line,) = (
        line for line in PAGE.read_text().splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]
    )
    assert line.split("|")[2].strip() == ", ".join(f"`{layer}`" for layer in CLASSIFIERS[name].layers)
