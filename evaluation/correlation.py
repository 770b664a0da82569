"""Correlation of many columns with one score where rows come in clusters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from .bootstrap import CONFIDENCE, cluster_totals
from .multiple_tests import benjamini_hochberg


@dataclass(frozen=True, kw_only=True)
class Correlations:
    """One entry a column: the coefficient, its interval and p-value, each [m]; NaN where a column is constant."""

    r: NDArray
    low: NDArray
    high: NDArray
    p: NDArray

    @property
    def q(self) -> NDArray:
        """False discovery rate at which each would just be reported."""
        return benjamini_hochberg(self.p)


def pearson(columns: NDArray, score: NDArray, clusters: NDArray, confidence: float = CONFIDENCE) -> Correlations:
    """Pearson's r of columns [n, m] with score [n], by its influence function summed over clusters.

    The influence of row i on r is zx zy - r (zx^2 + zy^2) / 2 (Devlin, Gnanadesikan and Kettenring, Biometrika 62
    (1975)); its cluster sums give a cluster-robust error, carried to Fisher's z = atanh r, where Student's t on C - 1
    degrees of freedom makes interval and p. NaN for a constant column or score, or fewer than three clusters.
    """
    num_clusters = int(clusters.max()) + 1
    x, y = _standard(columns), _standard(score[:, None])
    r = np.clip((x * y).mean(0), -1, 1)
    influence = x * y - r * (x**2 + y**2) / 2
    sums, _ = cluster_totals(influence.T, clusters, num_clusters)
    if num_clusters < 3:
        nothing = np.full(len(r), np.nan)
        return Correlations(r=r, low=nothing, high=nothing, p=nothing)
    error = np.sqrt(num_clusters / (num_clusters - 1) * (sums**2).sum(1)) / len(score)
    with np.errstate(divide="ignore", invalid="ignore"):
        z, error_z = np.arctanh(r), error / (1 - r**2)
        half = t.ppf(0.5 + confidence / 2, num_clusters - 1) * error_z
        p = 2 * t.sf(np.abs(z) / error_z, num_clusters - 1)
        low, high = np.tanh(z - half), np.tanh(z + half)
    exact = np.abs(r) > 1 - 1e-9  # a straight line has no error
    return Correlations(r=r, low=np.where(exact, r, low), high=np.where(exact, r, high), p=np.where(exact, 0.0, p))


def spearman(columns: NDArray, score: NDArray, clusters: NDArray, confidence: float = CONFIDENCE) -> Correlations:
    """Pearson's r of the midranks."""
    return pearson(rankdata(columns, axis=0), rankdata(score), clusters, confidence)


def supported(columns: NDArray, clusters: NDArray, min_rows: int, min_clusters: int) -> NDArray:
    """Columns [n, m] that are not zero in at least so many rows, and in rows of at least so many clusters: [m] bool.

    Without it one odd row makes the largest coefficients of all.
    """
    active = columns != 0
    per_cluster, _ = cluster_totals(active.T.astype(float), clusters)
    return (active.sum(0) >= min_rows) & ((per_cluster > 0).sum(1) >= min_clusters)


def _standard(columns: NDArray) -> NDArray:
    """Columns at mean 0 and variance 1; NaN where one is constant."""
    centred = columns - columns.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    spread = np.where(spread > 1e-12 * np.maximum(1.0, np.abs(columns).max(0)), spread, np.nan)
    return centred / spread
