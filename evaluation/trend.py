"""Whether a metric goes up or down with alpha, within every cluster by itself."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from .bootstrap import NUM_DRAWS, cluster_interval, cluster_totals
from .stats import Interval


def slopes(alphas: NDArray, values: NDArray, clusters: NDArray) -> NDArray:
    """Least-squares slope of each cluster's means on alpha, [C]: alphas [m], values [m, n].

    Alphas at which a cluster has no value are left out of its line; NaN where fewer than two are left.
    """
    return _per_cluster(alphas, values, clusters, ranks=False)


def rank_correlations(alphas: NDArray, values: NDArray, clusters: NDArray) -> NDArray:
    """Spearman's rank correlation of each cluster's means with alpha, [C]; 0 where its means are all equal."""
    return _per_cluster(alphas, values, clusters, ranks=True)


def mean_slope(
    alphas: NDArray, values: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0
) -> Interval:
    """Mean of `slopes` over clusters, these resampled."""
    return _mean(slopes(alphas, values, clusters), num_draws, seed)


def mean_rank_correlation(
    alphas: NDArray, values: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0
) -> Interval:
    """Mean of `rank_correlations` over clusters, these resampled: 1 where every cluster rises with every alpha."""
    return _mean(rank_correlations(alphas, values, clusters), num_draws, seed)


def _per_cluster(alphas: NDArray, values: NDArray, clusters: NDArray, ranks: bool) -> NDArray:
    sums, counts = cluster_totals(values, clusters)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums / counts
    return np.array([_line(alphas, column, ranks) for column in means.T])


def _line(alphas: NDArray, means: NDArray, ranks: bool) -> float:
    there = ~np.isnan(means)
    x, y = alphas[there], means[there]
    if len(np.unique(x)) < 2:
        return float("nan")
    if ranks:
        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y)) if ranks else x @ x
    return float(x @ y / scale) if scale > 0 else 0.0


def _mean(per_cluster: NDArray, num_draws: int, seed: int) -> Interval:
    return cluster_interval(per_cluster, np.arange(len(per_cluster)), num_draws, seed)
