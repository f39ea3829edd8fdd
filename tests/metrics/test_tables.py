import math

import numpy as np
import pandas as pd
import pytest

from xmnist.config.declarations import METRICS
from xmnist.metrics import tables
from xmnist.metrics.aopc import Aopc

AOPC = Aopc(patch=4, fill="black", steps=None, batch_size=9, precision="fp32")


def rows(**means: float) -> pd.DataFrame:
    """An `aopc` table of 40 images, two patch sizes and one fill."""
    draw = np.random.default_rng(0)
    parts = []
    for patch in (4, 8):
        for name, mean in means.items():
            values = mean + 0.1 * draw.standard_normal(40)
            own = {"aopc": values, "aopc_lerf": values - 0.3, "abpc": 0.3 + 0 * values}
            parts.append(pd.DataFrame({"explainer": name, "patch": patch, "fill": "black", "image": range(40), **own}))
    return pd.concat(parts)


def test_scores_are_means_over_patches_and_fills_for_each_image() -> None:
    table = rows(random=0.1, lrp=0.5)
    found = METRICS["aopc"].scores(table)
    assert len(found) == 80 and list(found) == ["aopc", "abpc"]
    by_hand = table[(table["explainer"] == "lrp") & (table["image"] == 7)]["aopc"].mean()
    assert found.loc[("lrp", 7), "aopc"] == pytest.approx(by_hand)


def test_a_method_is_told_from_random_where_it_differs() -> None:
    names = {"random": "explainer", "same": "explainer", "lrp": "explainer"}
    found = tables.summary([AOPC], {"aopc": rows(random=0.1, same=0.1, lrp=0.5)}, {}, names, seed=0).set_index("name")
    assert math.isnan(found.loc["random", "aopc_p"]) and found.loc["same", "aopc_p"] > 0.05 > found.loc["lrp", "aopc_p"]
    assert found.loc["lrp", "aopc_low"] < found.loc["lrp", "aopc"] < found.loc["lrp", "aopc_high"]
    text = tables.markdown(found.reset_index())
    lines = {line.split()[1].lower(): line for line in text.splitlines() if line.startswith("| ")}
    marked = {name: "≈" in line.split("|")[2] for name, line in lines.items()}  # in the column aopc
    assert marked["same"] and not marked["lrp"] and not marked["random"]
    assert "Holm-corrected" in text and "[95 % bootstrap interval" in text


def test_sizes_of_gaps_and_the_last_layer_stand_for_axioms() -> None:
    parts = [("completeness_gap", "", -3.0), ("reset_ssim", "logits", 0.9), ("reset_ssim", "stem", 0.2)]
    table = pd.DataFrame(
        [
            {"explainer": "lrp", "axiom": a, "layer": layer, "image": n, "value": v}
            for a, layer, v in parts
            for n in (1, 2)
        ]
    )
    found = METRICS["axioms"].scores(table)
    assert found.loc[("lrp", 1)].to_dict() == {"completeness_gap": 3.0, "reset_ssim": 0.2}
    read_again = table.assign(layer=table["layer"].replace("", math.nan))
    assert len(METRICS["axioms"].scores(read_again.fillna({"layer": ""}))) == 2


def test_failures_stand_in_their_cells() -> None:
    names = {"random": "explainer", "lrp": "explainer", "cam": "explainer"}
    failures = {("aopc", "cam"): "no such layer", ("pompom", "lrp"): "a | b"}
    found = tables.summary([AOPC, METRICS["pompom"]()], {"aopc": rows(random=0.1, lrp=0.5)}, failures, names, seed=0)
    text = tables.markdown(found)
    assert "failed: no such layer" in text and "failed: a \\| b" in text
    assert len({line.count(" | ") for line in text.splitlines() if line.startswith("| ")}) == 1


def test_seeds_have_means_and_deviations() -> None:
    one = pd.DataFrame({"kind": "explainer", "name": ["lrp", "cam"], "aopc": [0.1, "failed: why"], "aopc_p": 0.5})
    two = pd.DataFrame({"kind": "explainer", "name": ["lrp", "cam"], "aopc": [0.3, 0.7], "aopc_p": 0.5})
    found = tables.over_seeds({3: one, 4: two}).set_index("name")
    assert found.loc["lrp", "aopc"] == pytest.approx(0.2) and found.loc["lrp", "aopc_sd"] == pytest.approx(0.1 * 2**0.5)
    assert found.loc["cam", "aopc"] == 0.7 and math.isnan(found.loc["cam", "aopc_sd"])
    assert list(found["seeds"]) == ["3+4", "3+4"] and "aopc_p" not in found
    assert "nan" not in tables.markdown(found.reset_index())  # a single value has no deviation


def test_a_grid_has_a_column_for_each_patch_size_and_fill() -> None:
    detailed = tables.by_patch_and_fill(rows(random=0.1, lrp=0.5), ["random", "lrp"], seed=0)
    assert list(detailed)[:3] == ["patch", "fill", "explainer"] and len(detailed) == 4
    lines = tables.grid(detailed, "aopc").splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["explainer", "4x4 black", "8x8 black"]
    assert len({len(line) for line in lines[:4]}) == 1 and "Holm-corrected" in lines[-1]
