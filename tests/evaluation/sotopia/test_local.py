"""Episodes on the real engine: every action valid, every answer its own whatever else is in the batch."""

import asyncio
import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest
from vllm import SamplingParams

from tiller.engine.errors import SpecError
from tiller.engine.stepping import Stepping, StoppedError
from tiller.evaluation.demo_model.phrases import NAMES
from tiller.evaluation.demo_model.scenarios import SCENARIOS
from tiller.evaluation.sotopia.actions import action_schema
from tiller.evaluation.sotopia.ask import Ask, AskError, Reply
from tiller.evaluation.sotopia.episode import play
from tiller.evaluation.sotopia.episode_record import Outcome, TurnRecord
from tiller.evaluation.sotopia.local import LocalSpeaker
from tiller.evaluation.sotopia.profiles import AgentProfile, EnvironmentProfile, Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.settings import settings_of
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

Played = list[tuple[Outcome, list[TurnRecord]]]
AGENTS = [AgentProfile(pk=name, first_name=name, last_name="") for name in NAMES]
SCENES = [
    Scene(
        environment=EnvironmentProfile(pk=s.codename, codename=s.codename, scenario=s.codename, agent_goals=("", "")),
        agents=(AGENTS[i % 12], AGENTS[(i + 1 + i // 12) % 12]),
    )
    for i, s in enumerate(SCENARIOS)
]


def scaled(profile: dict[str, Any], factor: float) -> dict[str, Any]:
    """The steering of a profile at `factor` times its strength."""
    spec: dict[str, Any] = copy.deepcopy(profile)
    for edit in spec["features"]:
        edit["value"] *= factor
    return spec


def arm(llm: Any, name: str, factor: float) -> Arm:
    return Arm(name=f"{name} {factor:g}", steering=scaled(llm.config.profiles[name], factor), target=name, alpha=factor)


def units(llm: Any, arms: Sequence[Arm], num_scenes: int, **changes: Any) -> list[Unit]:
    protocol = settings_of(llm.config).protocol.model_copy(update={"max_turns": 4, **changes})
    return [Unit(scene=scene, protocol=protocol, arm=arm) for arm in arms for scene in SCENES[:num_scenes]]


def play_all(llm: Any, todo: Sequence[Unit], in_flight: int = 256) -> Played:
    """Every unit's outcome and turns, `in_flight` of them at a time."""
    speaker = LocalSpeaker(llm)
    places = asyncio.Semaphore(in_flight)

    async def one(unit: Unit) -> tuple[Outcome, list[TurnRecord]]:
        turns: list[TurnRecord] = []

        async def keep(turn: TurnRecord) -> None:
            turns.append(turn)

        async with places:
            return await play(unit, (speaker, speaker), [], keep), turns

    async def everything() -> Played:
        return await asyncio.gather(*map(one, todo))

    return asyncio.run(everything())


def texts(played: Played) -> list[list[str]]:
    return [[turn.text for turn in turns] for _, turns in played]


def together(*calls: Any) -> list[Any]:
    """What came of calls made at once."""

    async def gathered() -> list[Any]:
        return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(gathered())


def ask_of(text: str = "Hello", **changes: Any) -> Ask:
    given: dict[str, Any] = {"messages": [{"role": "user", "content": text}], "seed": 7, "max_tokens": 16, **changes}
    return Ask(**given)


@pytest.fixture
def speaker(demo_llm: Any) -> LocalSpeaker:
    return LocalSpeaker(demo_llm)


def test_every_action_is_valid_at_every_alpha(demo_llm: Any) -> None:
    arms = [arm(demo_llm, name, factor) for name in demo_llm.config.profiles for factor in (2.0, -5.0, 10.0)]
    played = play_all(demo_llm, units(demo_llm, arms, 2, max_tokens=32))
    assert [outcome.status for outcome, _ in played] == ["complete"] * len(played)
    turns = [turn for _, turns in played for turn in turns]
    assert {turn.finish_reason for turn in turns} == {"stop", "length"}, "some are to be cut"
    for turn in turns:
        assert turn.cut == (turn.finish_reason == "length") and turn.action_type in Protocol().actions
        if not turn.cut:
            assert list(json.loads(turn.text)) == ["action_type", "argument"]


def test_alpha_0_equals_the_unsteered_arm(demo_llm: Any) -> None:
    arms = [UNSTEERED, *(arm(demo_llm, name, 0.0) for name in demo_llm.config.profiles), arm(demo_llm, "french", 1.0)]
    played = texts(play_all(demo_llm, units(demo_llm, arms, 2)))
    unsteered, *zeros, french = (played[i : i + 2] for i in range(0, len(played), 2))
    assert zeros == [unsteered] * 3 and french != unsteered


def test_an_episode_is_the_same_alone_and_among_others(demo_llm: Any) -> None:
    todo = units(demo_llm, [UNSTEERED, arm(demo_llm, "hostile", 1.0), arm(demo_llm, "warm", 1.0)], 4, max_turns=3)
    among = play_all(demo_llm, todo)
    demo_llm.llm.reset_prefix_cache()
    backwards = play_all(demo_llm, todo[::-1], in_flight=5)[::-1]
    assert texts(backwards) == texts(among)
    assert texts(play_all(demo_llm, todo[::6], in_flight=1)) == texts(among)[::6]


def test_each_steered_turn_has_its_receipt(demo_llm: Any) -> None:
    played = play_all(demo_llm, units(demo_llm, [arm(demo_llm, "warm", 1.0)], 3))
    for turn in (turn for _, turns in played for turn in turns):
        assert (turn.receipt is not None) == (turn.seat == 0)
        if turn.receipt is not None:
            in_scope = turn.prompt_tokens + turn.completion_tokens - 1 - 1  # the profile skips the first token
            assert (
                turn.receipt["tokens_steered"] + turn.receipt["tokens_cached"]
                == turn.receipt["tokens_in_scope"]
                == in_scope
            )


def test_it_answers_as_the_offline_engine_does(demo_llm: Any, speaker: LocalSpeaker) -> None:
    asks = [ask_of(f"Hello {name}.", seed=i) for i, name in enumerate(NAMES)]
    replies = together(*(speaker.ask(ask) for ask in asks))
    params = [SamplingParams(temperature=0.7, seed=ask.seed, max_tokens=16) for ask in asks]
    outputs = demo_llm.chat([ask.messages for ask in asks], params, use_tqdm=False)
    for reply, output in zip(replies, outputs, strict=True):
        assert (reply.text, reply.prompt_tokens) == (output.outputs[0].text, len(output.prompt_token_ids))


def test_a_wrong_ask_fails_alone(speaker: LocalSpeaker) -> None:
    unknown = {"features": [{"id": 10**6, "value": 1.0}]}
    wrong = [ask_of("long " * 2000), ask_of(steering=unknown)]
    fine, long, steered, other = together(
        *(speaker.ask(ask) for ask in (ask_of(), *wrong, ask_of("Bye", schema=action_schema(Protocol(), 0))))
    )
    assert isinstance(fine, Reply) and isinstance(other, Reply)
    assert isinstance(steered, SpecError) and "features[0].id" in str(steered)
    assert isinstance(long, AskError) and long.cause == "refused" and "1024" in long.message


def test_who_is_cancelled_leaves_the_engine(demo_llm: Any, speaker: LocalSpeaker) -> None:
    steering = scaled(demo_llm.config.profiles["warm"], 1.0)
    long = ask_of(max_tokens=900, schema={"type": "string", "minLength": 800}, steering=steering)

    async def impatient() -> Reply:
        first = asyncio.create_task(speaker.ask(long))
        reply = await speaker.ask(ask_of())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return reply

    assert asyncio.run(impatient()).text
    assert not demo_llm.stepping.waiting and demo_llm.llm.llm_engine.get_num_unfinished_requests() == 0
    assert together(speaker.ask(ask_of(steering=steering)))[0].receipt is not None


def test_an_engine_that_fails_fails_everybody_who_waits(demo_llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("out of memory")

    speaker, engine = LocalSpeaker(demo_llm), demo_llm.llm.llm_engine
    with monkeypatch.context() as patched:
        patched.setitem(demo_llm.__dict__, "stepping", Stepping(demo_llm))  # this one ends with the failure
        patched.setattr(engine, "step", broken)
        failed = together(speaker.ask(ask_of()), speaker.ask(ask_of("Bye")))
        late = together(speaker.ask(ask_of()))
    engine.abort_request(["stepping-0", "stepping-1"])
    assert engine.get_num_unfinished_requests() == 0
    for error in failed + late:
        assert isinstance(error, StoppedError) and "out of memory" in str(error)
