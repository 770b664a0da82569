"""The rules of an episode: order, endings, failures, and going on where a killed run stopped."""

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiller.evaluation.sotopia.ask import Ask, AskError, Reply
from tiller.evaluation.sotopia.episode import play, seats_at
from tiller.evaluation.sotopia.episode_record import Outcome, TurnRecord
from tiller.evaluation.sotopia.profiles import AgentProfile, EnvironmentProfile, Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

from .scripted import Scripted, action, in_order

SCENE = Scene(
    environment=EnvironmentProfile(pk="e", scenario="They meet.", agent_goals=("talk", "listen")),
    agents=(
        AgentProfile(pk="a", first_name="Mina", last_name="K"),
        AgentProfile(pk="b", first_name="Leo", last_name="B"),
    ),
)
HI = action("speak", "hi")
ORDERS = st.sampled_from(["round-robin", "random", "simultaneous"])


def unit_of(arm: Arm = UNSTEERED, **protocol: Any) -> Unit:
    return Unit(scene=SCENE, protocol=Protocol(**protocol), arm=arm)


def played(unit: Unit, *speakers: Scripted, past: Sequence[TurnRecord] = ()) -> tuple[Outcome, list[TurnRecord]]:
    """One speaker for both seats, or one for each."""
    turns: list[TurnRecord] = list(past)

    async def keep(turn: TurnRecord) -> None:
        turns.append(turn)

    both = speakers if len(speakers) == 2 else speakers * 2
    return asyncio.run(play(unit, both, past, keep)), turns  # type: ignore[arg-type]


def choose(ask: Ask) -> str:
    """An answer that hangs on all that is asked, silent or leaving now and then."""
    draw = zlib.crc32(f"{ask.messages} {ask.seed}".encode()) % 100
    kind = "none" if draw < 20 else "leave" if draw < 25 else "speak"
    return action(kind, f"line {draw}")


def test_the_two_act_in_turns_up_to_the_last() -> None:
    outcome, turns = played(unit_of(max_turns=5), Scripted(lambda ask: HI))
    assert outcome == Outcome(status="complete", cause="max_turns")
    assert [(t.index, t.seat, t.name) for t in turns] == [
        (i, i % 2, ("Mina K", "Leo B")[i % 2]) for i in range(5)
    ]  # fmt: skip


def test_in_simultaneous_order_neither_hears_the_other_first() -> None:
    speaker = Scripted(lambda ask: HI)
    outcome, turns = played(unit_of(max_turns=2, order="simultaneous"), speaker)
    assert [(t.index, t.seat) for t in turns] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert ["hi" in ask.messages[0]["content"].split("so far:")[1] for ask in speaker.asks] == [
        False,
        False,
        True,
        True,
    ]
    assert len({ask.seed for ask in speaker.asks}) == 4


def test_a_random_order_is_the_same_in_every_arm() -> None:
    steered = unit_of(Arm(name="x", steering={"vectors": []}), order="random")
    orders = [[seats_at(unit, turn) for turn in range(200)] for unit in (unit_of(order="random"), steered)]
    assert orders[0] == orders[1]
    assert 60 < orders[0].count((0,)) < 140


def test_whoever_leaves_ends_it() -> None:
    outcome, turns = played(unit_of(), in_order(HI, HI, action("leave", "bye")))
    assert outcome.cause == "left" and len(turns) == 3 and turns[-1].argument == ""


SILENT = action("none")


@pytest.mark.parametrize(
    ("answers", "counts_off_turn", "num_turns", "cause"),
    [
        ((HI, SILENT, HI, HI), True, 2, "stale"),  # Sotopia: one silent turn of seat 1 is enough,
        ((HI, HI, SILENT, HI), True, 4, "max_turns"),  # one of seat 0 isn't
        ((SILENT, SILENT, HI, HI), True, 2, "stale"),
        ((HI, SILENT, HI, HI), False, 4, "max_turns"),
        ((HI, HI, SILENT, SILENT), False, 4, "stale"),
        ((HI, SILENT, SILENT, HI), False, 3, "stale"),
    ],
)
def test_silence_ends_it(answers: tuple[str, ...], counts_off_turn: bool, num_turns: int, cause: str) -> None:
    unit = unit_of(max_turns=4, stale_counts_off_turn=counts_off_turn)
    outcome, turns = played(unit, in_order(*answers))
    assert (len(turns), outcome.cause) == (num_turns, cause)


@given(ORDERS, st.booleans(), st.integers(1, 4), st.integers(0, 3), st.data())
def test_an_episode_goes_on_as_if_it_had_not_been_stopped(
    order: str, counts: bool, stale: int, early: int, data: st.DataObject
) -> None:
    unit = unit_of(order=order, stale_counts_off_turn=counts, max_stale=stale, leave_from_turn=1 + early, max_turns=6)
    speaker = Scripted(lambda ask: choose(ask) if early == 0 else choose(ask).replace("leave", "speak"))
    whole = played(unit, speaker)
    at = data.draw(st.integers(0, len(whole[1])))
    asked = len(speaker.asks)
    assert played(unit, speaker, past=whole[1][:at]) == whole
    assert len(speaker.asks) - asked == len(whole[1]) - at, "nothing is asked twice"


@given(ORDERS, st.booleans(), st.integers(1, 4))
def test_every_turn_but_the_last_leaves_the_episode_open(order: str, counts: bool, stale: int) -> None:
    unit = unit_of(order=order, stale_counts_off_turn=counts, max_stale=stale, max_turns=9)
    outcome, turns = played(unit, Scripted(choose))
    acting = 2 if order == "simultaneous" else 1
    rounds = [turns[i : i + acting] for i in range(0, len(turns), acting)]
    assert [t.index for r in rounds for t in r] == [i for i in range(len(rounds)) for _ in range(acting)]
    assert not any(t.action_type == "leave" for r in rounds[:-1] for t in r)
    assert (outcome.cause == "left") == any(t.action_type == "leave" for t in rounds[-1])
    assert outcome.cause != "max_turns" or len(rounds) == 9
    assert outcome.cause != "stale" or turns[-1].action_type == "none"


def test_only_the_arms_seat_is_steered_and_seeds_are_paired() -> None:
    arm = Arm(name="kind", steering={"features": [{"id": 1, "value": 2.0}]})
    asks = {}
    for unit in (unit_of(arm, max_turns=4), unit_of(max_turns=4)):
        speaker = Scripted(lambda ask: HI)
        played(unit, speaker)
        asks[unit.arm.name] = speaker.asks
    assert [ask.steering for ask in asks["kind"]] == [arm.steering, None, arm.steering, None]
    assert [ask.seed for ask in asks["kind"]] == [ask.seed for ask in asks["unsteered"]]


def test_each_seat_asks_its_own_speaker() -> None:
    first, second = Scripted(lambda ask: HI), Scripted(lambda ask: HI)
    played(unit_of(max_turns=5), first, second)
    assert (len(first.asks), len(second.asks)) == (3, 2)


def test_a_call_without_an_answer_fails_the_episode_by_its_cause() -> None:
    outcome, turns = played(unit_of(), in_order(HI, AskError("timeout", "no answer within 3 s")))
    assert outcome == Outcome(status="failed", cause="timeout", detail="no answer within 3 s") and len(turns) == 1


def test_an_answer_that_is_no_action_fails_it_too() -> None:
    outcome, turns = played(unit_of(), in_order(HI, "I am sorry."))
    assert (
        (outcome.status, outcome.cause) == ("failed", "bad_action") and "not_json" in outcome.detail and len(turns) == 1
    )


def test_what_one_seat_answered_is_kept_where_the_other_got_no_answer() -> None:
    failing, fine = in_order(AskError("connection", "reset")), Scripted(lambda ask: HI)
    outcome, turns = played(unit_of(order="simultaneous", max_turns=1), failing, fine)
    assert outcome.cause == "connection" and [t.seat for t in turns] == [1]
    outcome, turns = played(unit_of(order="simultaneous", max_turns=1), fine, fine, past=turns)
    assert outcome.cause == "max_turns" and sorted(t.seat for t in turns) == [0, 1] and len(fine.asks) == 2


def test_what_max_tokens_cut_is_played_and_marked() -> None:
    cut = Reply(text='{"action_type": "speak", "argument": "I was ab', finish_reason="length")
    _, turns = played(unit_of(max_turns=1), in_order(cut))
    assert (turns[0].argument, turns[0].cut, turns[0].text) == ("I was ab", True, cut.text)


def test_a_prompt_is_one_free_answer() -> None:
    unit = Unit(prompt=[{"role": "user", "content": "I think"}], protocol=Protocol(), arm=UNSTEERED)
    speaker = Scripted(lambda ask: "so {it} is")
    outcome, turns = played(unit, speaker)
    assert outcome == Outcome(status="complete", cause="answered")
    assert [t.argument for t in turns] == ["so {it} is"] and speaker.asks[0].schema is None
    assert played(unit, in_order(), past=turns) == (outcome, turns)
