"""A run whose truth is known: scores are drawn, not played."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiller.evaluation.sotopia.episode_record import EpisodeRecord, Outcome, TurnRecord
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.profiles import AgentProfile, EnvironmentProfile, Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

ALPHAS = (-2.0, -1.0, 0.0, 1.0, 2.0, 4.0)


def scene(i: int) -> Scene:
    environment = EnvironmentProfile(
        pk=f"env{i}", codename=f"scene_{i}", scenario=f"They talk about thing {i}.", agent_goals=("win <b>", "not lose")
    )
    agents = (
        AgentProfile(pk="a", first_name="Mina", last_name="Keller"),
        AgentProfile(pk="b", first_name="Leo", last_name="Brandt"),
    )
    return Scene(environment=environment, agents=agents)


def swept(target: str, alphas: Sequence[float] = ALPHAS) -> list[Arm]:
    return [
        Arm(name=f"{target} {a:g}", steering={"features": [{"id": 1, "value": a}]}, target=target, alpha=a)
        for a in alphas
    ]


def units(arms: Sequence[Arm], num_scenes: int = 12, seeds: Sequence[int] = (0, 1)) -> list[Unit]:
    return [
        Unit(scene=scene(i), protocol=Protocol(), arm=arm, seed=seed, models=("small", "small"))
        for i in range(num_scenes)
        for seed in seeds
        for arm in arms
    ]


def turn(index: int, text: str, steered: bool = False, cut: bool = False) -> TurnRecord:
    receipt: dict[str, Any] = {
        "tokens_in_scope": 30, "tokens_steered": 20, "tokens_cached": 10, "mean_delta_norm": 1.5, "spec_hash": "x",
    }  # fmt: skip
    return TurnRecord(
        index=index, seat=index % 2, name=("Mina", "Leo")[index % 2], action_type="speak", argument=text, text=text,
        prompt_tokens=25, completion_tokens=5, receipt=receipt if steered else None, cut=cut,
    )  # fmt: skip


def record(unit: Unit, num_turns: int = 4, cause: str = "max_turns") -> EpisodeRecord:
    alpha = unit.arm.alpha or 0.0
    steered = unit.arm.steering is not None
    turns = [turn(i, f"<i>line {i}</i> at {alpha:g}", steered and i % 2 == 0) for i in range(num_turns)]
    failed = cause not in ("max_turns", "left", "stale")
    return EpisodeRecord(
        unit=unit, turns=turns, outcome=Outcome(status="failed" if failed else "complete", cause=cause)
    )


def score(unit: Unit, metric: str, value: float | None, seat: int | None = 0, judge: str = "words") -> Score:
    missing: dict[str, Any] = {} if value is not None else {"status": "missing", "cause": "bad_reply"}
    return Score(
        unit_id=unit.unit_id, judge_id=f"{judge}-id", judge=judge, seat=seat, metric=metric, value=value, **missing
    )


def scores(given: Sequence[Unit], seed: int = 0) -> list[Score]:
    """Tone rises with alpha and saturates, fluency falls with its square; goal is a tied integer with no effect."""
    rng = np.random.default_rng(seed)
    level = {unit.cluster: rng.normal(0, 0.2) for unit in given}
    found = []
    for unit in given:
        a, own = unit.arm.alpha or 0.0, level[unit.cluster]
        sign = -1 if unit.arm.target == "cold" else 1
        tone = float(np.clip(0.6 * np.tanh(sign * a) + own + rng.normal(0, 0.15), -1, 1))
        found.append(score(unit, "tone", tone))
        found.append(
            score(unit, "mean_logprob", float(-1.2 - 0.08 * a**2 + 0.2 * own + rng.normal(0, 0.1)), judge="fluency")
        )
        found.append(score(unit, "goal", float(rng.integers(3, 9)), judge="sotopia"))
        found.append(score(unit, "goal", float(rng.integers(3, 9)), seat=1, judge="sotopia"))
    return found


def write_run(out: Path, records: Sequence[EpisodeRecord], given: Sequence[Unit], judged: Sequence[Score]) -> None:
    """A journal as a run leaves it; `given` may hold units without a record."""

    async def keep() -> None:
        with Journal(out) as journal:
            journal.start({"versions": {"vllm-tiller": "0.1.0"}}, given)
            waits = [journal.keep(r.unit.unit_id, t) for r in records for t in r.turns]
            waits += [journal.finish(r.unit.unit_id, r.outcome) for r in records]
            await asyncio.gather(*waits, journal.put_scores(judged))

    asyncio.run(keep())


def sweep_run(out: Path) -> list[Unit]:
    given = units([UNSTEERED, *swept("warm"), *swept("cold")])
    write_run(out, [record(unit) for unit in given], given, scores(given))
    return given
