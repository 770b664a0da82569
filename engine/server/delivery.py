"""Receipts into answers: `steering` in a body, and in a stream with the last chunk of each choice."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from tiller.engine import compat
from tiller.engine.errors import TillerError
from tiller.engine.receipt import Receipt

from .generation import Delivery
from .intake import take
from .problems import refusal
from .server import Server

LAST_CHUNK = '"finish_reason":"'  # unescaped only where a choice ends


async def answer(original: Any, handler: Any, request: Any, raw_request: Any) -> Any:
    """In the place of a handler's `create_...`: the same answer, with the receipts of what was steered."""
    server: Server | None = getattr(handler.engine_client, "tiller", None)
    try:
        delivery = await take(server, handler.models, request, raw_request)
        answered = await original(handler, request, raw_request)
    except TillerError as error:
        return refusal(error, raw_request.url.path if raw_request is not None else "batch")
    if delivery is None or compat.is_error(answered):
        return answered
    if hasattr(answered, "__aiter__"):
        return stream(answered, delivery)
    return complete(answered, delivery)


def complete(answered: Any, delivery: Delivery) -> Any:
    """A whole answer: `steering` is the first choice's receipt; of several choices each has its own as well."""
    answered.steering = plain(delivery.receipt(0))
    choices = getattr(answered, "choices", [])
    if len(choices) > 1:
        for choice in choices:
            choice.steering = plain(delivery.receipt(choice.index))
    return answered


async def stream(chunks: Any, delivery: Delivery) -> AsyncIterator[Any]:
    """The same chunks; that of completions are lines of text, that of responses are events."""
    async with aclosing(chunks):
        async for chunk in chunks:
            if isinstance(chunk, str):
                yield _with_receipt(chunk, delivery) if LAST_CHUNK in chunk else chunk
            else:
                whole = getattr(chunk, "response", None)
                if whole is not None and getattr(chunk, "type", "") in ("response.completed", "response.incomplete"):
                    whole.steering = plain(delivery.receipt(0))
                yield chunk


def _with_receipt(line: str, delivery: Delivery) -> str:
    body = json.loads(line.removeprefix("data: "))
    ended = [choice for choice in body.get("choices", []) if choice.get("finish_reason")]
    if not ended:
        return line
    for choice in ended:
        choice["steering"] = plain(delivery.receipt(choice["index"]))
    body["steering"] = ended[0]["steering"]
    if len(ended) == 1:
        del ended[0]["steering"]
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


def plain(receipt: Receipt | None) -> dict[str, Any] | None:
    return None if receipt is None else receipt.to_dict()
