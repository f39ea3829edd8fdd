"""Tables of what was measured: means with intervals and tests, as CSV for machines and Markdown for people."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from xmnist.metrics.statistics import holm, interval, paired_test
from xmnist.runs.titles import explainer_title
from xmnist.runtime.seeds import derive_seed

CONTROL = "random"
"""The explainer that the others are tested against."""

LEVEL = 0.05

MEANING = {
    "accuracy": "higher is better",
    "loss": "lower is better",
    "reconstruction_sse": "squared error, summed over pixels; lower is better",
    "reconstruction_mse": "squared error, averaged over pixels; lower is better",
    "classification_loss": "of the explained classifier on the reconstructions; lower is better",
    "reconstruction_bce": "binary cross-entropy, summed over pixels; lower is better",
    "kl": "divergence of a variational model's code from N(0, 1); what its weight beta keeps small",
    "total_loss": "(1 - alpha) * reconstruction + alpha * classification; of a variational model plus beta * kl",
    "agreement": "how often the predicted class of the reconstruction is that of the image",
    "evaluation_accuracy": "of a fresh classifier, trained and tested on the reconstructions",
    "aopc": "how much of the class's probability is lost, most relevant patches first; higher is better",
    "abpc": "the same, less what is lost with the least relevant patches first; higher is better",
    "aopc_recomputed": "aopc with the joint model's map made anew for each covered image; aopc keeps it fixed",
    "abpc_recomputed": "abpc with the joint model's map made anew for each covered image",
    "pompom": "share of the pixels beside the object where the map is positive; lower is better",
    "mass": "share of the map inside the object; higher is better",
    "rank": "share of the object's pixels among as many largest values; higher is better",
    "pointing": "how often the largest value is inside the object; higher is better",
    "completeness_gap": "size of sum(map) - (f(x) - f(x0)); 0 where the axiom holds",
    "conservation_gap": "size of sum(map) - f(x); 0 where the axiom holds",
    "sensitivity_a": "share of single pixels that matter and are in the map; 1 is best",
    "invariance_gap": "how much the map differs for the same function, written another way; 0 is best",
    "reset_rank_correlation": "with the map of a network whose weights are all reset; near 0 is best",
    "reset_ssim": "structural similarity with the map of that network; near 0 is best",
}
"""Score -> what it says."""

BEST: dict[str, Literal["greater", "less"]] = {
    **dict.fromkeys(("accuracy", "agreement", "evaluation_accuracy", "aopc", "abpc", "aopc_recomputed"), "greater"),
    **dict.fromkeys(("abpc_recomputed", "mass", "rank", "pointing", "sensitivity_a"), "greater"),
    **dict.fromkeys(("loss", "reconstruction_sse", "reconstruction_mse", "reconstruction_bce"), "less"),
    **dict.fromkeys(
        ("classification_loss", "pompom", "completeness_gap", "conservation_gap", "invariance_gap"), "less"
    ),
}
"""Score -> which of two values is better; others, such as `total_loss` of different alphas, have no better one."""

_COLUMNS = {
    "classifier": ["accuracy", "loss"],
    "aopc": ["aopc", "abpc"],
    "pompom": ["pompom"],
    "localisation": ["mass", "rank", "pointing"],
    "reconstruction": [
        *("reconstruction_sse", "reconstruction_mse", "reconstruction_bce", "kl"),
        *("classification_loss", "total_loss"),
        *("accuracy", "agreement", "evaluation_accuracy"),
    ],
}
_TESTED = ("aopc", "pompom", "localisation")


def scores(table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """One value an image and score, by name and image: means over patch sizes and fills, sizes of gaps."""
    name = "model" if "model" in rows else "explainer"
    if table == "axioms":
        gaps = rows[rows["layer"] == rows.groupby("axiom")["layer"].transform("last")]  # after all layers are reset
        wide = gaps.assign(value=gaps["value"].where(~gaps["axiom"].str.endswith("_gap"), gaps["value"].abs()))
        return wide.pivot(index=[name, "image"], columns="axiom", values="value")
    columns = [column for column in _COLUMNS[table] if column in rows]
    if "map" not in rows:
        return rows.groupby([name, "image"], sort=False)[columns].mean()
    parts = {kind: part.groupby([name, "image"], sort=False)[columns].mean() for kind, part in rows.groupby("map")}
    return parts["fixed"].join(parts["recomputed"].add_suffix("_recomputed"))


def summarised(values: pd.DataFrame, names: Iterable[str], seed: int, tested: bool) -> pd.DataFrame:
    """Mean, interval and corrected p-value of each score, a row a name.

    Args:
        values: as `scores` gives them.
        names: the rows, in this order.
        tested: whether each is tested against `CONTROL`, if that is there; paired by image, corrected over the others.
    """
    names = [name for name in names if name in values.index.get_level_values(0)]
    out = pd.DataFrame(index=names)
    for score in values:
        each = {name: values.loc[name, score].dropna() for name in names}
        drawn = derive_seed(seed, f"bootstrap of {score}")
        bounds = [interval(each[name].to_numpy(), drawn) for name in names]
        out[score] = [each[name].mean() for name in names]
        out[f"{score}_low"], out[f"{score}_high"] = zip(*bounds, strict=True) if bounds else ((), ())
        if tested and CONTROL in each and len(names) > 1:
            out[f"{score}_p"] = holm([_against(each[name], each[CONTROL], name) for name in names])
    return out


def _against(values: pd.Series, control: pd.Series, name: str) -> float:
    both = pd.concat([values, control], axis=1, join="inner").to_numpy()
    return math.nan if name == CONTROL or not len(both) else paired_test(both[:, 0], both[:, 1])


def summary(
    tables: Mapping[str, pd.DataFrame], failures: Mapping[tuple[str, str], str], names: Mapping[str, str], seed: int
) -> pd.DataFrame:
    """One row a model or explainer: `kind`, `name`, and each score with its interval and test.

    Args:
        tables: rows by table, as they were measured.
        failures: why a metric (first) has no figure of a name (second); it stands in their cell.
        names: each name's kind.
    """
    out = pd.DataFrame({"kind": list(names.values())}, index=list(names))
    for table, rows in tables.items():
        if table in ("classification", "aopc_curves"):
            continue
        found = summarised(scores(table, rows), names, seed, table in _TESTED)
        known = [column for column in found if column in out]  # the classifier's accuracy, by two metrics
        for column in known:
            out[column] = out[column].fillna(found[column])
        out = out.join(found.drop(columns=known))
    for (metric, name), reason in failures.items():
        first = "accuracy" if metric == "classification" else _COLUMNS.get(metric, ["sensitivity_a"])[0]
        if first not in out:
            out[first] = None
        out[first] = out[first].astype(object)
        out.loc[name, first] = f"failed: {reason}"
    return out.rename_axis("name").reset_index()[["kind", "name", *(c for c in out if c != "kind")]]


def by_patch_and_fill(rows: pd.DataFrame, names: Iterable[str], seed: int) -> pd.DataFrame:
    """AOPC of every explainer, patch size and fill, with intervals and tests; corrected over the explainers."""
    where = [column for column in ("map", "patch", "fill") if column in rows]
    out = []
    for values, part in rows.groupby(where, sort=False):
        each = part.set_index(["explainer", "image"])[["aopc", "aopc_lerf", "abpc"]]
        found = summarised(each, names, seed, True).rename_axis("explainer").reset_index()
        for place, column in enumerate(where):
            found.insert(place, column, values[place])
        out.append(found)
    return pd.concat(out)


def over_seeds(summaries: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every score, and which seeds these are; failed cells are left out."""
    first = next(iter(summaries.values()))
    found = [column for column in first if column in MEANING]
    values = pd.concat([table.assign(seed=seed) for seed, table in summaries.items()])
    values[found] = values[found].apply(pd.to_numeric, errors="coerce")
    groups = values.groupby(["kind", "name"], sort=False)
    out = pd.DataFrame({"seeds": groups["seed"].agg(lambda seeds: "+".join(map(str, sorted(seeds))))})
    for score in found:
        out[score], out[f"{score}_sd"] = groups[score].mean(), groups[score].std()
    return out.reset_index()


def markdown(table: pd.DataFrame) -> str:
    """A summary for people: a table of the models and one of the explainers, and what the columns say."""
    parts, shown = [], list[str]()
    for kind, rows in table.groupby("kind", sort=False):
        columns = [score for score in table if score in MEANING and rows[score].notna().any()]
        header = [str(kind), *(column.replace("_", " ") for column in columns)]
        parts.append(
            _aligned([header, *([_named(r["name"]), *(_cell(r, c) for c in columns)] for _, r in rows.iterrows())])
        )
        shown += [column for column in columns if column not in shown]
    meanings = [f"- {column.replace('_', ' ')}: {MEANING[column]}" for column in shown]
    return "\n\n".join([*parts, "\n".join([_legend(table), *meanings])]) + "\n"


def _named(name: str) -> str:
    """What a row is called, as in pictures, and as it is typed where that is spelled in another way."""
    title = explainer_title(name)
    return title if title.lower().replace(" ", "_") == name.lower() else f"{title} ({name})"


def _legend(table: pd.DataFrame) -> str:
    """What the cells of a table hold."""
    if "seeds" in table:
        return "- each figure: mean ± standard deviation over seeds"
    lines = ["- each figure: mean [95 % bootstrap interval over images]"]
    if any(column.endswith("_p") for column in table):
        test = f"Wilcoxon's signed-rank test, paired by image, Holm-corrected, at {LEVEL:.0%}"
        lines.append(f"- ≈: not significantly different from a random map ({test})")
    return "\n".join(lines)


def grid(table: pd.DataFrame, score: str) -> str:
    """A table of `by_patch_and_fill` for people: a row an explainer, a column a patch size and fill."""
    where = [column for column in ("map", "patch", "fill") if column in table]
    parts = {values: rows.set_index("explainer") for values, rows in table.groupby(where, sort=False)}
    names = list(dict.fromkeys(table["explainer"]))
    header = ["explainer", *(" ".join([*kind, f"{patch}x{patch}", fill]) for *kind, patch, fill in parts)]
    rows = [
        [_named(n), *(_cell(part.loc[n], score) if n in part.index else "" for part in parts.values())] for n in names
    ]
    return f"{_aligned([header, *rows])}\n\n{_legend(table)}\n"


def comparison(table: pd.DataFrame, scores: Sequence[str]) -> str:
    """A table for people of models by their settings, with scores and whether none is better in all of them."""
    names = [column for column in table if column not in ("seeds", "pareto") and column.split("_")[0] not in scores]
    header = [*names, "seeds", *scores, "Pareto front"]
    rows = [[*(r[n] for n in names), r["seeds"], *(_cell(r, s) for s in scores), "yes" if r["pareto"] else ""]
            for _, r in table.iterrows()]  # fmt: skip
    meanings = [f"- {score}: {MEANING[score]}" for score in scores]
    legend = "95 % bootstrap interval over images"
    if any("+" in seeds for seeds in table["seeds"]):
        legend += "; of several seeds: from the lowest to the highest one"
    return "\n".join([_aligned([header, *rows]), "", f"- each figure: mean [{legend}]", *meanings]) + "\n"


def _cell(row: pd.Series, score: str) -> str:
    value = row[score]
    if isinstance(value, str):
        return value
    if value is None or math.isnan(value):
        return ""
    if not math.isnan(row.get(f"{score}_sd", math.nan)):
        return " ± ".join(numbers(value, row[f"{score}_sd"]))
    same = f"{score}_p" in row and row[f"{score}_p"] >= LEVEL
    bounds = [row.get(f"{score}_{side}", math.nan) for side in ("low", "high")]
    text, *inside = numbers(value, *(bounds if not any(map(math.isnan, bounds)) else []))
    return f"{text}{f' [{inside[0]}, {inside[1]}]' if inside else ''}{' ≈' if same else ''}"


def numbers(*values: float) -> list[str]:
    """Numbers that belong together, alike in their digits: three decimals; three digits where all are tiny or huge."""
    largest = max(map(abs, values))
    return [f"{value:.3f}" if not largest or 0.01 <= largest < 100 else f"{value:.3g}" for value in values]


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Rows of cells, the first of them the header, as a Markdown table whose columns line up in a terminal too."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = np.array([[len(cell) for cell in row] for row in cells]).max(0)
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
