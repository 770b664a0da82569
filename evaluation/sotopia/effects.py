"""What each arm does to a measure: its mean, its paired difference from the unsteered arm, and how sure that is."""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tiller.evaluation.bootstrap import cluster_interval, cluster_test, student_interval
from tiller.evaluation.holdout import HeldOut, choose_and_report
from tiller.evaluation.missing import differs, worst_case
from tiller.evaluation.multiple_tests import holm
from tiller.evaluation.stats import Interval
from tiller.evaluation.trend import mean_rank_correlation, mean_slope

from .measures import Design, Measure
from .unit import Arm


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One arm in one measure. Differences are of pairs: same scene, casting, seat and seed, another arm."""

    arm: Arm
    num: int  # units with a figure
    num_missing: int
    mean: Interval  # bootstrap over scenarios
    nonzero: float  # share of figures that aren't 0
    delta: Interval  # against the unsteered arm
    student: Interval  # the same by Student's t over scenarios: the check
    p: float
    p_holm: float  # over the alphas of the target, or over all arms without an alpha
    delta_zero: Interval  # against the target's arm of alpha 0
    worst: Interval | None  # bounds of the difference where arms miss different pairs and the metric has a range


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How a measure goes with a target's alpha, scenario by scenario."""

    target: str
    slope: Interval  # per unit of alpha
    rank: Interval  # Spearman's


NOTHING = Interval(float("nan"), float("nan"), float("nan"))


def effects_of(measure: Measure, design: Design, seed: int = 0) -> list[Effect]:
    """One Effect an arm, in the design's order."""
    found = [_effect(measure, design, arm, seed) for arm in range(len(design.arms))]
    return _with_holm(found, design)


def trends_of(measure: Measure, design: Design, seed: int = 0) -> list[Trend]:
    """One Trend for every target that was swept."""
    trends = []
    for target in design.targets:
        rows = design.arms_of(target)
        alphas = np.array([design.arms[row].alpha for row in rows], dtype=float)
        values = measure.values[rows]
        trends.append(
            Trend(
                target=target,
                slope=mean_slope(alphas, values, design.clusters, seed=seed),
                rank=mean_rank_correlation(alphas, values, design.clusters, seed=seed),
            )
        )
    return trends


def held_out(values: NDArray, design: Design, target: str, seed: int = 0) -> tuple[HeldOut, HeldOut] | None:
    """The target's alpha of the largest gain in values [num_arms, num_pairs], chosen on one half of the scenarios.

    `chosen` are indices of the design's arms. None without a baseline or with fewer than four scenarios.
    """
    if design.baseline is None or design.num_clusters < 4:
        return None
    rows = np.array(design.arms_of(target))
    gains = values[rows] - values[design.baseline]
    one, other = choose_and_report(gains, design.clusters, seed=seed)
    return one._replace(chosen=int(rows[one.chosen])), other._replace(chosen=int(rows[other.chosen]))


def _effect(measure: Measure, design: Design, arm: int, seed: int) -> Effect:
    own, clusters, base = measure.values[arm], design.clusters, design.baseline
    there = own[~np.isnan(own)]
    delta = own - measure.values[base] if base is not None and arm != base else np.full_like(own, np.nan)
    zero = _zero_of(design, arm)
    return Effect(
        arm=design.arms[arm],
        num=len(there),
        num_missing=int(measure.causes[arm].total()),
        mean=cluster_interval(own, clusters, seed=seed),
        nonzero=float((there != 0).mean()) if len(there) else float("nan"),
        delta=cluster_interval(delta, clusters, seed=seed),
        student=student_interval(delta, clusters),
        p=cluster_test(delta, clusters).p,
        p_holm=float("nan"),
        delta_zero=NOTHING if zero is None else cluster_interval(own - measure.values[zero], clusters, seed=seed),
        worst=_worst(measure, design, arm),
    )


def _zero_of(design: Design, arm: int) -> int | None:
    """The arm of alpha 0 of the same target, if `arm` is another one of it."""
    target, alpha = design.arms[arm].target, design.arms[arm].alpha
    if target is None or alpha is None or alpha == 0:
        return None
    return next((i for i in design.arms_of(target) if design.arms[i].alpha == 0), None)


def _worst(measure: Measure, design: Design, arm: int) -> Interval | None:
    base, metric = design.baseline, measure.metric
    if base is None or arm == base or metric.low is None or metric.high is None:
        return None
    shared = design.planned[arm] & design.planned[base]
    both = measure.values[np.ix_(np.array([base, arm]), np.flatnonzero(shared))]
    return worst_case(both[1], both[0], metric.low, metric.high) if differs(np.isnan(both)) else None


def _with_holm(effects: list[Effect], design: Design) -> list[Effect]:
    families: defaultdict[str, list[int]] = defaultdict(list)
    for i in range(len(effects)):
        name = design.family(i)
        if name is not None:
            families[name].append(i)
    adjusted: dict[int, float] = {}
    for members in families.values():
        adjusted |= dict(zip(members, holm([effects[i].p for i in members]), strict=True))
    return [
        effect if i not in adjusted else replace(effect, p_holm=float(adjusted[i])) for i, effect in enumerate(effects)
    ]
