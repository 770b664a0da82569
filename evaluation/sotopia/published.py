"""Sotopia's profiles as they are published, made into ours.

What they bring along: `agent_id`, `env_id`, `combo_id` or `relationship_id` in place of `pk`, numbers as text ("3"), "nan" or
"none" for what isn't there, fields left out, and lists as text of a Python or JSON literal.
"""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tiller.evaluation.inputs import InputError

from .objects import Placed, iter_objects
from .profiles import AgentProfile, EnvAgentCombo, EnvironmentProfile, Relationship, RelationshipProfile

Profile = TypeVar("Profile", AgentProfile, EnvironmentProfile, RelationshipProfile, EnvAgentCombo)

ALIASES: dict[type[BaseModel], dict[str, str]] = {
    AgentProfile: {"agent_id": "pk"},
    EnvironmentProfile: {"env_id": "pk", "scenario_id": "pk"},
    RelationshipProfile: {"relationship_id": "pk", "agent1_id": "agent_1_id", "agent2_id": "agent_2_id"},
    EnvAgentCombo: {"combo_id": "pk"},
}
_MISSING = ("", "nan", "none", "null")


def read_profiles(kind: type[Profile], path: Path) -> dict[str, tuple[str, Profile]]:
    """(file:line, profile) by key for all profiles of one kind in a file or folder, in its order.

    Raises InputError naming file, line and field where one is wrong or comes twice; then none is read.
    """
    found: dict[str, tuple[str, Profile]] = {}
    for placed in iter_objects(path):
        profile = profile_of(kind, placed)
        if profile.pk in found:
            raise InputError(f"pk: {profile.pk!r} is already in {found[profile.pk][0]}", placed.where)
        found[profile.pk] = placed.where, profile
    if not found:
        raise InputError("it holds no profile", str(path))
    return found


def profile_of(kind: type[Profile], placed: Placed) -> Profile:
    """The profile that an object describes.

    Raises InputError naming its place and the field that is unknown, missing or wrong.
    """
    fields: dict[str, Any] = {}
    for key, value in placed.body.items():
        name = ALIASES[kind].get(key, key)
        if name in fields:
            raise InputError(f"{key}: {name} is given twice", placed.where)
        if not is_missing(value):
            try:
                fields[name] = _CONVERSIONS.get(name, _same)(value)
            except ValueError as error:
                raise InputError(f"{key}: {error}", placed.where) from None
    if kind is EnvAgentCombo and "agent_ids" in fields:  # benchmark lists give theirs no key
        fields.setdefault("pk", " ".join(map(str, [fields.get("env_id"), *fields["agent_ids"]])))
    try:
        return kind(**fields)
    except ValidationError as error:
        raise InputError(_first(error, kind), placed.where) from None


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: null, NaN, or a word for it."""
    return value is None or value != value or (isinstance(value, str) and value.strip() in _MISSING)


def _same(value: Any) -> Any:
    return value


def _as_relationship(value: Any) -> Relationship:
    """From its number, also as text, or its name."""
    text = str(value).strip()
    for known in Relationship:
        if text in (str(int(known)), f"{int(known)}.0", known.name):
            return known
    allowed = ", ".join(f"{int(known)} ({known.name})" for known in Relationship)
    raise ValueError(f"{value!r} given; allowed: {allowed}")


def _as_list(value: Any) -> list[Any]:
    """A list, or the text of one; any other text is words with commas between."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            value = value.split(",")
    if not isinstance(value, list | tuple):
        raise ValueError(f"{value!r} given; a list is needed")
    return [entry.strip() if isinstance(entry, str) else entry for entry in value]


def _as_goals(value: Any) -> list[Any]:
    if isinstance(value, str) and not value.strip().startswith(("[", "(")):
        raise ValueError("one text given; an environment has a list of exactly two goals, one for each seat")
    goals = _as_list(value)
    if len(goals) != 2:
        raise ValueError(f"{len(goals)} given; an environment has exactly two goals, one for each seat")
    for seat, goal in enumerate(goals):
        if not isinstance(goal, str) or is_missing(goal):
            raise ValueError(f"the goal of seat {seat} is {goal!r}; a text is needed")
    return goals


def _as_agents(value: Any) -> list[Any]:
    agents = _as_list(value)
    if len(agents) != 2 or agents[0] == agents[1]:
        raise ValueError(f"{agents!r} given; the keys of two different agents are needed")
    return agents


def _as_constraint(value: Any) -> Any:
    """The text of a literal, as Sotopia keeps it."""
    return repr(value) if isinstance(value, list | tuple) else value


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "relationship": _as_relationship,
    "agent_goals": _as_goals,
    "agent_ids": _as_agents,
    "agent_constraint": _as_list,
    "moral_values": _as_list,
    "schwartz_personal_values": _as_list,
    "age_constraint": _as_constraint,
    "occupation_constraint": _as_constraint,
}


def _first(error: ValidationError, kind: type[BaseModel]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"]
    if first["type"] == "extra_forbidden":
        message = f"unknown key; allowed: {', '.join([*ALIASES[kind], *kind.model_fields])}"
    return f"{'.'.join(map(str, first['loc']))}: {message}"
