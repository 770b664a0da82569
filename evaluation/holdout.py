"""The best of many alphas, honestly: chosen on one half of the clusters, reported on the other."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .bootstrap import NUM_DRAWS, cluster_interval
from .stats import Interval


class HeldOut(NamedTuple):
    """A choice among arms and what it is worth where it wasn't made."""

    chosen: int  # index of the arm
    seen: float  # its mean gain over the baseline where it was chosen, too good by the choice itself
    unseen: Interval  # and on the other half
    num_clusters: int  # of the other half


def halves(num_clusters: int, seed: int = 0) -> NDArray:
    """Which clusters are in the first half, [C] bool; an odd one goes to the second."""
    side = np.zeros(num_clusters, dtype=bool)
    side[np.random.default_rng(seed).permutation(num_clusters)[: num_clusters // 2]] = True
    return side


def choose_and_report(
    gains: NDArray, clusters: NDArray, num_draws: int = NUM_DRAWS, seed: int = 0
) -> tuple[HeldOut, HeldOut]:
    """Both directions: chosen on the first half and reported on the second, and the other way round.

    gains [m, n]: of every arm over the baseline, paired; the arm of the largest mean is chosen, the first of equals.
    """
    side = halves(int(clusters.max()) + 1, seed)[clusters]
    return _one_way(gains, clusters, side, num_draws, seed), _one_way(gains, clusters, ~side, num_draws, seed)


def _one_way(gains: NDArray, clusters: NDArray, chosen_on: NDArray, num_draws: int, seed: int) -> HeldOut:
    there = ~np.isnan(gains[:, chosen_on])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(there, gains[:, chosen_on], 0).sum(1) / there.sum(1)
    if np.isnan(means).all():
        return HeldOut(0, float("nan"), Interval(*[float("nan")] * 3), 0)
    best = int(np.nanargmax(means))
    unseen = cluster_interval(gains[best, ~chosen_on], clusters[~chosen_on], num_draws, seed)
    return HeldOut(best, float(means[best]), unseen, len(np.unique(clusters[~chosen_on])))
