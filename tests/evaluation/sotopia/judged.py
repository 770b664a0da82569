"""Hand-made episodes, a run of them, and a judging model on loopback whose answers a test decides."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from tiller.evaluation.sotopia.ask import Speaker
from tiller.evaluation.sotopia.endpoint import EndpointSpeaker
from tiller.evaluation.sotopia.episode_record import EpisodeRecord, Outcome, TurnRecord
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.judges.dimensions import DIMENSIONS
from tiller.evaluation.sotopia.profiles import Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.sotopia.settings import EndpointConfig
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit, digest

Act = str | tuple[str, str]
Answer = str | tuple[str, str] | int  # text, (text, finish_reason), or the HTTP status of an error


def make_record(
    scene: Scene | None, *acts: Act, seed: int = 0, cause: str = "max_turns", arm: Arm = UNSTEERED, first: int = 0,
    template: str = "sotopia",
) -> EpisodeRecord:  # fmt: skip
    """Turns by turns of both seats, `first` first; an act is what was said, or (action type, argument)."""
    prompt = None if scene is not None else [{"role": "user", "content": "Tell me about Rome."}]
    unit = Unit(scene=scene, prompt=prompt, protocol=Protocol(template=template), seed=seed, arm=arm)
    turns = [_turn(scene, (first + i) % 2 if scene is not None else 0, i, act) for i, act in enumerate(acts)]
    status = "complete" if cause in ("max_turns", "left", "stale", "answered") else "failed"
    return EpisodeRecord(unit=unit, turns=turns, outcome=Outcome(status=status, cause=cause))


def _turn(scene: Scene | None, seat: int, index: int, act: Act) -> TurnRecord:
    kind, argument = ("speak", act) if isinstance(act, str) else act
    text = json.dumps({"action_type": kind, "argument": argument}) if scene is not None else argument
    name = scene.names[seat] if scene is not None else ""
    return TurnRecord(index=index, seat=seat, name=name, action_type=kind, argument=argument, text=text)


def swapped(scene: Scene) -> Scene:
    """The same two with exchanged seats."""
    environment = scene.environment.model_copy(update={"agent_goals": scene.environment.agent_goals[::-1]})
    return Scene(environment=environment, agents=scene.agents[::-1])


async def write_run(out: Path, records: Sequence[EpisodeRecord]) -> None:
    """A run's journal that holds `records`."""
    with Journal(out) as journal:
        journal.start({"command": "test"}, [record.unit for record in records])
        for record in records:
            for turn in record.turns:
                await journal.keep(record.unit.unit_id, turn)
            await journal.finish(record.unit.unit_id, record.outcome)


def values(scores: Sequence[Score]) -> dict[tuple[int | None, str], float | str]:
    """The value of each seat and metric, or the cause where it is missing."""
    return {(s.seat, s.metric): s.cause if s.value is None else s.value for s in scores}


def sotopia_answer(body: dict[str, Any]) -> dict[str, Any]:
    """An answer to the sotopia judge that depends on name and dimension alone."""
    names = body["response_format"]["json_schema"]["schema"]["properties"]
    return {name: {d: {"reasoning": f"{name}: {d}", "score": expected(name, d)} for d in DIMENSIONS} for name in names}


def expected(name: str, dimension: str) -> int:
    low, high, _ = DIMENSIONS[dimension]
    return low + int(digest([name, dimension])[:6], 16) % (high - low + 1)


class JudgingModel:
    """What judges ask: `answer` decides by the request's body; `asked` keeps the bodies."""

    def __init__(self, port: int) -> None:
        self.config = EndpointConfig(url=f"http://127.0.0.1:{port}/v1", model="judge", max_attempts=1)
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda body: json.dumps(sotopia_answer(body))
        self.delay = 0.0

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        await asyncio.sleep(self.delay)
        given = self.answer(body)
        if isinstance(given, int):
            return web.json_response({"error": {"message": "no"}}, status=given)
        text, finish_reason = given if isinstance(given, tuple) else (given, "stop")
        message = {"role": "assistant", "content": text}
        return web.json_response({"choices": [{"message": message, "finish_reason": finish_reason}]})

    @property
    def questions(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.asked]

    def run(self, judging: Callable[[Callable[[], Speaker]], Any]) -> Any:
        """The result of the coroutine that `judging` makes with a speaker, which lives as long as its event loop."""

        async def judged() -> Any:
            speaker = EndpointSpeaker(self.config, "judge")
            try:
                return await judging(lambda: speaker)
            finally:
                await speaker.close()

        return asyncio.run(judged())


@contextmanager
def judging_model() -> Iterator[JudgingModel]:
    """Served by a thread of this process, so that what it was asked can be looked at."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[web.AppRunner, JudgingModel]:
        app = web.Application()
        runner = web.AppRunner(app)
        model: JudgingModel

        async def handle(request: web.Request) -> web.Response:
            return await model.handle(request)

        app.router.add_post("/v1/chat/completions", handle)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        model = JudgingModel(runner.addresses[0][1])
        return runner, model

    runner, model = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield model
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
