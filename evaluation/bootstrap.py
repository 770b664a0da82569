"""Means whose uncertainty comes from whole clusters: a bootstrap that resamples them, and Student's t as its check.

Everywhere: values are [..., n] with NaN where one is missing, clusters are [n] integers 0 to C - 1.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from .stats import Interval

NUM_DRAWS = 10_000
CONFIDENCE = 0.95


class Test(NamedTuple):
    """Whether a mean differs from zero: Student's t on clusters - 1 degrees of freedom, both sides."""

    mean: float
    error: float  # cluster-robust standard error
    p: float  # NaN where there are fewer than two clusters
    num_clusters: int


@lru_cache(maxsize=4)
def resamples(num_clusters: int, num_draws: int = NUM_DRAWS, seed: int = 0) -> NDArray:
    """How often each draw holds each cluster, float32 [num_draws, num_clusters]; every row sums to num_clusters."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(num_clusters, np.full(num_clusters, 1 / num_clusters), size=num_draws).astype(np.float32)
    drawn.setflags(write=False)
    return drawn


def indices_of(names: list[str]) -> NDArray:
    """Names as numbers 0 to C - 1, in the order of the sorted names."""
    return np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]


def cluster_totals(values: NDArray, clusters: NDArray, num_clusters: int | None = None) -> tuple[NDArray, NDArray]:
    """Sum and number of the values that are there, each [..., C]."""
    num = num_clusters or (int(clusters.max()) + 1 if len(clusters) else 0)
    member = np.zeros((len(clusters), num))
    member[np.arange(len(clusters)), clusters] = 1.0
    return np.nan_to_num(values) @ member, (~np.isnan(values)).astype(float) @ member


def mean_draws(values: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0) -> NDArray:
    """Means of resampled clusters, [num_draws, ...]; NaN in a draw whose clusters hold no value.

    A draw's mean weighs every value alike, so that clusters of unequal size count by their size.
    """
    sums, counts = cluster_totals(values, clusters)
    drawn = resamples(sums.shape[-1], num_draws, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.moveaxis((sums @ drawn.T) / (counts @ drawn.T), -1, 0)


def percentiles(draws: NDArray, value: float, confidence: float = CONFIDENCE) -> Interval:
    """Percentile interval (Efron 1979) of draws [num_draws], those that are NaN left out."""
    there = draws[~np.isnan(draws)]
    if not len(there):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(there, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))


def cluster_interval(
    values: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """Mean of values [n] with the percentile interval of the cluster bootstrap.

    Its bounds are NaN where fewer than two clusters hold a value: one cluster says nothing of others.
    """
    there = ~np.isnan(values)
    if not there.any():
        return Interval(float("nan"), float("nan"), float("nan"))
    mean, own = float(values[there].mean()), np.unique(clusters[there], return_inverse=True)[1]
    if own.max() == 0:
        return Interval(mean, float("nan"), float("nan"))
    return percentiles(mean_draws(values[there], own, num_draws, seed), mean, confidence)


def cluster_test(values: NDArray, clusters: NDArray) -> Test:
    """Mean of values [n] against zero, by the cluster-robust error with its correction C / (C - 1).

    Liang and Zeger, Biometrika 73 (1986); for evaluations Miller 2024, arXiv:2411.00640, equation 4. Where all values
    are equal and not zero the error is 0: then p is that of the exact sign-flip test, 2 / 2^C.
    """
    there = ~np.isnan(values)
    num = int(there.sum())
    if num == 0:
        return Test(float("nan"), float("nan"), float("nan"), 0)
    own = np.unique(clusters[there], return_inverse=True)[1]
    mean, num_clusters = float(values[there].mean()), int(own.max()) + 1
    if num_clusters < 2:
        return Test(mean, float("nan"), float("nan"), num_clusters)
    rest, _ = cluster_totals(values[there] - mean, own)
    error = float(np.sqrt(num_clusters / (num_clusters - 1) * (rest**2).sum()) / num)
    if error <= 1e-12 * max(1.0, abs(mean)):
        return Test(mean, 0.0, 1.0 if abs(mean) < 1e-12 else 2.0 ** (1 - num_clusters), num_clusters)
    return Test(mean, error, float(2 * t.sf(abs(mean) / error, num_clusters - 1)), num_clusters)


def student_interval(values: NDArray, clusters: NDArray, confidence: float = CONFIDENCE) -> Interval:
    """Mean with Student's interval on C - 1 degrees of freedom around the cluster-robust error: the bootstrap's check."""
    test = cluster_test(values, clusters)
    if test.num_clusters < 2:
        return Interval(test.mean, float("nan"), float("nan"))
    half = float(t.ppf(0.5 + confidence / 2, test.num_clusters - 1)) * test.error
    return Interval(test.mean, test.mean - half, test.mean + half)
