"""Statistics of evaluation: separation of two groups, shares and means with their intervals, repetition of texts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata, t


class Interval(NamedTuple):
    """An estimate and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def auroc(scores: NDArray, positive: NDArray) -> NDArray:
    """Chance that a positive row scores above a negative one, ties counted half: [m] from scores [n, m], positive [n].

    The Mann-Whitney U statistic over its maximum, from midranks.
    """
    ranks = rankdata(scores, axis=0)
    num_pos, num_neg = int(positive.sum()), int((~positive).sum())
    assert num_pos and num_neg, "both groups need at least one row"
    return (ranks[positive].sum(0) - num_pos * (num_pos + 1) / 2) / (num_pos * num_neg)


def auroc_variance(value: float, num_pos: int, num_neg: int) -> float:
    """Variance of an AUROC: Hanley and McNeil, Radiology 143 (1982), with the group sizes in the middle terms replaced
    by their mean, as in method 5 of Newcombe, Statistics in Medicine 25 (2006), pages 559 to 573."""
    rest = (num_pos + num_neg) / 2 - 1
    spread = 1 + rest * (1 - value) / (2 - value) + rest * value / (1 + value)
    return value * (1 - value) * spread / (num_pos * num_neg)


def auroc_interval(value: float, num_pos: int, num_neg: int, confidence: float = 0.95) -> Interval:
    """Newcombe's method 5: the AUROCs that `value` does not reject; a perfect 1.0 keeps an honest lower bound."""
    z = norm.ppf(0.5 + confidence / 2)

    def excess(candidate: float) -> float:
        return abs(candidate - value) - z * auroc_variance(candidate, num_pos, num_neg) ** 0.5

    inside = 1e-9  # at 0 and 1 the variance vanishes, so that the value itself is a root beside the one that is meant
    low = float(brentq(excess, 0.0, value * (1 - inside))) if value > 0 else 0.0
    high = float(brentq(excess, value + (1 - value) * inside, 1.0)) if value < 1 else 1.0
    return Interval(value, low, high)


def wilson_interval(num_hits: int, num: int, confidence: float = 0.95) -> Interval:
    """A share with the score interval of Wilson, J. Am. Stat. Assoc. 22 (1927)."""
    assert 0 <= num_hits <= num and num > 0, (num_hits, num)
    z = norm.ppf(0.5 + confidence / 2)
    share = num_hits / num
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * (share * (1 - share) / num + z**2 / (4 * num**2)) ** 0.5
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """A mean with Student's interval; the bounds equal the mean where there is a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, mean, mean)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    half = float(t.ppf(0.5 + confidence / 2, len(values) - 1) * error)
    return Interval(mean, mean - half, mean + half)


def distinct(tokens: Sequence[int], n: int = 2) -> float | None:
    """Share of n-grams that are distinct (Li et al. 2016, arXiv:1510.03055); None for a text shorter than n tokens."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None
