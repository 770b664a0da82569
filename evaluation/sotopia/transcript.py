"""Turns as Sotopia logs them: lists of (sender, receiver, text), each turn's observations first, then both actions.

The seat that isn't asked "did nothing" too, so an entry counts as a turn if it says more, or if it is the asked seat's.
"""

import re
from collections.abc import Sequence
from itertools import groupby

from .actions import render_action
from .episode_record import ActionType, TurnRecord
from .profiles import SEATS

ENVIRONMENT = "Environment"
START = "Conversation Starts:"
Message = tuple[str, str, str]
_ACTIONS = re.compile(
    r'(?:said: "(?P<speak>.*)"|\[(?P<kind>action|non-verbal communication)\] ?(?P<deed>.*)'
    r"|(?P<leave>left the conversation)|(?P<none>did nothing))\s*",
    re.DOTALL,
)


def parse_action_text(text: str) -> tuple[ActionType, str]:
    """(action type, argument) of one action as it reads without its actor's name.

    Raises ValueError where it is none.
    """
    found = _ACTIONS.fullmatch(text)
    if found is None:
        raise ValueError(f'{text!r:.80} is no action; it reads said: "...", [action] ... or the like')
    if found["speak"] is not None:
        return "speak", found["speak"]
    if found["kind"] is not None:
        return found["kind"], found["deed"].rstrip()  # type: ignore[return-value]
    return ("leave", "") if found["leave"] else ("none", "")


def turns_of(messages: Sequence[Sequence[Message]], names: tuple[str, str]) -> list[TurnRecord]:
    """The turns in a log of two agents with different names, who act by turns or both at once.

    Raises ValueError naming the entry that is wrong.
    """
    rounds = [_round(entries, i, names) for i, entries in enumerate(messages)]
    both = any(len(said) == 2 and all(t.action_type != "none" for t in said) for said in rounds)
    turns: list[TurnRecord] = []
    for said in rounds:
        acting = [t for t in said if t.action_type != "none"]
        turns += said if both else acting or [t for t in said if t.seat == t.index % 2]
    return turns


def _round(entries: Sequence[Message], index: int, names: tuple[str, str]) -> list[TurnRecord]:
    """The actions of one turn, of both seats."""
    turns = []
    for sender, receiver, text in entries:
        if receiver != ENVIRONMENT or sender == ENVIRONMENT:
            continue
        if sender not in names:
            raise ValueError(f"messages[{index}]: {sender!r} acts, but the agents are {' and '.join(names)}")
        try:
            kind, argument = parse_action_text(text)
        except ValueError as error:
            raise ValueError(f"messages[{index}]: {error}") from None
        seat = names.index(sender)
        turns.append(TurnRecord(index=index, seat=seat, name=sender, action_type=kind, argument=argument, text=""))
    return sorted(turns, key=lambda turn: turn.seat)


def turns_of_text(text: str, names: tuple[str, str]) -> list[TurnRecord]:
    """The turns in a plain transcript, one a paragraph, as older data sets have them; silent ones are not in there."""
    who = "|".join(re.escape(name) for name in names)
    starts = re.compile(rf"^(?P<name>{who}):? (?=said: |\[|left the conversation|did nothing)", re.MULTILINE)
    found = list(starts.finditer(text))
    ends = [match.start() for match in found[1:]] + [len(text)]
    turns = []
    for index, (match, end) in enumerate(zip(found, ends, strict=True)):
        kind, argument = parse_action_text(text[match.end() : end].strip())
        seat = names.index(match["name"])
        turns.append(TurnRecord(index=index, seat=seat, name=names[seat], action_type=kind, argument=argument, text=""))
    return turns


def messages_of(turns: Sequence[TurnRecord], names: tuple[str, str], contexts: tuple[str, str]) -> list[list[Message]]:
    """The log of `turns`; `contexts` is what each agent is told at the start."""
    observed = [(ENVIRONMENT, names[seat], f"\n{contexts[seat]}\n{START}\n") for seat in SEATS]
    messages: list[list[Message]] = [observed]
    for index, entries in groupby(turns, key=lambda turn: turn.index):
        acted = {turn.seat: turn for turn in entries}
        messages[-1] = [*messages[-1], *(_action(acted.get(seat), names[seat]) for seat in SEATS)]
        news = "\n".join(_line(turn, names[turn.seat]) for turn in acted.values() if turn.action_type != "none")
        messages.append([(ENVIRONMENT, name, f"Turn #{index}: {news}\n") for name in names])
    return messages


def text_of(turns: Sequence[TurnRecord], names: tuple[str, str]) -> str:
    """The conversation in plain words, silent turns left out."""
    return "\n\n".join(_line(turn, names[turn.seat]) for turn in turns if turn.action_type != "none")


def _action(turn: TurnRecord | None, name: str) -> Message:
    kind, argument = ("none", "") if turn is None else (turn.action_type, turn.argument)
    return name, ENVIRONMENT, render_action(name, kind, argument).removeprefix(f"{name} ")  # type: ignore[arg-type]


def _line(turn: TurnRecord, name: str) -> str:
    return render_action(name, turn.action_type, turn.argument)
