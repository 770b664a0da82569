"""The rules of an episode. Defaults are Sotopia's published protocol (0.1.4 and before); its later quirks are switches."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Protocol(BaseModel):
    """Everything about an episode that is neither scene, nor arm, nor model.

    template: `sotopia`: full backgrounds and the whole history; `compact`: the demo model's format, a window of turns.
    visibility: what an agent sees of the other's biography. `relationship`: more the closer they are (published);
    `hidden`: nothing (Sotopia 0.1.5); `all`: everything, goals too (omniscient).
    stale_counts_off_turn: the seat that isn't asked counts as silent, so that one silent turn of seat 1 ends an episode and
    one of seat 0 doesn't (Sotopia's behaviour); off: `max_stale` silent turns in a row of those asked end it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: Literal["sotopia", "compact"] = "sotopia"
    window: Annotated[int | None, Field(ge=1)] = None  # latest turns that a prompt shows; None: all
    max_turns: Annotated[int, Field(ge=1, le=1000)] = 20
    max_stale: Annotated[int, Field(ge=1)] = 2
    stale_counts_off_turn: bool = True
    order: Literal["round-robin", "random", "simultaneous"] = "round-robin"
    visibility: Literal["relationship", "hidden", "all"] = "relationship"
    actions: tuple[Literal["none", "speak", "non-verbal communication", "action", "leave"], ...] = (
        "none", "speak", "non-verbal communication", "action", "leave",
    )  # fmt: skip
    leave_from_turn: Annotated[int, Field(ge=1)] = 1  # before it `leave` is not offered
    max_argument_chars: Annotated[int, Field(ge=1, le=4000)] = 600
    max_tokens: Annotated[int, Field(ge=16)] = (
        640  # more than the argument may have, so that an action is whole at any alpha
    )
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _always_a_choice(self) -> "Protocol":
        if len(set(self.actions)) != len(self.actions):
            raise ValueError(f"actions names one twice: {', '.join(self.actions)}")
        if not set(self.actions) - ({"leave"} if self.leave_from_turn > 1 else set()):
            raise ValueError("actions must leave something to do in every turn")
        return self

    def lasting(self, max_turns: int | None) -> "Protocol":
        """The same for so many turns at most; None leaves it as it is."""
        return self if max_turns is None else Protocol(**{**self.model_dump(), "max_turns": max_turns})
