"""A conversation as it was recorded, whoever recorded it: the scene's facts, the turns, the scores."""

from pydantic import BaseModel, ConfigDict

from .episode_record import TurnRecord
from .judges.dimensions import OVERALL

Rewards = dict[str, float]  # by dimension, and OVERALL where it is known


class Record(BaseModel):
    """All pairs are in seat order. What a file doesn't say is empty; a score that it lacks is missing, never 0.

    backgrounds: what each agent knew of itself; seen: what each agent was shown of the other one, "" nothing.
    rewards: None where the agent was not scored.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_id: str = ""
    environment_id: str
    codename: str = ""
    scenario: str
    agent_ids: tuple[str, str]
    names: tuple[str, str]
    backgrounds: tuple[str, str] = ("", "")
    seen: tuple[str, str] = ("", "")
    goals: tuple[str, str]
    turns: tuple[TurnRecord, ...]
    rewards: tuple[Rewards | None, Rewards | None] = (None, None)
    models: tuple[str, ...] = ()
    tag: str = ""
    reasoning: str = ""

    @property
    def overall(self) -> tuple[float | None, float | None]:
        """Each agent's overall score."""
        first, second = (None if scores is None else scores.get(OVERALL) for scores in self.rewards)
        return first, second
