"""Every steered request of a server passes here on its way to the engine, whichever route it came by."""

import asyncio
import copy
import uuid
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from tiller.engine import compat
from tiller.engine.admission import check_params
from tiller.engine.errors import SpecError
from tiller.engine.receipt import Receipt, align_read
from tiller.engine.spec import ID_KEY, ONLY_COMPLETION, SPEC_KEY, SteeringSpec, parse_spec

from . import metrics
from .server import Server
from .vectors import Vectors

DELIVERY_KEY = "steering_delivery"  # in extra_args, on the way from a handler to here only
MAX_READ_VALUES = 262_144
UNFINISHED = ("abort", "error")  # finish reasons of completions that have no receipt


@dataclass
class Ticket:
    """One steered request in the engine."""

    name: str
    spec: SteeringSpec
    params: Any
    prompt_len: int
    profile: str | None = None
    tokens: dict[int, list[int]] = field(default_factory=dict)  # generated, by index of the completion
    receipts: dict[int, Receipt] = field(default_factory=dict)


@dataclass(eq=False)
class Delivery:
    """What a handler waits for: the tickets of one HTTP request, in the order of its prompts."""

    profile: str | None = None
    tickets: list[Ticket] = field(default_factory=list)

    def receipt(self, choice: int) -> Receipt | None:
        """The receipt of a choice of the answer; None where it was aborted, or its spec does nothing."""
        if not self.tickets:
            return None
        per_prompt = self.tickets[0].params.n
        return self.tickets[choice // per_prompt].receipts.get(choice % per_prompt)


def generate(
    original: Callable[..., Any], engine: Any, prompt: Any, params: Any, request_id: str, **kwargs: Any
) -> Any:
    """In the place of vLLM's `engine.generate`, with the same arguments and outputs.

    Raises TillerError at once where the request can't be done, before a stream has begun.
    """
    server: Server | None = engine.tiller
    if server is None:
        return original(engine, prompt, params, request_id, **kwargs)
    if not getattr(params, "extra_args", None):
        check_params(engine.vllm_config, params)
        return original(engine, prompt, params, request_id, **kwargs)
    delivery = server.deliveries.get(str(params.extra_args.get(DELIVERY_KEY)))
    params = copy.copy(params)
    params.extra_args = {key: value for key, value in params.extra_args.items() if key not in (DELIVERY_KEY, ID_KEY)}
    check_params(engine.vllm_config, params)
    spec = parse_spec(params.extra_args.get(SPEC_KEY) or {})
    if spec.idle:
        return original(engine, prompt, params, request_id, **kwargs)
    ticket = Ticket(uuid.uuid4().hex, spec, params, compat.prompt_length(prompt) or 0)
    params.extra_args[ID_KEY] = ticket.name
    check_read_size(ticket, server.max_model_len)
    if delivery is not None:
        ticket.profile = delivery.profile
        delivery.tickets.append(ticket)
    return HoldingOutputs(server, ticket, original(engine, prompt, params, request_id, **kwargs))


class HoldingOutputs(AsyncGenerator[Any, None]):
    """The outputs of a steered request; holds its vectors from the moment it is accepted until it has ended.

    A generator alone would hold nothing before its first iteration, and forever if it is dropped without one.
    """

    def __init__(self, server: Server, ticket: Ticket, outputs: AsyncGenerator[Any, None]) -> None:
        self._outputs = steered(server, ticket, outputs)
        server.vectors.hold(ticket.spec)
        self._let_go = weakref.finalize(self, _let_go, asyncio.get_running_loop(), server.vectors, ticket.spec)
        self._let_go.atexit = False

    async def asend(self, value: Any) -> Any:
        try:
            return await self._outputs.asend(value)
        except BaseException:  # StopAsyncIteration among them: the request has ended
            self._let_go()
            raise

    async def athrow(self, *error: Any) -> Any:
        try:
            return await self._outputs.athrow(*error)
        except BaseException:
            self._let_go()
            raise

    async def aclose(self) -> None:
        await self._outputs.aclose()
        self._let_go()


def _let_go(loop: asyncio.AbstractEventLoop, vectors: Vectors, spec: SteeringSpec) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(vectors.let_go, spec)  # the garbage collector may run in any thread


async def steered(server: Server, ticket: Ticket, outputs: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """`outputs`, each finished completion held back until its receipt is there.

    Raises UnsteeredError in the place of an answer that was not steered as asked.
    """
    try:
        async with aclosing(outputs):
            async for output in outputs:
                await _settle(server, ticket, output)
                yield output
    finally:
        if len(ticket.receipts) < ticket.params.n:
            server.claims.drop(ticket.name)


async def _settle(server: Server, ticket: Ticket, output: Any) -> None:
    is_delta = compat.is_delta(ticket.params)
    prompt_ids = output.prompt_token_ids or []
    finished = []
    for completion in output.outputs:
        seen = ticket.tokens.setdefault(completion.index, [])
        seen[len(seen) if is_delta else 0 :] = completion.token_ids
        if completion.finish_reason is None or completion.index in ticket.receipts:
            continue
        if completion.finish_reason not in UNFINISHED:
            finished.append(_claim(server, ticket, completion.index, prompt_ids))
    await asyncio.gather(*finished)


async def _claim(server: Server, ticket: Ticket, index: int, prompt_ids: list[int]) -> None:
    tokens = ticket.tokens[index]
    num_fed = (len(prompt_ids) or ticket.prompt_len) + len(tokens) - 1
    asked = ONLY_COMPLETION if ticket.params.n == 1 else index
    receipt = await server.claims.claim(ticket.name, asked, num_fed)
    if ticket.spec.read is not None and ticket.spec.read.reduce == "none":
        receipt = align_read(receipt, prompt_ids, tokens, server.decode)
    ticket.receipts[index] = receipt
    metrics.count(receipt, ticket.spec, server.plan, ticket.profile)


def check_read_size(ticket: Ticket, max_model_len: int) -> None:
    """Raises SpecError where the activations asked for one by one might be more than an answer should hold."""
    read, params = ticket.spec.read, ticket.params
    if read is None or read.reduce != "none":
        return
    longest = min(ticket.prompt_len + (params.max_tokens or max_model_len), max_model_len)
    tokens = ticket.spec.scope(ticket.prompt_len).count(longest)
    values = tokens * (len(read.features) + 2 * read.top) * params.n
    if values > MAX_READ_VALUES:
        raise SpecError(
            f"reduce 'none' over up to {tokens} tokens would be {values} numbers, at most {MAX_READ_VALUES} are allowed; "
            "read fewer features, narrow `where` or lower max_tokens",
            "steering.read",
        )
