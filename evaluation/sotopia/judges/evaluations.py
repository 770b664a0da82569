"""A judge's answer on two agents, in our shape or in those that Sotopia's versions publish."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .asking import read_number
from .dimensions import DIMENSIONS
from .judge import Missing


class Rating(NamedTuple):
    score: int
    reasoning: str


Evaluation = dict[str, Rating]


def read_evaluations(body: dict[str, Any], names: Sequence[str]) -> list[Evaluation]:
    """The seven ratings of each agent, in the order of `names`, whatever their order in `body`.

    Agents are keyed by their names, or by Sotopia's `agent_1` and `agent_2` (or `agent_1_evaluation`), with or without
    `evaluations` around them; a rating is {"reasoning": ..., "score": ...} or [reasoning, score]. Raises Missing:
    `wrong_names` where an agent is not told by name or number, `incomplete` where a dimension is not there, `unparsable` or
    `out_of_range` where its score is wrong. Then no part of the answer counts.
    """
    inner = body.get("evaluations", body)
    return [_read_dimensions(agent, name) for agent, name in zip(_agents(inner, names), names, strict=True)]


def _agents(body: Any, names: Sequence[str]) -> list[Any]:
    """What is said of each agent: all by name, or all by number."""
    if not isinstance(body, dict):
        raise Missing("unparsable", f"{body!r:.80} holds no agents")
    by_key = {_plain(key): value for key, value in body.items()}
    numbers = range(1, len(names) + 1)
    ways = [names, [f"agent_{n}" for n in numbers], [f"agent_{n}_evaluation" for n in numbers]]
    for keys in ways:
        plain = [_plain(key) for key in keys]
        if len(set(plain)) == len(plain) and by_key.keys() >= set(plain):
            return [by_key[key] for key in plain]
    raise Missing("wrong_names", f"{', '.join(map(str, body))} instead of {', '.join(names)}")


def _plain(key: str) -> str:
    return " ".join(key.split()).casefold()


def _read_dimensions(given: Any, name: str) -> Evaluation:
    if not isinstance(given, dict):
        raise Missing("unparsable", f"{name}: {given!r:.80} holds no dimensions")
    absent = [dimension for dimension in DIMENSIONS if dimension not in given]
    if absent:
        raise Missing("incomplete", f"{name}: no {', '.join(absent)}")
    return {dimension: _read_rating(given[dimension], name, dimension) for dimension in DIMENSIONS}


def _read_rating(given: Any, name: str, dimension: str) -> Rating:
    if isinstance(given, dict) and "score" in given:
        reasoning, score = given.get("reasoning", ""), given["score"]
    elif isinstance(given, list) and len(given) == 2:
        reasoning, score = given
    else:
        raise Missing("unparsable", f"{name}, {dimension}: {given!r:.80} is no rating")
    low, high, _ = DIMENSIONS[dimension]
    return Rating(read_number(score, low, high, f"{name}, {dimension}"), str(reasoning))
