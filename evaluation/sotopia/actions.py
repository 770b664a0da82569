"""The one JSON action that a turn consists of: its schema, its reading from an answer, and how it reads in a history."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json

from .episode_record import ActionType
from .protocol import Protocol
from .whole_text import whole_text

Reason = Literal["not_json", "no_action_type", "not_offered", "no_argument"]
WORDLESS: tuple[ActionType, ...] = ("none", "leave")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CONTROLS = dict.fromkeys(range(32), " ")  # some endpoints let them into strings, where JSON has none


class ActionError(ValueError):
    """An answer that is no action; `reason` says what is wrong with it."""

    def __init__(self, reason: Reason, message: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}: {message}")


@dataclass(frozen=True)
class Action:
    """What an agent does in one turn. `cut`: it went on beyond max_tokens or max_argument_chars."""

    action_type: ActionType
    argument: str
    cut: bool = False


def offered_actions(protocol: Protocol, turn: int) -> tuple[ActionType, ...]:
    """The action types that an agent may choose from at `turn` (from 0), in the protocol's order."""
    early = turn + 1 < protocol.leave_from_turn
    return tuple(kind for kind in protocol.actions if not (early and kind == "leave"))


def action_schema(protocol: Protocol, turn: int) -> dict[str, Any]:
    """JSON schema of the answer at `turn` (from 0): the type comes first, the argument is bounded."""
    argument = {"type": "string", "maxLength": protocol.max_argument_chars}
    return {
        "type": "object",
        "properties": {"action_type": {"type": "string", "enum": [*offered_actions(protocol, turn)]}, "argument": argument},
        "required": ["action_type", "argument"],
        "additionalProperties": False,
    }  # fmt: skip


def parse_action(text: str, cut: bool, offered: Sequence[ActionType], max_chars: int) -> Action:
    """The action in `text`: its first JSON object, whatever stands around it.

    cut: max_tokens ended the answer, so an object without its end is closed. An argument longer than `max_chars` is cut
    there; `none` and `leave` have none. Raises ActionError where there is no object, or no action type that was offered.
    """
    found, is_closed = _read_object(text, cut)
    kind = _action_type(found, offered, is_closed)
    argument = found.get("argument", "" if kind in WORDLESS or not is_closed else None)
    if not isinstance(argument, str):
        raise ActionError("no_argument", f"`argument` must be a string, not {argument!r:.80}")
    argument = "" if kind in WORDLESS else _one_line(argument)
    return Action(kind, argument[:max_chars], cut=not is_closed or len(argument) > max_chars)


def _read_object(text: str, cut: bool) -> tuple[dict[str, Any], bool]:
    """The first object and whether its end is there."""
    text = text.translate(CONTROLS)
    start = text.find("{")
    if start < 0:
        raise ActionError("not_json", f"no JSON object in {text!r:.80}")
    try:
        return json.JSONDecoder().raw_decode(text, start)[0], True
    except ValueError as error:
        if not cut:
            raise ActionError("not_json", f"{error} in {text!r:.80}") from None
    try:
        # The last character may be one whose bytes were not all sampled.
        return from_json(text[start:].rstrip(REPLACEMENT), allow_partial="trailing-strings"), False
    except ValueError as error:
        raise ActionError("not_json", f"{error} in {text!r:.80}") from None


def _action_type(found: dict[str, Any], offered: Sequence[ActionType], is_closed: bool) -> ActionType:
    given = found.get("action_type")
    if not isinstance(given, str):
        raise ActionError("no_action_type", f"`action_type` must be one of {', '.join(offered)}")
    last = not is_closed and "argument" not in found
    fitting = [kind for kind in offered if kind == given or (last and kind.startswith(given))]
    if given in fitting or len(fitting) == 1:
        return given if given in fitting else fitting[0]  # type: ignore[return-value]
    if fitting:
        raise ActionError(
            "no_action_type", f"the answer ends at {given!r}, before it is plain which one; raise max_tokens"
        )
    raise ActionError("not_offered", f"{given!r:.80} is none of {', '.join(offered)}")


def _one_line(argument: str) -> str:
    """Without line breaks and control characters, which could pass for other turns in a history, nor half characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in whole_text(argument)).split())


def render_action(name: str, action_type: ActionType, argument: str) -> str:
    """One action as both agents and the judges read it."""
    if action_type == "speak":
        return f'{name} said: "{argument}"'
    plain = {"none": "did nothing", "leave": "left the conversation"}
    return f"{name} {plain.get(action_type) or f'[{action_type}] {argument}'}"
