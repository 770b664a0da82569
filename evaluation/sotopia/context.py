"""What an agent is told at the start of an episode, read back out of the log: Sotopia's wording or ours."""

import re
from dataclasses import dataclass

from .profiles import AgentProfile, Relationship

_UNKNOWN = ("", "Unknown", "unknown to you")
_PERSONALITY = "Personality and values description: "
_BIOGRAPHY = re.compile(
    r"(?P<name>.+?) is a (?P<age>\d+)-year-old (?P<gender>\w*) ?(?P<occupation>.*?)\. (?P<pronoun>[^.]*?) ?pronouns\."
    rf"(?P<public>.*?)(?:{_PERSONALITY}(?P<personality>.*?))?(?P<secret_of>\b\w[^.]*?'s secrets: (?P<secret>.*))?",
    re.DOTALL,
)
_GENDERS = {"male": "Man", "female": "Woman", "nonbinary": "Nonbinary"}


@dataclass(frozen=True)
class Context:
    """As one agent sees it: texts in seat order, "" where it knows nothing."""

    scenario: str
    backgrounds: tuple[str, str]
    goals: tuple[str, str]


def parse_context(text: str, names: tuple[str, str]) -> Context:
    """The parts of an agent's first observation; what isn't in there is empty."""
    labels = ["(?:Scenario|Situation): ", "Participants: "]
    labels += [f"{re.escape(name)}'s {part}: " for part in ("background", "goal") for name in names]
    starts = [re.search(rf"^{label}", text, re.MULTILINE) for label in labels]
    ends = sorted([m.start() for m in starts if m] + [len(text.partition("Conversation Starts:")[0])])
    parts = []
    for match in starts:
        end = next((end for end in ends if match and end > match.start()), 0)
        part = text[match.end() : end].strip() if match else ""
        parts.append("" if part in _UNKNOWN else part)
    scenario, _, *rest = parts
    return Context(scenario, (rest[0], rest[1]), (rest[2], rest[3]))


def agent_of(pk: str, name: str, biography: str) -> AgentProfile:
    """A profile that reads as `biography` does; what doesn't follow Sotopia's pattern counts as public information."""
    first, _, last = name.partition(" ")
    found = _BIOGRAPHY.fullmatch(biography)
    if found is None:
        public = biography.removeprefix(name).removeprefix(".").strip()
        return AgentProfile(pk=pk, first_name=first, last_name=last, public_info=public)
    return AgentProfile(
        pk=pk,
        first_name=first,
        last_name=last,
        age=int(found["age"]),
        gender=_GENDERS.get(found["gender"], found["gender"]),
        occupation=found["occupation"],
        gender_pronoun=found["pronoun"],
        public_info=found["public"].strip(),
        personality_and_values=(found["personality"] or "").strip(),
        secret=(found["secret"] or "").strip(),
    )


def relationship_of(seen: str, name: str) -> Relationship:
    """How close two must be for one to know `seen` of the other, who is called `name`."""
    if seen in _UNKNOWN:
        return Relationship.stranger
    if seen.rstrip(".") == name:
        return Relationship.know_by_name
    return Relationship.friend if _PERSONALITY in seen else Relationship.acquaintance
