"""Statistical inference over images with scipy: confidence intervals and paired tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from xmnist.runtime.lazy import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000


def interval(values: NDArray[np.floating], seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval (percentiles) of the mean of values (N,); NaN for fewer than two."""
    if len(values) < 2:
        return math.nan, math.nan
    if (values == values[0]).all():
        return float(values[0]), float(values[0])
    from scipy import stats  # the import takes a second, which commands without metrics should not wait for

    generator = np.random.default_rng(seed)
    bounds = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        # Resamples are drawn in batches of about a million values, which limits the memory.
        batch=max(1, 2**20 // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=generator,
    ).confidence_interval
    return float(bounds.low), float(bounds.high)


def paired_test(
    values: NDArray[np.floating],
    other_values: NDArray[np.floating],
    alternative: Literal["two-sided", "greater", "less"] = "two-sided",
) -> float:
    """Return the p-value of Wilcoxon's signed-rank test that paired values (N,) differ (or are greater, or less).

    The p-value is 1 if all pairs are equal.

    Source: Wilcoxon, "Individual comparisons by ranking methods", Biometrics Bulletin 1 (1945).
    """
    from scipy import stats

    differences = values - other_values
    return float(stats.wilcoxon(differences, alternative=alternative).pvalue) if differences.any() else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for multiple testing by the step-down method; NaN is a test not made, and does not count.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6 (1979).
    """
    out, largest = [math.nan] * len(p_values), 0.0
    tested = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    for before, index in enumerate(sorted(tested, key=lambda index: p_values[index])):
        # The running maximum keeps the corrected p-values in the order of the uncorrected ones.
        largest = max(largest, min(1.0, (len(tested) - before) * p_values[index]))
        out[index] = largest
    return out


def share_interval(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share, `hits` of `count`.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", J. ASA 22 (1927).
    """
    from scipy import stats

    bounds = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(bounds.low), float(bounds.high)


def better_than(right: int, total: int, share: float) -> float:
    """Return the one-sided binomial p-value of `right` of `total` where `share` of them would be right by chance."""
    from scipy import stats

    return float(stats.binomtest(right, total, share, "greater").pvalue)
