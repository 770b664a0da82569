"""One unit played to its end: who is asked when, what counts as the end, and exactly on from where a killed run stopped."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from .actions import ActionError, action_schema, offered_actions, parse_action
from .ask import Ask, AskError, Reply, Speaker
from .episode_record import Outcome, TurnRecord
from .profiles import SEATS
from .prompts import agent_prompt, turn_number
from .protocol import Protocol
from .unit import Unit

Keep = Callable[[TurnRecord], Awaitable[None]]
ASSISTANT = "assistant"


async def play(unit: Unit, speakers: tuple[Speaker, Speaker], past: Sequence[TurnRecord], keep: Keep) -> Outcome:
    """Plays `unit` on from its turns so far; each new turn is kept before anything else is asked.

    What is asked depends on the unit and its turns alone, so a run that was killed goes on as if it had not been. Raises
    TillerError where an ask is wrong in itself, such as steering that the engine can't do.
    """
    turns = list(past)
    try:
        if unit.scene is None:
            return await _play_prompt(unit, speakers[0], turns, keep)
        while (cause := ending(unit.protocol, turns)) is None:
            await _play_round(unit, speakers, turns, keep)
    except AskError as error:
        return Outcome(status="failed", cause=error.cause, detail=error.message)
    except ActionError as error:
        return Outcome(status="failed", cause="bad_action", detail=str(error))
    return Outcome(status="complete", cause=cause)


def ending(protocol: Protocol, turns: Sequence[TurnRecord]) -> str | None:
    """Why an episode with these turns is over (left, stale, max_turns), or None while it goes on."""
    if not turns or len(_acting_now(protocol, turns)) < num_acting(protocol):
        return None
    if any(turn.action_type == "leave" for turn in turns):
        return "left"
    if _is_stale(protocol, turns):
        return "stale"
    return "max_turns" if turn_number(turns) >= protocol.max_turns else None


def num_acting(protocol: Protocol) -> int:
    """Seats that are asked in one turn."""
    return 2 if protocol.order == "simultaneous" else 1


def _acting_now(protocol: Protocol, turns: Sequence[TurnRecord]) -> list[TurnRecord]:
    """The records of the latest turn."""
    return [turn for turn in turns[-num_acting(protocol) :] if turn.index == turns[-1].index]


def _is_stale(protocol: Protocol, turns: Sequence[TurnRecord]) -> bool:
    silent = [turn.action_type == "none" for turn in turns]
    if not protocol.stale_counts_off_turn:
        return len(silent) >= protocol.max_stale and all(silent[-protocol.max_stale :])
    if protocol.order != "simultaneous":
        # Sotopia looks at both seats in each turn, seat 0 first, and the one that isn't asked is silent.
        silent = [
            s for turn, quiet in zip(turns, silent, strict=True) for s in ((quiet, True), (True, quiet))[turn.seat]
        ]
    return len(silent) > protocol.max_stale and all(silent[-protocol.max_stale - 1 :])


def seats_at(unit: Unit, turn: int) -> tuple[int, ...]:
    """Who acts at `turn` (from 0); a random order is the same in every arm."""
    if unit.protocol.order == "simultaneous":
        return SEATS
    if unit.protocol.order == "random":
        return (random.Random(unit.turn_seed(turn)).randrange(2),)
    return (turn % 2,)


async def _play_round(unit: Unit, speakers: tuple[Speaker, Speaker], turns: list[TurnRecord], keep: Keep) -> None:
    """One turn of whoever acts now and hasn't yet; what came back is kept even where the other seat's call failed."""
    begun = bool(turns) and len(_acting_now(unit.protocol, turns)) < num_acting(unit.protocol)
    index = turns[-1].index if begun else turn_number(turns)
    before = [turn for turn in turns if turn.index < index]
    seats = [seat for seat in seats_at(unit, index) if not (begun and seat == turns[-1].seat)]
    calls = [_turn(unit, speakers[seat], seat, index, before) for seat in seats]
    if len(calls) == 1:
        done: list[TurnRecord | BaseException] = [await calls[0]]
    else:
        done = await asyncio.gather(*calls, return_exceptions=True)
    for turn in done:
        if isinstance(turn, TurnRecord):
            await keep(turn)
            turns.append(turn)
    for error in done:
        if isinstance(error, BaseException):
            raise error


async def _turn(unit: Unit, speaker: Speaker, seat: int, index: int, before: Sequence[TurnRecord]) -> TurnRecord:
    """Asks for one action. Raises AskError where no answer came, ActionError where it is none."""
    assert unit.scene is not None
    protocol, acting = unit.protocol, num_acting(unit.protocol)
    ask = Ask(
        messages=agent_prompt(protocol, unit.scene, seat, before),
        schema=action_schema(protocol, index),
        seed=unit.turn_seed(index if acting == 1 else acting * index + seat),
        **_common(unit, seat),
    )
    reply = await speaker.ask(ask)
    offered = offered_actions(protocol, index)
    action = parse_action(reply.text, reply.finish_reason == "length", offered, protocol.max_argument_chars)
    return TurnRecord(
        index=index,
        seat=seat,
        name=unit.scene.names[seat],
        action_type=action.action_type,
        argument=action.argument,
        cut=action.cut,
        seed=ask.seed,
        **_came_back(reply),
    )


async def _play_prompt(unit: Unit, speaker: Speaker, turns: Sequence[TurnRecord], keep: Keep) -> Outcome:
    """One free text."""
    assert unit.prompt is not None
    if not turns:
        ask = Ask(messages=unit.prompt, seed=unit.turn_seed(0), **_common(unit, 0))
        reply = await speaker.ask(ask)
        said: dict[str, Any] = {
            "name": ASSISTANT,
            "action_type": "speak",
            "argument": reply.text,
            "cut": reply.finish_reason == "length",
        }
        await keep(TurnRecord(index=0, seat=0, seed=ask.seed, **said, **_came_back(reply)))
    return Outcome(status="complete", cause="answered")


def _common(unit: Unit, seat: int) -> dict[str, Any]:
    """What all asks of a unit for one seat have in common."""
    protocol = unit.protocol
    return {
        "steering": unit.steering_of(seat),
        "temperature": protocol.temperature,
        "top_p": protocol.top_p,
        "max_tokens": protocol.max_tokens,
        "session": unit.unit_id,
    }


def _came_back(reply: Reply) -> dict[str, Any]:
    return {
        "text": reply.text,
        "finish_reason": reply.finish_reason,
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "receipt": reply.receipt,
    }
