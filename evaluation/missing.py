"""What missing values could do to a difference: its bounds whatever they would have been."""

import numpy as np
from numpy.typing import NDArray

from .stats import Interval


def worst_case(arm: NDArray, baseline: NDArray, low: float, high: float) -> Interval:
    """Mean difference of pairs where both are there, and its bounds over all pairs for values in [low, high].

    arm, baseline [n], NaN where missing. Manski, Am. Econ. Rev. 80 (1990): every missing value is put at the end of the
    range that hurts, then at the one that helps. With nothing missing both bounds are the difference itself.
    """
    if not len(arm):
        return Interval(float("nan"), float("nan"), float("nan"))
    both = ~(np.isnan(arm) | np.isnan(baseline))
    value = float((arm - baseline)[both].mean()) if both.any() else float("nan")

    def filled(values: NDArray, bound: float) -> NDArray:
        return np.where(np.isnan(values), bound, values)

    lowest = filled(arm, low) - filled(baseline, high)
    highest = filled(arm, high) - filled(baseline, low)
    return Interval(value, float(lowest.mean()), float(highest.mean()))


def differs(missing: NDArray) -> bool:
    """True where some arm misses other pairs than another: missing [m, n] bool."""
    return bool((missing != missing[:1]).any())
