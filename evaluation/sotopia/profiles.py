"""Who meets whom: Sotopia's agent and environment profiles, and the scene that two agents play in one environment."""

from enum import IntEnum

from pydantic import BaseModel, ConfigDict, Field

SEATS = (0, 1)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Relationship(IntEnum):
    """How well the two know each other, by Sotopia's numbers."""

    stranger = 0
    know_by_name = 1
    acquaintance = 2
    friend = 3
    romantic_relationship = 4
    family_member = 5


class AgentProfile(_Strict):
    """One character; `secret` is never shown to the other one."""

    pk: str
    first_name: str
    last_name: str
    age: int = 0
    occupation: str = ""
    gender: str = ""
    gender_pronoun: str = ""
    public_info: str = ""
    big_five: str = ""
    moral_values: tuple[str, ...] = ()
    schwartz_personal_values: tuple[str, ...] = ()
    personality_and_values: str = ""
    decision_making_style: str = ""
    secret: str = ""
    model_id: str = ""
    mbti: str = ""
    tag: str = ""

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}".strip()


class EnvironmentProfile(_Strict):
    """One situation with a private goal for each of two seats."""

    pk: str
    codename: str = ""
    source: str = ""
    scenario: str
    agent_goals: tuple[str, str]
    relationship: Relationship = Relationship.stranger
    age_constraint: str | None = None
    occupation_constraint: str | None = None
    agent_constraint: tuple[tuple[str, ...], ...] | None = None
    tag: str = ""


class RelationshipProfile(_Strict):
    """What two characters are to each other."""

    pk: str
    agent_1_id: str
    agent_2_id: str
    relationship: Relationship
    background_story: str | None = None
    tag: str = ""


class EnvAgentCombo(_Strict):
    """One published casting of an environment, by keys."""

    pk: str
    env_id: str
    agent_ids: tuple[str, str]


class Scene(_Strict):
    """An environment and the characters in its two seats, in seat order."""

    environment: EnvironmentProfile
    agents: tuple[AgentProfile, AgentProfile] = Field(description="seat 0 acts first")

    @property
    def names(self) -> tuple[str, str]:
        return self.agents[0].name, self.agents[1].name
