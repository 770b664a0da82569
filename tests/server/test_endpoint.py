"""The endpoint speaker of an evaluation against this server."""

import asyncio
import json
import socket
from collections.abc import Sequence
from typing import Any

from tiller.evaluation.sotopia.ask import Ask, AskError, EndpointError, Reply, Speaker
from tiller.evaluation.sotopia.endpoint import EndpointSpeaker
from tiller.evaluation.sotopia.pool import endpoint_speaker
from tiller.evaluation.sotopia.settings import EndpointConfig

from .asking import FRENCH, QUESTION, check_sums
from .process import ServerProcess

ACTION = {
    "type": "object",
    "properties": {"action_type": {"enum": ["speak", "leave"]}, "argument": {"type": "string", "maxLength": 60}},
    "required": ["action_type", "argument"],
    "additionalProperties": False,
}


def ask(server: ServerProcess, *asks: Ask, model: str = "demo") -> list[Any]:
    speaker = EndpointSpeaker(EndpointConfig(url=f"{server.url}/v1", model=model), "demo")
    return asyncio.run(gathered(speaker, asks))


async def gathered(speaker: Speaker, asks: Sequence[Ask]) -> list[Any]:
    try:
        return await asyncio.gather(*map(speaker.ask, asks), return_exceptions=True)
    finally:
        await speaker.close()


def test_steered_answers_bring_a_receipt_and_actions_keep_to_their_schema(demo: ServerProcess) -> None:
    plain = Ask(messages=QUESTION, seed=5, max_tokens=24)
    steered = Ask(messages=QUESTION, seed=5, max_tokens=24, steering=FRENCH)
    action = Ask(messages=QUESTION, seed=5, max_tokens=96, steering=FRENCH, schema=ACTION)
    once, again = ask(demo, plain, steered, action), ask(demo, plain, steered, action)
    assert all(isinstance(reply, Reply) for reply in once), once
    assert [reply.text for reply in once] == [reply.text for reply in again]
    assert once[0].receipt is None and once[0].text != once[1].text
    check_sums(once[1].receipt)
    check_sums(once[2].receipt)
    assert once[0].prompt_tokens > 0 and once[0].completion_tokens > 0
    assert json.loads(once[2].text).keys() == {"action_type", "argument"}


def test_a_pool_goes_on_without_a_server_that_is_not_there(demo: ServerProcess) -> None:
    asks = [Ask(messages=QUESTION, seed=seed, max_tokens=12, session=str(seed)) for seed in range(8)]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # taken, and nobody listens
        urls = [f"http://127.0.0.1:{nobody.getsockname()[1]}/v1", f"{demo.url}/v1"]
        pool = endpoint_speaker({url: EndpointConfig(url=url, model="demo") for url in urls})
        assert asyncio.run(gathered(pool, asks)) == ask(demo, *asks)


def test_an_object_that_edits_nothing_is_no_missing_receipt(demo: ServerProcess) -> None:
    (reply,) = ask(demo, Ask(messages=QUESTION, max_tokens=4, steering={}))
    assert isinstance(reply, Reply) and reply.receipt is None


def test_what_the_server_refuses_is_refused_with_the_field(demo: ServerProcess) -> None:
    unknown = {"features": [{"id": 10**6, "value": 1.0}]}
    (error,) = ask(demo, Ask(messages=QUESTION, steering=unknown))
    assert isinstance(error, AskError) and error.cause == "refused"
    assert error.message.startswith("demo: HTTP 400: steering.features[0].id: ") and "1023" in error.message
    (error,) = ask(demo, Ask(messages=[{"role": "user", "content": "word " * 5000}]))
    assert isinstance(error, AskError) and error.cause == "refused"


def test_an_unknown_profile_ends_the_run(demo: ServerProcess) -> None:
    (error,) = ask(demo, Ask(messages=QUESTION), model="demo:nobody")
    assert isinstance(error, EndpointError) and "nobody" in str(error)
