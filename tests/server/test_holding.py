"""A request holds its vectors from the moment it is accepted, with the server's parts on a real engine in this process."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
from safetensors.torch import save

from tiller.engine import load_config
from tiller.engine.engine_args import engine_defaults
from tiller.engine.server.generation import DELIVERY_KEY, Delivery

VECTOR = save({"v": torch.randn(128, generator=torch.Generator().manual_seed(1))}, metadata={"layer": "15"})
SPEC = {"vectors": [{"name": "side", "alpha": 30.0}]}


@asynccontextmanager
async def serving_engine() -> AsyncIterator[Any]:
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.plugins import load_general_plugins
    from vllm.v1.engine.async_llm import AsyncLLM

    load_general_plugins()
    arguments = engine_defaults(load_config("demo"))
    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments, additional_config={"tiller": {"config": "demo"}}))
    try:
        await engine.tiller.start(["demo"])
        yield engine
    finally:
        engine.shutdown()


def accepted(engine: Any, number: int) -> tuple[Any, Delivery]:
    """The outputs of a request that has been accepted, not iterated yet."""
    from vllm import SamplingParams

    delivery = Delivery()
    engine.tiller.deliveries[f"d{number}"] = delivery
    extra = {"steering": SPEC, DELIVERY_KEY: f"d{number}"}
    params = SamplingParams(max_tokens=8, temperature=0.0, ignore_eos=True, extra_args=extra)
    return engine.generate({"prompt_token_ids": [5, 6, 7, 8]}, params, f"r{number}"), delivery


async def answer(outputs: Any) -> list[int]:
    async for output in outputs:
        tokens = list(output.outputs[0].token_ids)
    return tokens


async def held(engine: Any) -> int:
    """Requests that hold a vector, once what was let go has been counted."""
    gc.collect()
    await asyncio.sleep(0.05)
    return sum(engine.tiller.vectors._held.values())


async def check() -> None:
    async with serving_engine() as engine:
        vectors = engine.tiller.vectors
        await vectors.register("side", None, VECTOR)
        outputs, _ = accepted(engine, 0)
        expected = await answer(outputs)
        del outputs
        assert await held(engine) == 0

        waiting, delivery = accepted(engine, 1)
        assert await held(engine) == 1
        await vectors.delete("side")
        assert await answer(waiting) == expected
        receipt = delivery.receipt(0)
        assert receipt is not None and receipt.tokens_steered + receipt.tokens_cached == receipt.tokens_in_scope == 11
        del waiting
        assert await held(engine) == 0 and not vectors._leaving

        await vectors.register("side", None, VECTOR)
        never, _ = accepted(engine, 2)
        closed, _ = accepted(engine, 3)
        await closed.aclose()
        assert await held(engine) == 1
        del never
        assert await held(engine) == 0


def test_vectors_are_held_from_acceptance_to_the_end_or_to_nothing() -> None:
    asyncio.run(check())
