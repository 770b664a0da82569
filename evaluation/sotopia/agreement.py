"""How far a judge agrees with itself when it is asked again."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Agreement(NamedTuple):
    """equal: share of texts that got one and the same score. noise: standard deviation of one judgement around its text's
    mean, in the metric's own units. icc: share of the variance that is between texts; NaN where all scores are alike."""

    num: int
    equal: float
    noise: float
    icc: float


def agreement(values: NDArray) -> Agreement | None:
    """Of values [n texts, k repeats], NaN where missing; texts with a gap are left out. None where fewer than two remain.

    icc is ICC(1,1) of Shrout and Fleiss, Psychological Bulletin 86 (1979): (B - W) / (B + (k - 1) W) from the mean squares
    between and within texts; noise is the root of W.
    """
    whole = values[~np.isnan(values).any(axis=1)]
    n, k = whole.shape
    if n < 2 or k < 2:
        return None
    means = whole.mean(axis=1)
    between = k * means.var(ddof=1)
    within = whole.var(axis=1, ddof=1).mean()
    total = between + (k - 1) * within
    icc = (between - within) / total if total > 0 else np.nan
    return Agreement(n, float(np.mean(np.ptp(whole, axis=1) == 0)), float(within**0.5), float(icc))
