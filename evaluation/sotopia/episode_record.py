"""What a run leaves of a unit: its turns and how it ended. Nothing here depends on the clock, the machine or the attempts."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from .unit import Unit

ActionType = Literal["none", "speak", "non-verbal communication", "action", "leave"]
Status = Literal["complete", "failed"]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TurnRecord(_Frozen):
    """One answered call. `cut`: max_tokens ended the answer and the JSON was closed after it."""

    index: int  # from 0; in simultaneous order both seats have the same
    seat: int
    name: str
    action_type: ActionType
    argument: str
    text: str  # the answer as it came
    cut: bool = False
    finish_reason: str = "stop"
    seed: int | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    receipt: dict[str, Any] | None = None  # None where nothing was steered


class Outcome(_Frozen):
    """How a unit ended.

    cause of a complete one: max_turns, left, stale, answered (a prompt); of a failed one: an AskError's cause or bad_action.
    """

    status: Status
    cause: str
    detail: str = ""


class EpisodeRecord(_Frozen):
    """A finished unit."""

    unit: Unit
    turns: list[TurnRecord]
    outcome: Outcome
