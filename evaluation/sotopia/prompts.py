"""What an agent is told before its turn, and what is known of a scene from where one stands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from tiller.evaluation.demo_model.corpus import Turn, episode_prompt
from tiller.evaluation.demo_model.scenarios import SCENARIOS
from tiller.evaluation.inputs import Messages

from .actions import action_schema, offered_actions, render_action
from .episode_record import TurnRecord
from .markup import visible_text
from .profiles import SEATS, AgentProfile, Relationship, Scene
from .protocol import Protocol
from .unit import digest

KNOWN_SCENARIOS = {scenario.codename: scenario for scenario in SCENARIOS}
UNKNOWN = "unknown to you"

RULES = """\
This is a role play between two characters. You play one of them and write what that character does next.

- You find your character, the situation and your goal below. Your goal is private: the other one can't see \
it, as you can't see theirs. Pursue it.
- Stay in character: speak and act as this person would, with this person's personality and knowledge. \
Secrets are known to their owner alone.
- Keep the conversation natural and move it on. Don't repeat what was said before, by you or by the other one.
- Each turn is one action:
{actions}
- Answer with one JSON object and nothing else. It follows this JSON schema:
{schema}"""
ACTIONS = {
    "none": "`none`: do nothing this time; the argument is empty",
    "speak": "`speak`: say something; the argument is the words you say",
    "non-verbal communication": "`non-verbal communication`: a gesture or an expression; the argument describes it",
    "action": "`action`: do something physical; the argument describes it",
    "leave": "`leave`: leave the conversation for good, once your goals are reached, you give up, or nothing is left to say;"
    " the argument is empty",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a scene is about, as the template tells it: names and goals in seat order, goals with their markup."""

    scenario: str
    names: tuple[str, str]
    goals: tuple[str, str]


def agent_prompt(protocol: Protocol, scene: Scene, seat: int, turns: Sequence[TurnRecord]) -> Messages:
    """The one user message before an action of `seat`; `turns` are all the past ones of completed rounds.

    It grows at its end from turn to turn, so that an engine finds all but the last lines in its prefix cache, unless a
    window moves.
    """
    text = (
        _compact(protocol, scene, seat, turns)
        if protocol.template == "compact"
        else _full(protocol, scene, seat, turns)
    )
    return [{"role": "user", "content": text}]


def turn_number(turns: Sequence[TurnRecord]) -> int:
    """Index of the turn that follows `turns`."""
    return turns[-1].index + 1 if turns else 0


def _full(protocol: Protocol, scene: Scene, seat: int, turns: Sequence[TurnRecord]) -> str:
    now, name = turn_number(turns), scene.names[seat]
    shown = turns if protocol.window is None else turns[-protocol.window :]
    history = [
        f"Turn #{t.index + 1}: {render_action(t.name, t.action_type, t.argument)}"
        for t in shown
        if t.action_type != "none"
    ]
    return "\n".join(
        [
            _rules(protocol),
            "",
            f"You are {name}.",
            background(protocol, scene, seat),
            "",
            "What has happened so far:",
            *history,
            "",
            f"It is turn #{now + 1} of at most {protocol.max_turns}, and you are {name}."
            f" Actions you may choose now: {', '.join(offered_actions(protocol, now))}. Write your JSON object.",
        ]
    )  # fmt: skip


@lru_cache(maxsize=64)
def _rules(protocol: Protocol) -> str:
    """Alike for all turns, seats and scenes of a run, so that they share its cache blocks."""
    actions = [f"  - {ACTIONS[kind]}" for kind in protocol.actions]
    if protocol.leave_from_turn > 1 and "leave" in protocol.actions:
        actions.append(f"  Leaving is possible from turn #{protocol.leave_from_turn} on.")
    schema = action_schema(protocol, protocol.leave_from_turn - 1)
    return RULES.format(actions="\n".join(actions), schema=json.dumps(schema))


@lru_cache(maxsize=4096)
def background(protocol: Protocol, scene: Scene, viewer: int | None) -> str:
    """Situation, participants, their biographies and goals, as far as `viewer` (a seat) knows them; None knows them all."""
    facts = facts_of(protocol, scene)
    lines = [f"Situation: {visible_text(facts.scenario, viewer)}", f"Participants: {' and '.join(facts.names)}"]
    for seat in SEATS:
        known = _biography(protocol, scene, seat, viewer)
        lines.append(f"{facts.names[seat]}'s background: {known or UNKNOWN}")
    for seat in SEATS:
        shown = viewer in (None, seat) or protocol.visibility == "all"
        goal = visible_text(facts.goals[seat], seat if viewer is not None else None)
        lines.append(f"{facts.names[seat]}'s goal: {goal if shown else UNKNOWN}")
    return "\n".join(lines)


def _biography(protocol: Protocol, scene: Scene, seat: int, viewer: int | None) -> str:
    """What `viewer` knows of the agent at `seat`."""
    agent, relationship = scene.agents[seat], scene.environment.relationship
    if viewer in (None, seat) or protocol.visibility == "all":
        secret = [f"Secret: {agent.secret}"] if agent.secret else []
        known = [_person(agent), agent.public_info, agent.personality_and_values, *secret]
    elif protocol.visibility == "hidden" or relationship == Relationship.stranger:
        known = []
    elif relationship == Relationship.know_by_name:
        known = [f"{agent.name}."]
    else:
        close = relationship >= Relationship.friend
        known = [_person(agent), agent.public_info, agent.personality_and_values if close else ""]
    return " ".join(visible_text(part, viewer) for part in known if part)


def _person(agent: AgentProfile) -> str:
    """Name, age, gender, occupation and pronouns in a sentence, without those the profile lacks."""
    traits = [f"{agent.age} years old" if agent.age else "", agent.gender.lower(), agent.occupation.lower()]
    pronouns = f" ({agent.gender_pronoun.lower()})" if agent.gender_pronoun else ""
    return f"{', '.join([agent.name + pronouns, *filter(None, traits)])}."


def _compact(protocol: Protocol, scene: Scene, seat: int, turns: Sequence[TurnRecord]) -> str:
    facts = facts_of(protocol, scene)
    past = [Turn(facts.names[t.seat], t.action_type, t.argument) for t in turns]
    goal = visible_text(facts.goals[seat], seat).rstrip(".")
    window = len(past) if protocol.window is None else protocol.window
    return episode_prompt(visible_text(facts.scenario, seat), facts.names[seat], goal, past, window)


@lru_cache(maxsize=4096)
def facts_of(protocol: Protocol, scene: Scene) -> Facts:
    """The scene's own texts; in the compact template first names, and the demo model's texts where it knows the situation."""
    environment = scene.environment
    if protocol.template != "compact":
        return Facts(environment.scenario, scene.names, environment.agent_goals)
    first, second = (agent.first_name for agent in scene.agents)
    names = scene.names if first == second else (first, second)
    if environment.codename not in KNOWN_SCENARIOS:
        return Facts(environment.scenario, names, environment.agent_goals)
    return _known_facts(environment.codename, names)


def _known_facts(codename: str, names: tuple[str, str]) -> Facts:
    """One of the demo model's situations with `names` in it; codename and names decide the amount and the goals."""
    scenario = KNOWN_SCENARIOS[codename]
    draw = int(digest([codename, *names])[:8], 16)
    amount = str(20 + 10 * (draw % 18))
    goals = (scenario.deeds[draw // 18 % 2], scenario.deeds[2 + draw // 36 % 2])
    first, second = (pair[0].format(amount=amount) for pair in goals)
    return Facts(scenario.setting[0].format(a=names[0], b=names[1]), names, (first, second))
