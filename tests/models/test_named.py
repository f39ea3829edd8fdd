"""The named layers of every classifier: that they exist, in this order, and that the page for users names them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from xmnist.config import schema
from xmnist.config.resolution import conf_dir, option
from xmnist.config.schema import PRETRAINED
from xmnist.models import classifiers, named

PAGE = Path(conf_dir()).parent / "docs" / "layers.md"


@pytest.mark.parametrize("name", sorted(classifiers.CLASSIFIERS))
def test_named_layers_answer_in_their_order_and_the_last_one_with_the_logits(name: str) -> None:
    options = {key: option("classifier", name)[key] for key in schema.GROUPS["classifier"][name].keys() - PRETRAINED}
    called: list[str] = []
    with torch.device("meta"):
        network = classifiers.build(name, (3, 32, 32), 7, **options).eval()
        for layer in named.LAYERS[name]:
            network.get_submodule(layer).register_forward_hook(lambda *_, layer=layer: called.append(layer))
        network(torch.empty(1, 3, 32, 32))
    assert tuple(called) == named.LAYERS[name] == network.layers
    assert isinstance(network.get_submodule(called[-1]), nn.Linear)


@pytest.mark.skipif(not PAGE.is_file(), reason="not a checkout")
@pytest.mark.parametrize("name", sorted(named.LAYERS))
def test_the_page_of_layers_names_them_all(name: str) -> None:
    (line,) = (
        line for line in PAGE.read_text().splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1]
    )
    assert line.split("|")[2].strip() == ", ".join(f"`{layer}`" for layer in named.LAYERS[name])
