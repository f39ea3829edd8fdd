"""One explainer of a finished `xmnist evaluate` against each of the others: paired differences, intervals and tests.

    python benchmarks/against.py RUN EXPLAINER [--table aopc|pompom|localisation]

RUN is the run's folder. A line for each other explainer and score: the mean difference with its 95 % bootstrap interval
over images, and the p-value of Wilcoxon's signed-rank test, Holm-corrected over the others.
"""

import argparse
from pathlib import Path

import pandas as pd

from xmnist.config.declarations import METRICS
from xmnist.metrics.statistics import holm, interval, paired_test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("explainer")
    parser.add_argument("--table", choices=("aopc", "pompom", "localisation"), default="aopc")
    args = parser.parse_args()
    values = METRICS[args.table].scores(pd.read_csv(args.run / f"{args.table}.csv"))
    names = list(dict.fromkeys(values.index.get_level_values(0)))
    if args.explainer not in names:
        parser.error(f"no explainer '{args.explainer}' in this run (there are {', '.join(names)})")
    own = values.loc[args.explainer]
    for score in values:
        print(f"{score}: {args.explainer} {own[score].mean():.3f}")
        pairs = {name: (own[score] - values.loc[name][score]).dropna().to_numpy() for name in names}
        del pairs[args.explainer]
        p_values = holm([paired_test(each, 0 * each) for each in pairs.values()])
        for (name, each), p in zip(pairs.items(), p_values, strict=True):
            low, high = interval(each, 0)
            mark = "  ≈" if p >= 0.05 else ""
            print(f"  less {name:<22} {each.mean():+.3f} [{low:+.3f}, {high:+.3f}]  p {p:.2g}{mark}")


if __name__ == "__main__":
    main()
