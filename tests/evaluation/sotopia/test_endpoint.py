"""EndpointSpeaker against an endpoint that fails in every way a network has."""

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tiller.evaluation.sotopia.ask import AskError, EndpointError, Reply
from tiller.evaluation.sotopia.breaker import THRESHOLD, Breaker
from tiller.evaluation.sotopia.endpoint import EndpointSpeaker
from tiller.evaluation.sotopia.endpoint_answer import json_object, reply_of, retry_after
from tiller.evaluation.sotopia.settings import EndpointConfig

from .stub import FAULTS
from .stub_process import Stub, ask_all, asks, causes, start, stubbed, within_a_minute

EDIT = {"features": [{"id": 3, "value": 2.0}]}


@pytest.fixture(scope="module")
def shared() -> Iterator[Stub]:
    with stubbed() as stub:
        yield stub


@pytest.fixture
def stub(shared: Stub) -> Iterator[Stub]:
    """One without faults; each test leaves it so."""
    yield shared
    shared.change(fault_rate=0.0, faults=list(FAULTS), delay=0.0, retry_after="1", receipts=True, key="")


def run(config: EndpointConfig, num: int = 1, **fields: Any) -> list[Reply | BaseException]:
    return within_a_minute(ask_all(EndpointSpeaker(config, "stub"), asks(num, **fields)))


def test_faults_change_no_answer(stub: Stub) -> None:
    calm = run(stub.endpoint(), 300)
    assert all(isinstance(reply, Reply) for reply in calm)
    before = stub.counts()
    stub.change(fault_rate=0.1)
    assert run(stub.endpoint(timeout=5, max_attempts=9), 300) == calm
    happened = {kind: stub.counts().get(kind, 0) - before.get(kind, 0) for kind in FAULTS}
    assert all(happened.values()), happened


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("500", "server_error"),
        ("429", "rate_limited"),
        ("hang", "timeout"),
        ("truncated", "bad_reply"),
        ("cut_off", "connection"),
        ("reset", "connection"),
    ],
)
def test_what_keeps_failing_says_how_after_all_attempts(stub: Stub, fault: str, cause: str) -> None:
    stub.change(fault_rate=1.0, faults=[fault], retry_after="")
    before = stub.counts()
    assert causes(run(stub.endpoint(max_attempts=2, timeout=0.3), 2)) == {cause}
    assert stub.counts()["asks"] - before["asks"] == 2 * 2


def test_what_an_ask_is_made_of(stub: Stub) -> None:
    extra = {"top_k": 5, "temperature": None}
    (reply,) = run(stub.endpoint(extra_body=extra), seed=7, steering=EDIT, schema={"type": "string"}, max_tokens=9)
    assert isinstance(reply, Reply) and reply.receipt is not None and json.loads(reply.text)
    body = stub.seen()["last"]["body"]
    assert body["seed"] == 7 and body["steering"] == EDIT and body["max_tokens"] == 9 and body["top_k"] == 5
    assert "temperature" not in body
    assert body["response_format"]["json_schema"]["schema"] == {"type": "string"}
    run(stub.endpoint(structured=False), schema={"type": "string"}, seed=None)
    assert not {"response_format", "seed", "steering"} & stub.seen()["last"]["body"].keys()


def test_fields_of_the_ask_are_not_overridden() -> None:
    with pytest.raises(ValueError, match="messages, steering can't be set here"):
        EndpointConfig(url="http://127.0.0.1:1/v1", model="m", extra_body={"steering": {}, "messages": []})


def test_an_endpoint_that_ignores_steering_is_found_out(stub: Stub) -> None:
    stub.change(receipts=False)
    steered, plain = run(stub.endpoint(), steering=EDIT), run(stub.endpoint())
    assert causes(steered) == {"refused"} and "has no receipt" in str(steered[0])
    assert isinstance(plain[0], Reply)


def test_refusals_are_final_and_name_the_field(stub: Stub) -> None:
    before = stub.counts()
    (error,) = run(stub.endpoint(), steering="bad")
    assert isinstance(error, AskError) and error.cause == "refused"
    assert error.message == "stub: HTTP 400: steering: it must be an object"
    assert stub.counts()["asks"] - before["asks"] == 1


def test_what_every_ask_would_meet_ends_the_run(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = run(stub.endpoint(model="nobody", max_in_flight=2), 20)
    assert all(isinstance(error, EndpointError) and "`nobody` does not exist" in str(error) for error in errors)
    stub.change(key="correct")
    monkeypatch.setenv("SOME_KEY", "wrong-horse")
    (error,) = run(stub.endpoint(key_env="SOME_KEY"))
    assert isinstance(error, EndpointError) and "$SOME_KEY" in str(error)
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(EndpointError, match="SOME_KEY"):
        EndpointSpeaker(stub.endpoint(key_env="SOME_KEY"), "stub")


def test_the_key_is_sent_and_never_told(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stub.change(key="correct-horse", fault_rate=0.3, faults=["500", "429", "truncated"], retry_after="")
    monkeypatch.setenv("SOME_KEY", "correct-horse")
    config = stub.endpoint(key_env="SOME_KEY", max_attempts=1)
    with caplog.at_level(logging.DEBUG):
        replies = run(config, 20)
    assert any(isinstance(reply, Reply) for reply in replies)
    assert any(isinstance(reply, AskError) for reply in replies)
    assert "correct-horse" not in caplog.text + repr(replies) + repr(config) + repr(vars(config))


def test_no_proxy_on_the_loopback_interface(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert isinstance(run(stub.endpoint())[0], Reply)
    far = EndpointSpeaker(EndpointConfig(url="http://endpoint.example/v1", model="m"), "far")
    assert far._proxy == "http://127.0.0.1:9"


def test_no_more_at_once_than_allowed() -> None:
    with stubbed("--delay", "0.02") as stub:
        assert all(isinstance(reply, Reply) for reply in run(stub.endpoint(max_in_flight=7), 70))
        assert stub.seen()["most_in_flight"] == 7


def test_no_more_a_minute_than_allowed(stub: Stub) -> None:
    begin = time.monotonic()
    run(stub.endpoint(requests_per_minute=1200), 21)
    assert time.monotonic() - begin >= 20 * 60 / 1200 - 0.1  # what it may catch up


@pytest.mark.parametrize("retry_after", ["1", "date"])
def test_retry_after_holds_everybody_back_and_uses_up_no_attempt(stub: Stub, retry_after: str) -> None:
    stub.change(fault_rate=1.0, faults=["429"], retry_after=retry_after)

    async def scenario() -> list[Reply | BaseException]:
        speaker = EndpointSpeaker(stub.endpoint(max_attempts=1, max_in_flight=4), "stub")
        first = asyncio.create_task(ask_all(speaker, asks(12), close=False))
        while not speaker.notice:
            await asyncio.sleep(0.001)
        assert "endpoint stub asks to wait" in speaker.notice and not speaker.ready
        await asyncio.to_thread(stub.change, fault_rate=0.0)
        replies = await first
        await speaker.close()
        return replies

    assert all(isinstance(reply, Reply) for reply in within_a_minute(scenario()))


def test_half_a_surrogate_pair_becomes_text_that_can_be_kept() -> None:
    """Servers that cut a character in two at max_tokens send such JSON; neither SQLite nor a file takes it."""
    body = rb'{"choices": [{"message": {"content": "so \ud83d\ude00 then \ud83d"}, "finish_reason": "length"}]}'
    assert reply_of(json_object(body), steered=False).text.encode().decode() == "so \U0001f600 then \ufffd"


def test_retry_after_is_a_number_or_a_date_by_the_servers_clock() -> None:
    date = {"Date": "Sat, 21 Nov 2020 10:00:00 GMT", "Retry-After": "Sat, 21 Nov 2020 10:00:07 GMT"}
    assert retry_after(date) == 7
    assert retry_after({"Retry-After": "2.5"}) == 2.5
    assert retry_after({"Retry-After": "Sat, 21 Nov 2020 10:00:07 GMT"}) == 0  # over
    assert retry_after({}) is retry_after({"Retry-After": "soon"}) is None


def test_a_wait_longer_than_our_patience_ends_the_run(stub: Stub) -> None:
    stub.change(fault_rate=1.0, faults=["429"], retry_after="3600")
    (error,) = run(stub.endpoint(give_up_after=600))
    assert isinstance(error, EndpointError) and "asks to wait 3600 s" in str(error)


def test_a_dead_endpoint_pauses_its_asks_until_it_is_back() -> None:
    with stubbed() as calm:
        expected = run(calm.endpoint(), 60)

    async def scenario() -> list[Reply | BaseException]:
        stub = start("--delay", "0.05")
        speaker = EndpointSpeaker(stub.endpoint(max_attempts=2, max_in_flight=8), "stub")
        answers = asyncio.create_task(ask_all(speaker, asks(60), close=False))
        while stub.counts().get("answers", 0) < 10:
            await asyncio.sleep(0.001)
        stub.kill()
        while speaker.breaker.state != "open" or speaker.breaker.wait_left < 1.5:  # a probe has failed as well
            await asyncio.sleep(0.01)
        assert speaker.notice.startswith("paused: endpoint stub, next try in ") and not answers.done()
        again = start(port=stub.port)
        replies = await answers
        assert speaker.breaker.state == "closed" and not speaker.notice
        await speaker.close()
        again.kill()
        return replies

    assert within_a_minute(scenario()) == expected


def test_what_is_down_for_too_long_ends_the_run_clearly() -> None:
    with stubbed() as stub:
        config = stub.endpoint(give_up_after=0.5)
    errors = run(config, 5)
    assert all(isinstance(error, EndpointError) for error in errors)
    assert "no answer for" in str(errors[0]) and "the same command goes on from here" in str(errors[0])


def test_a_cancelled_probe_leaves_its_turn_to_the_next_ask() -> None:
    async def scenario() -> None:
        breaker = Breaker("stub", give_up=60, first_wait=0.01)
        breaker.failed("connection refused", probe=False, unreachable=True)
        assert await breaker.enter() and breaker.state == "half-open"
        waiting = [asyncio.create_task(breaker.enter()) for _ in range(3)]
        breaker.abandoned()
        done, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [True]
        breaker.answered()
        assert await asyncio.gather(*others) == [False, False] and breaker.state == "closed"

    within_a_minute(scenario())


def test_only_failures_in_a_row_open_the_breaker() -> None:
    breaker = Breaker("stub", give_up=60)
    for _ in range(10):
        for _ in range(THRESHOLD - 1):
            breaker.failed("HTTP 500", probe=False, unreachable=False)
        assert breaker.state == "closed"
        breaker.answered()
    for _ in range(THRESHOLD):
        breaker.failed("HTTP 500", probe=False, unreachable=False)
    assert breaker.state == "open"
