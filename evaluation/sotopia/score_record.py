"""One figure that a judge gave a finished unit, or the note that it gave none."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Score(BaseModel):
    """A failed judgement is `missing` with its cause; it never becomes a number.

    judge_id names all that decides the figure (judge, model, rubric, sampling); judge is its short name for people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit_id: str
    judge_id: str
    judge: str
    seat: int | None = Field(default=None, ge=0, le=1)  # whose figure it is; None: the unit's as a whole
    metric: str
    value: float | None = None
    status: Literal["ok", "missing"] = "ok"
    cause: str = ""  # of a missing one: an AskError's cause, bad_reply, not_applicable ...
    note: str = ""  # the judge's reasons

    @model_validator(mode="after")
    def _value_or_cause(self) -> "Score":
        assert (self.status == "ok") == (self.value is not None), "a score is either a number or missing"
        assert (self.status == "missing") == bool(self.cause), "a missing score, and no other, says why"
        return self
