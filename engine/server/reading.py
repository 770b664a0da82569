"""The features that are active on a text, read by a request like any other."""

import asyncio
import uuid
from collections import defaultdict
from typing import Any

from tiller.engine.errors import SpecError
from tiller.engine.sae.dictionary import num_readable
from tiller.engine.spec import SPEC_KEY, SteeringSpec, parse_spec

from .generation import DELIVERY_KEY, MAX_READ_VALUES, Delivery
from .server import Server

Active = list[tuple[int, float]]  # feature ids and activations


async def read_text(server: Server, text: str, sae: str, top: int, skip_first: int) -> dict[str, Any]:
    """The features that are most active on `text`: over all of it, and at each token.

    Raises SpecError for an unknown SAE, or a text too long to be read.
    """
    num = await asyncio.to_thread(num_readable, server.plan, sae)  # reads the SAE's files
    ids = _tokens(server, text, num)
    spec = {"where": "prompt", "skip_first": skip_first, "read": {"top": num, "reduce": "none", "sae": sae}}
    read = await _run(server, ids, parse_spec(spec))
    tokens = [
        {"position": position, "id": ids[position], "token": server.decode(ids[position]), "top": active[:top]}
        for position, active in zip(read["positions"], read["top"], strict=True)
    ]
    found = most_active(read["positions"], read["top"], top)
    data = [{**server.features.known(sae, feature), **rest} for feature, rest in found]
    return {"object": "steering.features", "sae": sae, "data": data, "tokens": tokens}


def _tokens(server: Server, text: str, num: int) -> list[int]:
    ids: list[int] = server.engine.get_tokenizer()(text)["input_ids"]
    longest = min(server.max_model_len - 1, MAX_READ_VALUES // (2 * num))
    if not 0 < len(ids) <= longest:
        raise SpecError(f"{len(ids)} tokens given, 1 to {longest} are allowed", "text")
    return ids


async def _run(server: Server, ids: list[int], spec: SteeringSpec) -> dict[str, Any]:
    from vllm import SamplingParams

    delivery, name = Delivery(), uuid.uuid4().hex
    server.deliveries[name] = delivery
    extra = {SPEC_KEY: spec.model_dump_json(exclude_defaults=True), DELIVERY_KEY: name}
    params = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, extra_args=extra)
    async for _ in server.engine.generate({"prompt_token_ids": ids}, params, f"tiller-read-{name}"):
        pass
    receipt = delivery.receipt(0)
    assert receipt is not None and receipt.read is not None
    return receipt.read


def most_active(positions: list[int], per_token: list[Active], num: int) -> list[tuple[int, dict[str, Any]]]:
    """The `num` features with the largest sum over all tokens: id, and its sum, maximum, where that is, and at how many
    tokens it is active."""
    seen: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for position, active in zip(positions, per_token, strict=True):
        for feature, value in active:
            seen[feature].append((value, position))
    found = []
    for feature, values in seen.items():
        peak, at = max(values, key=lambda pair: pair[0])
        total = sum(value for value, _ in values)
        found.append((feature, {"sum": total, "max": peak, "at": at, "num_active": len(values)}))
    return sorted(found, key=lambda pair: (-pair[1]["sum"], pair[0]))[:num]
