"""p-values of many tests at once."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


def holm(p: Sequence[float] | NDArray) -> NDArray:
    """Adjusted p-values that keep the chance of any false alarm below their bound: Holm, Scand. J. Stat. 6 (1979).

    A NaN is no test: it stays NaN and doesn't count.
    """
    return _adjusted(p, lambda ordered: np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)))


def benjamini_hochberg(p: Sequence[float] | NDArray) -> NDArray:
    """Adjusted p-values (q) that bound the expected share of false ones among those reported.

    Benjamini and Hochberg, J. R. Stat. Soc. B 57 (1995). A NaN stays NaN and doesn't count.
    """

    def step_up(ordered: NDArray) -> NDArray:
        scaled = ordered * len(ordered) / np.arange(1, len(ordered) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p, step_up)


def _adjusted(p: Sequence[float] | NDArray, adjust: Callable[[NDArray], NDArray]) -> NDArray:
    given = np.asarray(p, dtype=float)
    found = np.full(given.shape, np.nan)
    there = np.flatnonzero(~np.isnan(given))
    order = there[np.argsort(given[there], kind="stable")]
    if len(order):
        found[order] = np.minimum(1.0, adjust(given[order]))
    return found
