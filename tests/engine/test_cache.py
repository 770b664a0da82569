"""A KV block is reused exactly where steering agrees, never where it doesn't."""

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from . import tiny
from .oracle import check_output
from .test_scheduler import greedy

pytestmark = pytest.mark.runner

BLOCK = tiny.ENGINE["block_size"]
ALL = {"features": [{"id": 5, "op": "set", "value": 12.0}]}
STRONGER = {"features": [{"id": 5, "op": "set", "value": 20.0}]}
GENERATED = {**ALL, "where": "generated"}
FROM_FORTY = {**ALL, "where": {"start": 40}}


@pytest.mark.parametrize(
    ("first", "second", "num_shared_blocks"),
    [
        (ALL, None, 0),
        (None, ALL, 0),
        (ALL, STRONGER, 0),
        (ALL, ALL, 3),
        (None, GENERATED, 3),
        (GENERATED, None, 3),
        (GENERATED, {**STRONGER, "where": "generated"}, 3),
        (None, FROM_FORTY, 1),
        (FROM_FORTY, ALL, 0),
        (ALL, {**ALL, "skip_first": 1}, 0),
    ],
)
def test_what_the_second_request_finds(
    engines: Callable[..., Any],
    oracles: Callable[..., Any],
    request: pytest.FixtureRequest,
    first: dict[str, Any] | None,
    second: dict[str, Any] | None,
    num_shared_blocks: int,
) -> None:
    llm = engines()
    prompt = tiny.prompt(zlib.crc32(request.node.name.encode()), 3 * BLOCK + 5)
    cold = llm.generate([prompt], greedy(8), steering=first, use_tqdm=False)[0]
    warm = llm.generate([prompt], greedy(8), steering=second, use_tqdm=False)[0]
    assert cold.num_cached_tokens == 0
    assert warm.num_cached_tokens == num_shared_blocks * BLOCK
    check_output(cold, oracles(), first)
    check_output(warm, oracles(), second)


def test_second_turn_reuses_the_steered_first(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    llm = engines()
    first = llm.generate([tiny.prompt(801, 50)], greedy(40), steering=ALL, use_tqdm=False)[0]
    history = [*first.prompt_token_ids, *first.outputs[0].token_ids]
    prompt = {"prompt_token_ids": [*history, *tiny.prompt(802, 20)["prompt_token_ids"]]}
    second = llm.generate([prompt], greedy(8), steering=ALL, use_tqdm=False)[0]
    # The last token of the first answer was sampled, never fed, so it has no KV yet.
    assert second.num_cached_tokens == (len(history) - 1) // BLOCK * BLOCK
    assert second.steering.tokens_cached == second.num_cached_tokens
    check_output(second, oracles(), ALL)
    unsteered = llm.generate([prompt], greedy(8), use_tqdm=False)[0]
    assert unsteered.num_cached_tokens == 0
    check_output(unsteered, oracles(), None)


def test_reading_passes_every_token(engines: Callable[..., Any]) -> None:
    """A cached token passes no site and would have no activation, so a request that reads computes its prompt again."""
    llm = engines()
    prompt = tiny.prompt(803, 3 * BLOCK + 5)
    llm.generate([prompt], greedy(1), use_tqdm=False)
    read = llm.generate([prompt], greedy(1), steering={"read": {"top": 3, "reduce": "none"}}, use_tqdm=False)[0]
    assert read.steering.read["positions"] == list(range(3 * BLOCK + 5))
