"""Prefix-cache keys against brute force: two requests share a block iff they are steered alike up to its end."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiller.engine import spec
from tiller.engine.prefix_cache import steering_key
from tiller.engine.spec import MAX_CACHED_CHARS, parse_spec

BLOCK, NUM_BLOCKS = 4, 6
NUM_TOKENS = BLOCK * NUM_BLOCKS


def request(body, prompt_len, as_text=False):
    extra_args = None if body is None else {"steering": json.dumps(body) if as_text else body, "other": 1}
    return SimpleNamespace(sampling_params=SimpleNamespace(extra_args=extra_args), num_prompt_tokens=prompt_len)


def chain(request_):
    """Keys of all blocks: what a block's hash covers is its own key and those of the blocks before."""
    return [steering_key(request_, at, at + BLOCK) for at in range(0, NUM_TOKENS, BLOCK)]


def steering_by_position(body, prompt_len):
    """What happens to each token, by name; None where nothing does."""
    if body is None or not (body.get("features") or body.get("vectors") or body.get("error_term") is False):
        return [None] * NUM_TOKENS
    scope = parse_spec(body).scope(prompt_len)
    what = json.dumps({k: v for k, v in body.items() if k not in ("where", "skip_first", "read")}, sort_keys=True)
    return [what if scope.lo <= p < scope.hi else None for p in range(NUM_TOKENS)]


BODIES = st.sampled_from(
    [
        {"features": [{"id": 1, "value": 4.0}]},
        {"features": [{"id": 1, "value": 4.5}]},
        {"features": [{"id": 1, "value": 4.0}], "error_term": False},
        {"error_term": False},
        {"vectors": [{"name": "a", "alpha": 1.0}]},
        {},
    ]
)
SPANS = st.builds(lambda a, n: {"start": a, "end": a + n}, st.integers(-8, 20), st.integers(1, 12)).filter(
    lambda span: (span["start"] < 0) == (span["end"] < 0)
)
WHERE = st.sampled_from(["all", "prompt", "generated"]) | st.builds(lambda a: {"start": a}, st.integers(-8, 20)) | SPANS


@st.composite
def requests(draw):
    prompt_len = draw(st.integers(1, NUM_TOKENS))
    if draw(st.integers(0, 5)) == 0:
        return None, prompt_len
    scope = {"where": draw(WHERE), "skip_first": draw(st.integers(0, 9))}
    read = {"read": {"features": [1]}} if draw(st.booleans()) else {}
    return {**draw(BODIES), **scope, **read}, prompt_len


@given(one=requests(), other=requests(), as_text=st.booleans())
def test_blocks_are_shared_exactly_where_steering_agrees(one, other, as_text):
    keys = chain(request(*one)), chain(request(*other, as_text=as_text))
    steering = steering_by_position(*one), steering_by_position(*other)
    for index in range(NUM_BLOCKS):
        end = (index + 1) * BLOCK
        agrees = steering[0][:end] == steering[1][:end]
        assert (keys[0][: index + 1] == keys[1][: index + 1]) == agrees


@given(one=requests())
def test_a_block_has_a_key_iff_steering_touches_it(one):
    steering = steering_by_position(*one)
    for index, key in enumerate(chain(request(*one))):
        assert (key is not None) == any(steering[index * BLOCK : (index + 1) * BLOCK])


def test_generated_only_steering_shares_every_prompt_block():
    """Across all strengths and with the unsteered request, up to the last full block of the prompt."""
    prompt_len = 14
    plain = chain(request(None, prompt_len))
    for alpha in (1.0, 2.0, 8.0):
        body = {"vectors": [{"name": "a", "alpha": alpha}], "where": "generated"}
        keys = chain(request(body, prompt_len))
        assert keys[: prompt_len // BLOCK] == plain[: prompt_len // BLOCK]
        assert keys[prompt_len // BLOCK] is not None


@pytest.mark.parametrize(
    ("where", "reused"), [("all", 6), ("prompt", 2), ("generated", 2), ({"start": 0, "end": 16}, 6)]
)
def test_what_a_second_turn_finds_of_the_first(where, reused):
    """Turn 1 has 8 prompt tokens and 16 generated ones, turn 2 has all 24 for its prompt: `all` agrees on them, words that
    count from the prompt's end agree up to the first one's end."""
    body = {"features": [{"id": 1, "value": 4.0}], "where": where}
    first, second = chain(request(body, 8)), chain(request(body, 24))
    shared = [first[: i + 1] == second[: i + 1] for i in range(NUM_BLOCKS)]
    assert shared == [True] * reused + [False] * (NUM_BLOCKS - reused)


def test_requests_without_sampling_params_have_no_key():
    assert steering_key(SimpleNamespace(sampling_params=None, num_prompt_tokens=4), 0, 4) is None
    assert chain(request(None, 4)) == [None] * NUM_BLOCKS
    unsteered = SimpleNamespace(sampling_params=SimpleNamespace(extra_args={"other": 1}), num_prompt_tokens=4)
    assert steering_key(unsteered, 0, 4) is None


def test_a_large_spec_is_parsed_once_a_request(monkeypatch):
    """The scheduler asks for a key at every block; a spec of 256 edits is too long for the cache of parsed texts."""
    body = {"features": [{"id": feature, "value": 1.0, "when": {"feature": feature + 1}} for feature in range(256)]}
    assert len(json.dumps(body)) > MAX_CACHED_CHARS
    parsed = []

    def parse(text, field):
        parsed.append(text)
        return original(text, field)

    original = spec._parse
    monkeypatch.setattr(spec, "_parse", parse)
    first, second = request(body, 8, as_text=True), request(body, 8, as_text=True)
    assert chain(first) == chain(first) == chain(second)
    assert len(parsed) == 2


def test_new_params_of_a_request_are_parsed_anew():
    """As those of a prompt that is streamed in parts."""
    streamed = request({"features": [{"id": 1, "value": 4.0}]}, 8)
    before = chain(streamed)
    streamed.sampling_params = request({"features": [{"id": 2, "value": 4.0}]}, 8).sampling_params
    assert before != chain(streamed) == chain(request({"features": [{"id": 2, "value": 4.0}]}, 8))
