"""Two or three metrics as one number: products and harmonic means, of means and of single values."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bootstrap import NUM_DRAWS, mean_draws, percentiles
from .stats import Interval


class Products(NamedTuple):
    """Published tables give the product of means; only the mean of products says that one answer had both."""

    of_means: Interval
    mean_of: Interval


def harmonic(*parts: NDArray) -> NDArray:
    """Harmonic mean of values that are at least 0, element by element; 0 where one is 0, NaN where one is missing.

    AxBench's overall score (Wu et al. 2025, arXiv:2501.17148).
    """
    stacked = np.stack(np.broadcast_arrays(*parts)).astype(float)
    assert not (stacked < 0).any(), "a harmonic mean takes values of at least 0"
    with np.errstate(divide="ignore"):
        return np.where(np.isnan(stacked).any(0), np.nan, len(parts) / (1 / stacked).sum(0))


def products(a: NDArray, b: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0) -> Products:
    """Both products of a [n] and b [n], over the units that have both values, from the same draws of clusters."""
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        nothing = Interval(float("nan"), float("nan"), float("nan"))
        return Products(nothing, nothing)
    a, b, own = a[both], b[both], np.unique(clusters[both], return_inverse=True)[1]
    draws = mean_draws(np.stack([a, b, a * b]), own, num_draws, seed)
    if own.max() == 0:
        draws = np.full_like(draws, np.nan)
    return Products(
        percentiles(draws[:, 0] * draws[:, 1], float(a.mean() * b.mean())),
        percentiles(draws[:, 2], float((a * b).mean())),
    )
