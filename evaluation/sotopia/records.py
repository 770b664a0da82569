"""Reading recorded conversations: Sotopia's EpisodeLogs and episodes JSON Lines, its toolkit's results, and a run's own."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tiller.evaluation.inputs import InputError

from .context import agent_of, parse_context, relationship_of
from .episode_record import TurnRecord
from .objects import Placed, iter_objects
from .profiles import EnvironmentProfile, Relationship, Scene
from .published import is_missing
from .record import OVERALL, Record, Rewards
from .transcript import Message, turns_of, turns_of_text
from .world import World

_TURN_KEYS = ("index", "seat", "action_type", "argument", "text", "cut", "finish_reason")


def read_records(path: str | Path) -> list[Record]:
    """All conversations of a file, or of a folder of EpisodeLog files.

    Raises InputError naming file, line and field of what is no record; then none is read.
    """
    return list(iter_records(path))


def iter_records(path: str | Path) -> Iterator[Record]:
    """As `read_records`, one by one."""
    given = Path(path)
    objects = iter_objects(given)
    first = next(objects, None)
    if first is None:
        raise InputError("it holds no record", str(given))
    for placed in chain([first], objects):
        yield record_of(placed)


def record_of(placed: Placed) -> Record:
    """The record that an object describes, whichever of the formats it is in.

    Raises InputError naming its place and the field that is wrong.
    """
    parse = next((parse for keys, parse in _FORMATS if keys <= placed.body.keys()), None)
    if parse is None:
        raise InputError(
            f"no record of a conversation (it has {', '.join(sorted(placed.body)) or 'no keys'}); known are Sotopia's "
            "EpisodeLog and episodes JSON Lines, its toolkit's results, and a run's episodes.jsonl",
            placed.where,
        )
    try:
        return parse(placed.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", placed.where) from None
    except KeyError as error:
        raise InputError(f"the key {error} is missing", placed.where) from None
    except ValueError as error:
        raise InputError(str(error), placed.where) from None
    except (TypeError, AttributeError, IndexError) as error:
        raise InputError(f"not the shape of {parse.__doc__} {error}", placed.where) from None


def scene_of(record: Record, world: World | None = None) -> Scene:
    """The scene of a record: the profiles of `world` where it has them, else ones that say what the record's log says."""
    if world is not None and record.environment_id in world.environments:
        if all(pk in world.agents for pk in record.agent_ids):
            first, second = (world.agents[pk] for pk in record.agent_ids)
            return Scene(environment=world.environments[record.environment_id], agents=(first, second))
    closest = max(relationship_of(seen, name) for seen, name in zip(record.seen, record.names[::-1], strict=True))
    environment = EnvironmentProfile(
        pk=record.environment_id,
        codename=record.codename,
        scenario=record.scenario,
        agent_goals=record.goals,
        relationship=Relationship(closest),
    )
    first, second = map(agent_of, record.agent_ids, record.names, record.backgrounds)
    return Scene(environment=environment, agents=(first, second))


def _of_episode_log(body: dict[str, Any]) -> Record:
    """EpisodeLog JSON, with or without what later versions add."""
    messages = _messages(body["messages"], "messages")
    names = _names(messages)
    return _record(
        messages,
        names,
        record_id=_text(body.get("pk")),
        environment_id=body["environment"],
        agent_ids=body["agents"],
        rewards=_rewards(body.get("rewards")),
        models=tuple(body.get("models") or ()),
        tag=_text(body.get("tag")),
        reasoning=_text(body.get("reasoning")),
    )


def _of_toolkit(body: dict[str, Any]) -> Record:
    """One line of the toolkit's merged results."""
    environment, meta = body["environment"], body["meta"]
    return _record(
        _messages(meta["messages"], "meta.messages"),
        _pair(environment["agent_names"], "environment.agent_names"),
        environment_id=environment["id"],
        agent_ids=environment["pks"],
        rewards=_rewards(body.get("rewards")),
        models=tuple(meta.get("models") or ()),
        tag=_text(meta.get("tag")),
        reasoning=_text(meta.get("reasoning")),
    )


def _of_published(body: dict[str, Any]) -> Record:
    """One line of the episodes JSON Lines; `turns`, where a run of ours wrote it, say what the text can't."""
    names = _pair(list(body["agents_background"]), "agents_background")
    facts = {
        "record_id": _text(body.get("episode_id")),
        "environment_id": _text(body.get("environment_id")),
        "codename": _text(body.get("codename")),
        "scenario": body["scenario"],
        "agent_ids": body.get("agent_ids") or names,
        "backgrounds": tuple(body["agents_background"][name] for name in names),
        "goals": tuple(body["social_goals"][name] for name in names),
        "rewards": _rewards(body.get("rewards") or body.get("raw_rewards")),
        "models": tuple(body.get("experiment_model_name_pairs") or ()),
        "tag": _text(body.get("experiment_tag")),
        "reasoning": _text(body.get("reasoning")),
    }
    if "turns" in body:
        facts["turns"] = tuple(_own_turn(turn, names) for turn in body["turns"])
    elif not body.get("raw_messages"):
        facts["turns"] = tuple(turns_of_text(body["social_interactions"], names))
    return _record(_messages(body.get("raw_messages") or [], "raw_messages"), names, **facts)


def _own_turn(body: dict[str, Any], names: tuple[str, str]) -> TurnRecord:
    known = {key: body[key] for key in _TURN_KEYS if key in body}
    return TurnRecord(**{"text": "", **known, "name": names[body["seat"]]})


_FORMATS: tuple[tuple[set[str], Callable[[dict[str, Any]], Record]], ...] = (
    ({"agents_background", "social_goals"}, _of_published),
    ({"environment", "meta"}, _of_toolkit),
    ({"environment", "agents", "messages"}, _of_episode_log),
)


def _record(messages: list[list[Message]], names: tuple[str, str], **facts: Any) -> Record:
    """A record from the log, and from what is known without it."""
    own = [parse_context(_first_observation(messages, name), names) for name in names]
    from_log = {
        "names": names,
        "scenario": _told(own[0].scenario, own[1].scenario),
        "backgrounds": (own[0].backgrounds[0], own[1].backgrounds[1]),
        "seen": (own[0].backgrounds[1], own[1].backgrounds[0]),
        "goals": (own[0].goals[0], own[1].goals[1]),
    }
    if "turns" not in facts:
        facts["turns"] = tuple(turns_of(messages, names))
    return Record(**{**from_log, **facts})


def _told(first: str, second: str) -> str:
    """One scenario text for both agents, with Sotopia's markup where they were told different ones."""
    return first if first == second else f'<p viewer="agent_0">{first}</p><p viewer="agent_1">{second}</p>'


def _first_observation(messages: list[list[Message]], name: str) -> str:
    return next((text for _, receiver, text in chain(*messages[:1]) if receiver == name), "")


def _messages(given: Any, key: str) -> list[list[Message]]:
    """Raises ValueError naming the entry that isn't three texts."""
    for turn, entries in enumerate(given):
        for entry in entries:
            if not (isinstance(entry, list | tuple) and len(entry) == 3 and all(isinstance(e, str) for e in entry)):
                raise ValueError(f"{key}[{turn}]: {entry!r:.80} given; [sender, receiver, text] is needed")
    return [[(entry[0], entry[1], entry[2]) for entry in entries] for entries in given]


def _names(messages: list[list[Message]]) -> tuple[str, str]:
    """Of the two who are told about the scene, in seat order."""
    return _pair(
        list(dict.fromkeys(receiver for _, receiver, _ in chain(*messages[:1]) if receiver != "Environment")),
        "messages[0]",
    )


def _pair(names: Sequence[str], key: str) -> tuple[str, str]:
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(
            f"{key}: {', '.join(map(str, names)) or 'nobody'} given; two agents of different names are needed"
        )
    return names[0], names[1]


def _text(given: Any) -> str:
    return "" if is_missing(given) else str(given)


def _rewards(given: Any) -> tuple[Rewards | None, Rewards | None]:
    """Both agents' scores.

    Raises ValueError where there are scores, but not of two.
    """
    if not given:
        return None, None
    if len(given) != 2:
        raise ValueError(f"rewards: {len(given)} given; one for each of two agents is needed")
    return _reward(given[0]), _reward(given[1])


def _reward(given: Any) -> Rewards | None:
    """One agent's scores: [overall, {dimension: value}], either of them alone, or none. A bare 0 is how Sotopia notes that
    its judge failed, so it is none.

    Raises ValueError where it is none of these.
    """
    if is_missing(given) or given == 0:
        return None
    if isinstance(given, int | float):
        return {OVERALL: float(given)}
    if isinstance(given, dict):
        return {name: _number(name, value) for name, value in given.items() if not is_missing(value)} or None
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ValueError(f"rewards: {given!r:.80} given; [overall score, {{dimension: score}}] is needed")
    overall, scores = given[0], _reward(given[1])
    return _reward(overall) if scores is None else {**(_reward({OVERALL: overall}) or {}), **scores}


def _number(name: str, value: Any) -> float:
    if not isinstance(value, int | float):
        raise ValueError(f"rewards.{name}: {value!r:.80} given; a number is needed")
    return float(value)
