"""Run health: what is missing and why, how episodes ended, whether receipts add up and alpha 0 changed nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiller.evaluation.bootstrap import cluster_interval
from tiller.evaluation.stats import Interval

from .measures import Design, Measure
from .results import Results
from .unit import Arm


@dataclass(frozen=True, kw_only=True)
class ArmHealth:
    """One arm's units."""

    arm: Arm
    num_planned: int
    num_complete: int
    num_failed: int
    num_unfinished: int
    causes: Counter[str]  # how the finished ones ended
    turns: Interval  # per complete episode
    num_turns: int
    num_cut: int
    num_receipts: int
    num_receipts_adding_up: int
    tokens_in_scope: int
    tokens_steered: int
    tokens_cached: int
    mean_delta_norm: float
    num_same: int | None  # complete episodes with the unsteered arm's very words, of `num_compared`
    num_compared: int


def health_of(results: Results, design: Design) -> list[ArmHealth]:
    """One ArmHealth an arm, in the design's order."""
    rows: list[list[dict[str, Any]]] = [[] for _ in design.arms]
    for unit_id, row in results.episodes.items():
        rows[design.cell[unit_id][0]].append(row)
    base = {} if design.baseline is None else _transcripts(rows[design.baseline])
    return [_health(design, arm, own, base) for arm, own in enumerate(rows)]


def problems_of(health: Sequence[ArmHealth], measures: Sequence[Measure]) -> list[str]:
    """What a reader must know before the numbers; empty where all is well."""
    found = []
    for name, count in (
        ("units failed", sum(h.num_failed for h in health)),
        ("units are not finished", sum(h.num_unfinished for h in health)),
        ("receipts do not add up", sum(h.num_receipts - h.num_receipts_adding_up for h in health)),
    ):
        if count:
            found.append(f"{count} {name}")
    for h in health:
        if is_zero(h.arm) and h.num_same is not None and h.num_same != h.num_compared:
            found.append(
                f"{h.num_compared - h.num_same} of {h.num_compared} units of {h.arm.name} differ from unsteered"
            )
    missing = sum(cause.total() for measure in measures for cause in measure.causes)
    if missing:
        found.append(f"{missing} of {sum(m.values.size for m in measures)} figures are missing")
    return found


def is_zero(arm: Arm) -> bool:
    """Whether the arm adds nothing, so that it must say what the unsteered one says."""
    edits = [*(arm.steering or {}).get("features", []), *(arm.steering or {}).get("vectors", [])]
    adds = all(edit.get("op", "add") == "add" and edit.get("mode", "add") == "add" for edit in edits)
    return arm.alpha == 0 and adds and bool((arm.steering or {}).get("error_term", True))


def _health(design: Design, arm: int, rows: list[dict[str, Any]], base: dict[str, str]) -> ArmHealth:
    complete = [row for row in rows if row["status"] == "complete"]
    turns = np.array([row["num_turns"] for row in complete], dtype=float)
    clusters = np.array([design.clusters[design.cell[row["unit_id"]][1]] for row in complete], dtype=int)
    norms = [row["mean_delta_norm"] for row in rows if row["mean_delta_norm"] is not None]
    planned = int(design.planned[arm].sum())
    same = [base[row["pair_id"]] == row["transcript"] for row in complete if row["pair_id"] in base]
    sums = {
        name: sum(row[name] for row in rows)
        for name in (
            "num_turns", "num_cut", "num_receipts", "num_receipts_adding_up", "tokens_in_scope", "tokens_steered",
            "tokens_cached",
        )
    }  # fmt: skip
    return ArmHealth(
        arm=design.arms[arm],
        num_planned=planned,
        num_complete=len(complete),
        num_failed=len(rows) - len(complete),
        num_unfinished=planned - len(rows),
        causes=Counter(row["cause"] for row in rows),
        turns=cluster_interval(turns, clusters),
        mean_delta_norm=float(np.mean(norms)) if norms else 0.0,
        num_same=None if arm == design.baseline else sum(same),
        num_compared=len(same),
        **sums,
    )


def _transcripts(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["pair_id"]: row["transcript"] for row in rows if row["status"] == "complete"}
