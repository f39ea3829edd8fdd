"""Tables of scores: means with intervals and tests, as CSV for machines and Markdown for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xmnist.config.declarations import columns, explainer_title
from xmnist.metrics.statistics import holm, interval, paired_test
from xmnist.runtime.lazy import np, pd
from xmnist.runtime.seeds import derive_seed

if TYPE_CHECKING:
    from xmnist.metrics.base import Metric

CONTROL = "random"
"""The explainer that the others are tested against."""

LEVEL = 0.05


def summarised(values: pd.DataFrame, names: Iterable[str], seed: int, tested: bool) -> pd.DataFrame:
    """Return mean, interval and corrected p-value of each score, one row per name.

    Args:
        values: as `scores` gives them.
        names: the rows, in this order.
        tested: whether each is tested against `CONTROL`, if that is there; paired by image, corrected over the others.
    """
    names = [name for name in names if name in values.index.get_level_values(0)]
    out = pd.DataFrame(index=names)
    for score in values:
        samples = {name: values.loc[name, score].dropna() for name in names}
        # One seed per score: all names are resampled alike, so their intervals differ by their values alone.
        drawn = derive_seed(seed, f"bootstrap of {score}")
        bounds = [interval(samples[name].to_numpy(), drawn) for name in names]
        out[score] = [samples[name].mean() for name in names]
        out[f"{score}_low"], out[f"{score}_high"] = zip(*bounds, strict=True) if bounds else ((), ())
        if tested and CONTROL in samples and len(names) > 1:
            out[f"{score}_p"] = holm([_against(samples[name], samples[CONTROL], name) for name in names])
    return out


def _against(values: pd.Series, control: pd.Series, name: str) -> float:
    # Paired by image: some images may have a score of one method only.
    both = pd.concat([values, control], axis=1, join="inner").to_numpy()
    return math.nan if name == CONTROL or not len(both) else paired_test(both[:, 0], both[:, 1])


def summary(
    metrics: Sequence[Metric],
    tables: Mapping[str, pd.DataFrame],
    failures: Mapping[tuple[str, str], str],
    names: Mapping[str, str],
    seed: int,
) -> pd.DataFrame:
    """Return one row per model or explainer: `kind`, `name`, and each score with its interval and test.

    Args:
        metrics: the metrics that were computed.
        tables: their rows, by table.
        failures: reason why a metric (first) has no score for a name (second); their cell shows it.
        names: each name's kind.
    """
    out = pd.DataFrame({"kind": list(names.values())}, index=list(names))
    by_table = {metric.table: metric for metric in metrics}
    for table, rows in tables.items():
        if metric := by_table.get(table):
            means = summarised(metric.scores(rows), names, seed, metric.tested)
            known = [column for column in means if column in out]  # the classifier's accuracy, by two metrics
            for column in known:
                out[column] = out[column].fillna(means[column])
            out = out.join(means.drop(columns=known))
    firsts = {metric.name: metric.columns[0].name for metric in metrics}
    for (failed, name), reason in failures.items():
        first = firsts[failed]
        if first not in out:
            out[first] = None
        out[first] = out[first].astype(object)  # the column then holds numbers and messages
        out.loc[name, first] = f"failed: {reason}"
    return out.rename_axis("name").reset_index()[["kind", "name", *(c for c in out if c != "kind")]]


def by_patch_and_fill(rows: pd.DataFrame, names: Iterable[str], seed: int) -> pd.DataFrame:
    """Return AOPC by explainer, patch size and fill, with intervals and tests, corrected over the explainers."""
    where = [column for column in ("map", "patch", "fill") if column in rows]
    out = []
    for values, part in rows.groupby(where, sort=False):
        by_image = part.set_index(["explainer", "image"])[["aopc", "aopc_lerf", "abpc"]]
        means = summarised(by_image, names, seed, True).rename_axis("explainer").reset_index()
        for index, column in enumerate(where):
            means.insert(index, column, values[index])
        out.append(means)
    return pd.concat(out)


def scores_in(table: pd.DataFrame) -> list[str]:
    """Return the columns of a summary that are scores: those with an interval or deviation, and declared ones."""
    known = columns()
    return [name for name in table if name in known or {f"{name}_low", f"{name}_sd"} & set(table)]


def over_seeds(summaries: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Return mean and standard deviation of every score over seeds, with the seeds; failed cells are left out."""
    first = next(iter(summaries.values()))
    scores = scores_in(first)
    values = pd.concat([table.assign(seed=seed) for seed, table in summaries.items()])
    values[scores] = values[scores].apply(pd.to_numeric, errors="coerce")
    groups = values.groupby(["kind", "name"], sort=False)
    out = pd.DataFrame({"seeds": groups["seed"].agg(lambda seeds: "+".join(map(str, sorted(seeds))))})
    for score in scores:
        out[score], out[f"{score}_sd"] = groups[score].mean(), groups[score].std()
    return out.reset_index()


def markdown(table: pd.DataFrame) -> str:
    """Return a summary as Markdown: one table per kind, such as models and explainers, and the columns' meanings."""
    parts, all_scores = [], list[str]()
    for kind, rows in table.groupby("kind", sort=False):
        scores = [score for score in scores_in(table) if rows[score].notna().any()]
        header = [str(kind), *(column.replace("_", " ") for column in scores)]
        parts.append(
            _aligned([header, *([_named(r["name"]), *(_cell(r, c) for c in scores)] for _, r in rows.iterrows())])
        )
        all_scores += [column for column in scores if column not in all_scores]
    meanings = meanings_of(all_scores)
    return "\n\n".join([*parts, "\n".join([_legend(table), *meanings])]) + "\n"


def meanings_of(scores: Iterable[str]) -> list[str]:
    """Return a line for each score whose declaration has a meaning."""
    known = columns()
    meanings = {score: known[score].meaning if score in known else "" for score in scores}
    return [f"- {score.replace('_', ' ')}: {meaning}" for score, meaning in meanings.items() if meaning]


def _named(name: str) -> str:
    """Return a row's title as in pictures, followed by the name to type where that is spelled differently."""
    title = explainer_title(name)
    return title if title.lower().replace(" ", "_") == name.lower() else f"{title} ({name})"


def _legend(table: pd.DataFrame) -> str:
    """Return the legend of a table's cells."""
    if "seeds" in table:
        return "- each figure: mean ± standard deviation over seeds"
    lines = ["- each figure: mean [95 % bootstrap interval over images]"]
    if any(column.endswith("_p") for column in table):
        test = f"Wilcoxon's signed-rank test, paired by image, Holm-corrected, at {LEVEL:.0%}"
        lines.append(f"- ≈: not significantly different from a random map ({test})")
    return "\n".join(lines)


def grid(table: pd.DataFrame, score: str) -> str:
    """Return a table of `by_patch_and_fill` as Markdown: one row per explainer, one column per patch size and fill."""
    where = [column for column in ("map", "patch", "fill") if column in table]
    parts = {values: rows.set_index("explainer") for values, rows in table.groupby(where, sort=False)}
    names = list(dict.fromkeys(table["explainer"]))
    header = ["explainer", *(" ".join([*kind, f"{patch}x{patch}", fill]) for *kind, patch, fill in parts)]
    rows = [
        [_named(n), *(_cell(part.loc[n], score) if n in part.index else "" for part in parts.values())] for n in names
    ]
    return f"{_aligned([header, *rows])}\n\n{_legend(table)}\n"


def comparison(table: pd.DataFrame, scores: Sequence[str]) -> str:
    """Return models by their settings as Markdown, with scores and a mark for those on the Pareto front."""
    names = [column for column in table if column not in ("seeds", "pareto") and column.split("_")[0] not in scores]
    header = [*names, "seeds", *scores, "Pareto front"]
    rows = [[*(r[n] for n in names), r["seeds"], *(_cell(r, s) for s in scores), "yes" if r["pareto"] else ""]
            for _, r in table.iterrows()]  # fmt: skip
    meanings = meanings_of(scores)
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
    """Return numbers of one cell in one format: three decimals; three digits where the largest is tiny or huge."""
    largest = max(map(abs, values))
    return [f"{value:.3f}" if not largest or 0.01 <= largest < 100 else f"{value:.3g}" for value in values]


def _aligned(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows of cells, the header first, as a Markdown table whose columns are aligned in a terminal too."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    widths = np.array([[len(cell) for cell in row] for row in cells]).max(0)
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])
