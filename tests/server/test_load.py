"""Many at once, many in a row, and clients that walk away."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai

from .asking import FRENCH, chat, text
from .process import ServerProcess

CONCURRENT, SPECS = 500, 100
IN_A_ROW = int(os.environ.get("TILLER_TEST_REQUESTS", "2000"))  # for the memory test; 5000 take about 90 s on two cores
ALLOWED_GROWTH = 16 << 20  # bytes over the second half; it was 4 MiB, and nothing past the 3000th request
PATIENCE = 20.0  # seconds in which the engine learns that a client is gone


def spec(index: int) -> dict[str, Any]:
    """One of SPECS different ones: additions, clamps, reconstructions and generated-only edits."""
    feature = {"id": (37 * index) % 1024, "value": 5.0 + index % 30}
    match index % 4:
        case 0:
            return {"features": [feature]}
        case 1:
            return {"features": [{**feature, "op": "set"}]}
        case 2:
            return {"features": [feature, {"id": (13 * index + 5) % 1024, "op": "ablate"}], "error_term": False}
        case _:
            return {"features": [feature], "where": "generated", "norm": "preserve"}


async def ask(client: httpx.AsyncClient, index: int, max_tokens: int = 12) -> tuple[str, int]:
    body = {
        "model": "demo",
        "messages": [{"role": "user", "content": f"Tell me about day {index % 7} of the trip."}],
        "temperature": 0,
        "max_tokens": max_tokens,
        "steering": spec(index),
    }
    answer = await client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    whole = answer.json()
    receipt = whole["steering"]
    assert receipt["tokens_steered"] + receipt["tokens_cached"] == receipt["tokens_in_scope"]
    return whole["choices"][0]["message"]["content"], receipt["tokens_in_scope"]


def with_client(demo: ServerProcess, work: Callable[[httpx.AsyncClient], Any]) -> Any:
    async def run() -> Any:
        limits = httpx.Limits(max_connections=CONCURRENT)
        async with httpx.AsyncClient(base_url=demo.url, timeout=300, limits=limits) as client:
            return await work(client)

    return asyncio.run(run())


def gauges(http: httpx.Client) -> dict[str, float]:
    lines = [line.split() for line in http.get("/metrics").text.splitlines() if line.startswith("tiller_")]
    return {name: float(value) for name, value in lines}


def wait_idle(http: httpx.Client) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = gauges(http)
        if now["tiller_rows_in_use"] == now["tiller_unclaimed_records"] == 0:
            return
        time.sleep(0.1)
    raise AssertionError(now)


def test_each_of_many_is_answered_as_if_alone(demo: ServerProcess, http: httpx.Client) -> None:
    before = gauges(http)

    async def work(client: httpx.AsyncClient) -> tuple[list[Any], list[Any]]:
        alone = [await ask(client, index) for index in range(SPECS)]
        return alone, await asyncio.gather(*[ask(client, index % SPECS) for index in range(CONCURRENT)])

    alone, together = with_client(demo, work)
    assert [index for index, answer in enumerate(together) if answer != alone[index % SPECS]] == []
    assert len({answer for answer, _ in alone}) > SPECS // 4
    after = gauges(http)
    assert after["tiller_rows_in_use"] == after["tiller_unclaimed_records"] == 0
    name = 'tiller_steered_requests_total{profile=""}'
    assert after[name] - before.get(name, 0) == SPECS + CONCURRENT
    counted = sum(
        after[f"tiller_{kind}_tokens_total"] - before[f"tiller_{kind}_tokens_total"] for kind in ("steered", "cached")
    )
    assert counted == sum(scope for _, scope in alone + together)


def test_memory_stays_flat(demo: ServerProcess, http: httpx.Client) -> None:
    sizes = []

    async def work(client: httpx.AsyncClient) -> None:
        for start in range(0, IN_A_ROW, 50):
            await asyncio.gather(*[ask(client, index, max_tokens=1) for index in range(start, start + 50)])
            sizes.append(demo.resident_bytes())

    with_client(demo, work)
    assert sizes[-1] - sizes[len(sizes) // 2] < ALLOWED_GROWTH, [size >> 20 for size in sizes]
    wait_idle(http)


def test_a_client_that_leaves_frees_its_row(demo: ServerProcess, client: openai.OpenAI, http: httpx.Client) -> None:
    asked: dict[str, Any] = {"max_tokens": 900, "extra_body": {"steering": FRENCH, "ignore_eos": True}}
    for _ in range(3):
        stream = chat(client, stream=True, **asked)
        next(stream)
        next(stream)
        assert gauges(http)["tiller_rows_in_use"] == 1
        stream.close()
    body = {"model": "demo", "prompt": "Hello", "max_tokens": 900, "n": 4, "steering": FRENCH, "ignore_eos": True}
    try:
        httpx.post(f"{demo.url}/v1/completions", json=body, timeout=0.5)
    except httpx.ReadTimeout:
        pass
    wait_idle(http)
    assert text(chat(client, FRENCH)) == text(chat(client, model="demo:french"))
