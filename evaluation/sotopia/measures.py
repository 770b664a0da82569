"""Scores as matrices: one metric of one role, every arm against every pair, NaN where there is no figure."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tiller.evaluation.bootstrap import indices_of

from .metrics import KINDS, Metric, metric_of
from .results import Results, Role, role_of
from .score_record import Score
from .unit import UNSTEERED, Arm

ROLES: tuple[Role, ...] = ("agent", "partner", "episode")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What was planned. A pair is what units of different arms share: scene, casting, steered seat and seed."""

    arms: list[Arm]
    pairs: list[str]
    clusters: NDArray  # [num_pairs] index of the scenario or prompt
    planned: NDArray  # [num_arms, num_pairs] bool
    cell: dict[str, tuple[int, int]]  # unit_id -> (arm, pair)

    @property
    def num_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    @property
    def baseline(self) -> int | None:
        """Index of the unsteered arm."""
        return next((i for i, arm in enumerate(self.arms) if arm.name == UNSTEERED.name), None)

    @property
    def targets(self) -> list[str]:
        """What was swept over alpha, in plan order."""
        return list(dict.fromkeys(arm.target for arm in self.arms if arm.target is not None and arm.alpha is not None))

    def arms_of(self, target: str) -> list[int]:
        """Indices of a target's arms by rising alpha, alpha 0 among them."""
        return [i for i, arm in enumerate(self.arms) if arm.target == target and arm.alpha is not None]

    def family(self, arm: int) -> str | None:
        """Arms whose tests count together: the alphas of one target, or all arms without an alpha; None: no test."""
        if arm == self.baseline or self.arms[arm].alpha == 0:
            return None
        return f"target {self.arms[arm].target}" if self.arms[arm].alpha is not None else "arms"


@dataclass(frozen=True, kw_only=True)
class Measure:
    """values [num_arms, num_pairs]; causes: why figures are missing, by arm."""

    judge: str
    metric: Metric
    role: Role
    values: NDArray
    causes: list[Counter[str]]

    @property
    def key(self) -> str:
        """Names files and rows."""
        return f"{self.judge}.{self.metric.name}.{self.role}"

    @property
    def label(self) -> str:
        own = self.metric.label
        return own if self.role == "agent" else f"{own} ({self.role})"


def design_of(results: Results) -> Design:
    arms = results.arms
    number = {arm.name: i for i, arm in enumerate(arms)}
    cluster = {unit.pair_id: unit.cluster for unit in results.units}
    pairs = list(cluster)
    column = {pair: i for i, pair in enumerate(pairs)}
    cell = {unit.unit_id: (number[unit.arm.name], column[unit.pair_id]) for unit in results.units}
    planned = np.zeros((len(arms), len(pairs)), dtype=bool)
    for place in cell.values():
        planned[place] = True
    return Design(arms=arms, pairs=pairs, clusters=indices_of(list(cluster.values())), planned=planned, cell=cell)


def measures_of(results: Results, design: Design) -> list[Measure]:
    """Every judge's every metric, the steered agent's first.

    A unit's figure is the mean over repeats of a judgement and, where both seats are steered, over the two; it is
    missing where one of the seats has none. A unit that failed, isn't finished or isn't judged is missing too.
    """
    units = {unit.unit_id: unit for unit in results.units}
    names = _judge_names(results.scores)
    found: dict[tuple[Role, str, str], _Cells] = defaultdict(_Cells)
    for score in results.scores:
        key = (role_of(units[score.unit_id], score.seat), names[score.judge_id], score.metric)
        found[key].add(score.unit_id, score.seat, score.value, score.cause)
    measures = [cells.measure(results, design, *key) for key, cells in found.items()]
    return sorted(measures, key=lambda m: (ROLES.index(m.role), KINDS.index(m.metric.kind)))


class _Cells:
    """Figures of one measure while they are gathered, by unit and seat."""

    def __init__(self) -> None:
        self.figures: defaultdict[str, defaultdict[int | None, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.missing: dict[str, str] = {}

    def add(self, unit_id: str, seat: int | None, value: float | None, cause: str) -> None:
        own = self.figures[unit_id][seat]
        if value is None:
            self.missing[unit_id] = cause
        else:
            own.append(value)

    def measure(self, results: Results, design: Design, role: Role, judge: str, metric: str) -> Measure:
        values, causes = self.values(design), self.causes(results, design)
        return Measure(judge=judge, metric=metric_of(metric).fitting(values), role=role, values=values, causes=causes)

    def values(self, design: Design) -> NDArray:
        matrix = np.full(design.planned.shape, np.nan)
        for unit_id, seats in self.figures.items():
            if all(seats.values()):
                matrix[design.cell[unit_id]] = np.mean([np.mean(own) for own in seats.values()])
        return matrix

    def causes(self, results: Results, design: Design) -> list[Counter[str]]:
        counted: list[Counter[str]] = [Counter() for _ in design.arms]
        for unit_id, (arm, _) in design.cell.items():
            if unit_id in self.figures and all(self.figures[unit_id].values()):
                continue
            counted[arm][self._cause(results, unit_id)] += 1
        return counted

    def _cause(self, results: Results, unit_id: str) -> str:
        episode = results.episodes.get(unit_id)
        if episode is None:
            return "unfinished"
        if episode["status"] == "failed":
            return f"failed: {episode['cause']}"
        return f"judge: {self.missing[unit_id]}" if unit_id in self.missing else "not judged"


def _judge_names(scores: Sequence[Score]) -> dict[str, str]:
    """By judge_id the judge's name, with the start of the id where another judge has the same name."""
    ids: defaultdict[str, set[str]] = defaultdict(set)
    for score in scores:
        ids[score.judge].add(_once(score.judge_id))
    return {
        score.judge_id: score.judge if len(ids[score.judge]) == 1 else f"{score.judge}@{score.judge_id[:6]}"
        for score in scores
    }


def _once(judge_id: str) -> str:
    """The id of a judge without the number of the repeat."""
    return judge_id.split("#")[0]
