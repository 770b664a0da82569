"""A run's episodes in Sotopia's own formats: EpisodeLog JSON, and the line of an episodes JSON Lines file.

Its software loads both. Names and texts are those that the agents were given, so with the compact template first names.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .context import parse_context
from .episode_record import EpisodeRecord
from .judges.dimensions import DIMENSIONS, OVERALL
from .profiles import SEATS, Scene
from .prompts import background, facts_of
from .transcript import Message, messages_of, text_of

Scores = Sequence[Mapping[str, float] | None] | None  # by seat: value by dimension; None: not scored


def episode_log(
    record: EpisodeRecord, rewards: Scores = None, judge: str = "", reasoning: str = "", rewards_prompt: str = ""
) -> dict[str, Any]:
    """EpisodeLog JSON of an episode (not of a prompt), `pk` its unit id and `tag` its arm.

    An agent that lacks one of the dimensions gets a bare 0.0, Sotopia's word for a judgement that failed.
    """
    scene = _scene(record)
    return {
        "pk": record.unit.unit_id,
        "environment": scene.environment.pk,
        "agents": [agent.pk for agent in scene.agents],
        "tag": record.unit.arm.name,
        "models": [judge, *record.unit.models],
        "messages": _messages(record),
        "reasoning": reasoning or f"Environment comments: {record.outcome.status}: {record.outcome.cause}",
        "rewards": [_reward(scores) for scores in rewards or (None, None)],
        "rewards_prompt": rewards_prompt,
    }


def episode_line(
    record: EpisodeRecord, rewards: Scores = None, judge: str = "", reasoning: str = "", rewards_prompt: str = ""
) -> dict[str, Any]:
    """The same with the keys of Sotopia's published episodes, which say the scene in words as well."""
    log = episode_log(record, rewards, judge, reasoning, rewards_prompt)
    facts = facts_of(record.unit.protocol, _scene(record))
    return {
        "episode_id": log["pk"],
        "environment_id": log["environment"],
        "agent_ids": log["agents"],
        "experiment_tag": log["tag"],
        "experiment_model_name_pairs": log["models"],
        "raw_messages": log["messages"],
        "raw_rewards": log["rewards"],
        "raw_rewards_prompt": log["rewards_prompt"],
        "scenario": facts.scenario,
        "codename": _scene(record).environment.codename,
        "agents_background": dict(zip(facts.names, _backgrounds(record), strict=True)),
        "social_goals": dict(zip(facts.names, facts.goals, strict=True)),
        "social_interactions": text_of(record.turns, facts.names),
        "reasoning": log["reasoning"],
        "rewards": log["rewards"],
    }


def write_episode_logs(logs: Iterable[dict[str, Any]], root: Path) -> Path:
    """One file for each log where Sotopia's local backend looks for them: `root`/EpisodeLog/<pk>.json."""
    folder = root / "EpisodeLog"
    folder.mkdir(parents=True, exist_ok=True)
    for log in logs:
        (folder / f"{log['pk']}.json").write_text(json.dumps(log, ensure_ascii=False, indent=2) + "\n", "utf-8")
    return folder


def _scene(record: EpisodeRecord) -> Scene:
    assert record.unit.scene is not None, "a prompt's answer is no episode"
    return record.unit.scene


def _messages(record: EpisodeRecord) -> list[list[Message]]:
    protocol, scene = record.unit.protocol, _scene(record)
    contexts = [background(protocol, scene, seat).replace("Situation:", "Scenario:", 1) for seat in SEATS]
    return messages_of(record.turns, facts_of(protocol, scene).names, (contexts[0], contexts[1]))


def _backgrounds(record: EpisodeRecord) -> tuple[str, str]:
    """Both biographies as whoever knows everything reads them."""
    protocol, scene = record.unit.protocol, _scene(record)
    return parse_context(background(protocol, scene, None), facts_of(protocol, scene).names).backgrounds


def _reward(scores: Mapping[str, float] | None) -> tuple[float, dict[str, float]] | float:
    """(overall score, scores with the overall one among them); overall is the mean of the seven where it isn't given."""
    if scores is None or not all(name in scores for name in DIMENSIONS):
        return 0.0
    values = {name: float(scores[name]) for name in DIMENSIONS}
    overall = float(scores.get(OVERALL, sum(values.values()) / len(values)))
    return overall, {**values, OVERALL: overall}
