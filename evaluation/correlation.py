"""Correlation of many columns with one score where rows come in clusters."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from .bootstrap import CONFIDENCE, cluster_totals
from .multiple_tests import benjamini_hochberg

TINY = 1e-12


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
    """Pearson's r of columns [n, m] with score [n]; its error by leaving out one cluster at a time.

    The jackknife (Tukey 1958; Efron and Stein, Ann. Stat. 9 (1981)) of Fisher's z = atanh r, where Student's t on C - 1
    degrees of freedom makes interval and p. It keeps its level with few clusters, where a sandwich error does not.
    NaN for a constant column or score, for a column or score that is constant without some cluster, and for fewer than
    three clusters.
    """
    x, y = _centred(columns), _centred(score[:, None])
    totals = [cluster_totals(part.T, clusters)[0].T for part in (np.ones_like(y), x, y, x * x, y * y, x * y)]
    r = _r(*(part.sum(0) for part in totals))
    num_clusters = len(totals[0])
    if num_clusters < 3:
        nothing = np.full(len(r), np.nan)
        return Correlations(r=r, low=nothing, high=nothing, p=nothing)
    with np.errstate(divide="ignore", invalid="ignore"):
        z, without = np.arctanh(r), np.arctanh(_r(*(part.sum(0) - part for part in totals)))
        error = np.sqrt((num_clusters - 1) / num_clusters * ((without - without.mean(0)) ** 2).sum(0))
        half = t.ppf(0.5 + confidence / 2, num_clusters - 1) * error
        p, low, high = 2 * t.sf(np.abs(z) / error, num_clusters - 1), np.tanh(z - half), np.tanh(z + half)
    exact = np.abs(r) == 1  # a straight line has no error
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


def _centred(columns: NDArray) -> NDArray:
    """Columns at mean 0 and variance 1, so that sums of squares keep their digits; NaN where one is constant."""
    centred = columns - columns.mean(0)
    spread = np.sqrt((centred**2).mean(0))
    return centred / np.where(spread > 1e-12 * np.maximum(1.0, np.abs(columns).max(0)), spread, np.nan)


def _r(n: NDArray, x: NDArray, y: NDArray, xx: NDArray, yy: NDArray, xy: NDArray) -> NDArray:
    """Pearson's r out of sums; 1 within rounding is 1, NaN without variance."""
    spread_x, spread_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        r = (xy / n - x * y / n**2) / np.sqrt(spread_x * spread_y)
        r = np.where((spread_x > TINY) & (spread_y > TINY), r, np.nan)
    return np.where(np.abs(r) > 1 - TINY, np.sign(r), r)
