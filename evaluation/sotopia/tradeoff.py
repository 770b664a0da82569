"""A behaviour against fluency: what each arm has of both, in products and harmonic means, and which alpha is best."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiller.evaluation.bootstrap import cluster_interval
from tiller.evaluation.composites import Products, harmonic, products
from tiller.evaluation.holdout import HeldOut
from tiller.evaluation.stats import Interval

from .effects import held_out
from .measures import Design, Measure
from .unit import Arm


@dataclass(frozen=True, kw_only=True)
class Compromise:
    """One arm; the composites are of both metrics on 0 to 1."""

    arm: Arm
    behaviour: Interval  # in their own units
    fluency: Interval
    products: Products
    harmonic: Interval  # mean over units of the harmonic mean of the two


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """chosen: by target the alpha of the largest mean of products, chosen on either half and reported on the other."""

    behaviour: Measure
    fluency: Measure
    compromises: list[Compromise]
    chosen: dict[str, tuple[HeldOut, HeldOut]]


def tradeoffs_of(measures: list[Measure], design: Design, seed: int = 0) -> list[Tradeoff]:
    """Every behaviour of the steered agent against the first measure of its fluency."""
    own = [measure for measure in measures if measure.role == "agent"]
    fluency = next((measure for measure in own if measure.metric.kind == "fluency"), None)
    if fluency is None:
        return []
    return [_tradeoff(m, fluency, design, seed) for m in own if m.metric.kind == "behaviour"]


def front(points: NDArray) -> NDArray:
    """Indices of the points [n, 2] that no other one beats in one coordinate without losing in the other, by rising x.

    NaN is never on it.
    """
    order = [int(i) for i in np.lexsort((-points[:, 1], -points[:, 0])) if not np.isnan(points[i]).any()]
    kept: list[int] = []
    for i in order:
        if not kept or points[i, 1] > points[kept[-1], 1]:
            kept.append(i)
    return np.array(kept[::-1], dtype=int)


def _tradeoff(behaviour: Measure, fluency: Measure, design: Design, seed: int) -> Tradeoff:
    a, b = behaviour.metric.scaled(behaviour.values), fluency.metric.scaled(fluency.values)
    compromises = [
        Compromise(
            arm=arm,
            behaviour=cluster_interval(behaviour.values[i], design.clusters, seed=seed),
            fluency=cluster_interval(fluency.values[i], design.clusters, seed=seed),
            products=products(a[i], b[i], design.clusters, seed=seed),
            harmonic=cluster_interval(harmonic(a[i], b[i]), design.clusters, seed=seed),
        )
        for i, arm in enumerate(design.arms)
    ]
    found = {target: held_out(a * b, design, target, seed) for target in design.targets}
    chosen = {target: ways for target, ways in found.items() if ways is not None}
    return Tradeoff(behaviour=behaviour, fluency=fluency, compromises=compromises, chosen=chosen)
