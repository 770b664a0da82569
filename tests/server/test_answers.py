"""Steered answers over HTTP, asked for with the official OpenAI client."""

import json
from typing import Any

import httpx
import openai
import pytest

from .asking import FIXED, FRENCH, QUESTION, READ_ALL, chat, check_sums, text


def test_every_way_in_gives_the_same_answer(client: openai.OpenAI) -> None:
    plain, steered = chat(client), chat(client, FRENCH)
    assert text(plain) != text(steered)
    for other in (
        chat(client, extra_body={"vllm_xargs": {"steering": json.dumps(FRENCH)}}),
        chat(client, model="demo:french"),
        chat(client, json.dumps(FRENCH)),
    ):
        assert text(other) == text(steered)
        assert other.steering["spec_hash"] == steered.steering["spec_hash"]


def test_receipt_counts_the_tokens_that_went_in(client: openai.OpenAI) -> None:
    answer = chat(client, FRENCH)
    check_sums(answer.steering)
    fed = answer.usage.prompt_tokens + answer.usage.completion_tokens - 1
    assert answer.steering["tokens_in_scope"] == fed - FRENCH["skip_first"]  # type: ignore[operator]
    assert answer.steering["mean_delta_norm"] > 1
    assert [report["id"] for report in answer.steering["features"]] == [63, 81, 116]


def test_unsteered_answers_are_vllms(client: openai.OpenAI) -> None:
    plain = chat(client)
    assert "steering" not in plain.model_dump()
    null = chat(client, extra_body={"steering": None})
    assert "steering" not in null.model_dump() and text(null) == text(plain)
    nothing = chat(client, {})
    assert nothing.model_dump()["steering"] is None and text(nothing) == text(plain)


def test_stream_says_the_same(client: openai.OpenAI) -> None:
    whole = chat(client, FIXED)
    chunks = list(chat(client, FIXED, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text(whole)
    receipts = [chunk for chunk in chunks if "steering" in chunk.model_dump()]
    assert [chunk.choices[0].finish_reason for chunk in receipts] == [whole.choices[0].finish_reason]
    steering = receipts[0].model_dump()["steering"]
    check_sums(steering)
    assert steering["tokens_in_scope"] == whole.steering["tokens_in_scope"]
    assert steering["features"][0]["mean_after"] == pytest.approx(40.0)


def test_each_choice_has_its_own_receipt(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"n": 3, "temperature": 1.0, "seed": 3, "max_tokens": 40, "logprobs": True}
    answer = chat(client, FRENCH, **asked)
    prompt = answer.usage.prompt_tokens
    for choice in answer.choices:
        check_sums(choice.steering)
        assert choice.steering["tokens_in_scope"] == prompt + len(choice.logprobs.content) - 2
    assert answer.steering == answer.choices[0].steering
    assert len({choice.steering["tokens_in_scope"] for choice in answer.choices}) > 1
    last = {}
    for chunk in chat(client, FRENCH, stream=True, **asked):
        if "steering" in chunk.model_dump():
            last[chunk.choices[0].index] = chunk.model_dump()["steering"]["tokens_in_scope"]
    assert last == {choice.index: choice.steering["tokens_in_scope"] for choice in answer.choices}


def test_completions_with_several_prompts(client: openai.OpenAI) -> None:
    prompts = ["Good morning", "How was the concert last night?"]
    asked: dict[str, Any] = {"model": "demo", "max_tokens": 6, "extra_body": {"steering": FRENCH, "ignore_eos": True}}
    alone = [client.completions.create(prompt=prompt, temperature=0, **asked) for prompt in prompts]
    both = client.completions.create(prompt=prompts, temperature=0, **asked)
    assert [choice.text for choice in both.choices] == [answer.choices[0].text for answer in alone]
    scopes = [choice.steering["tokens_in_scope"] for choice in both.choices]  # type: ignore[attr-defined]
    assert scopes == [answer.steering["tokens_in_scope"] for answer in alone]  # type: ignore[attr-defined]
    pairs = client.completions.create(prompt=prompts, n=2, temperature=1, seed=1, **asked)
    assert [c.steering["tokens_in_scope"] for c in pairs.choices] == [scopes[0]] * 2 + [scopes[1]] * 2  # type: ignore[attr-defined]
    streamed = {}
    for chunk in client.completions.create(prompt=prompts, temperature=0, stream=True, **asked):
        if "steering" in chunk.model_dump():
            streamed[chunk.choices[0].index] = chunk.model_dump()["steering"]["tokens_in_scope"]
    assert streamed == dict(enumerate(scopes))


def test_responses(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "input": QUESTION[0]["content"],
        "max_output_tokens": 24,
        "temperature": 0,
    }
    plain = client.responses.create(**asked)
    answer = client.responses.create(**asked, extra_body={"steering": FRENCH})
    assert answer.output_text != plain.output_text and "steering" not in plain.model_dump()
    check_sums(answer.steering)  # type: ignore[attr-defined]
    *_, last = client.responses.create(**asked, stream=True, extra_body={"steering": FRENCH})
    assert last.response.steering["tokens_in_scope"] == answer.steering["tokens_in_scope"]  # type: ignore
    assert last.response.output[0].content[0].text == answer.output_text  # type: ignore


def test_structured_output_under_steering(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"mood": {"enum": ["warm", "cold"]}, "score": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["mood", "score"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "mood", "schema": schema}}
    answer = chat(client, FRENCH, response_format=form, max_tokens=60)
    body = json.loads(text(answer))
    assert set(body) == {"mood", "score"} and body["mood"] in ("warm", "cold")
    check_sums(answer.steering)


def test_tools_under_steering(client: openai.OpenAI) -> None:
    days = {"type": "object", "properties": {"day": {"enum": ["Monday", "Friday"]}}, "required": ["day"]}
    strict = {"additionalProperties": False}
    tool = {"type": "function", "function": {"name": "f", "parameters": {**days, **strict}, "strict": True}}
    named = {"type": "function", "function": {"name": "f"}}
    answer = chat(client, FRENCH, tools=[tool], tool_choice=named, max_tokens=60)
    assert answer.choices[0].message.tool_calls[0].function.name == "f"
    check_sums(answer.steering)
    check_sums(chat(client, FRENCH, tools=[tool], tool_choice="auto").steering)


def test_cached_tokens_are_told_apart(client: openai.OpenAI) -> None:
    long = [{"role": "user", "content": " ".join(f"item {i}" for i in range(60))}]
    first = chat(client, FIXED, messages=long)
    second = chat(client, FIXED, messages=long)
    assert first.steering["tokens_cached"] == 0 and second.steering["tokens_cached"] >= 64
    check_sums(second.steering)
    assert text(first) == text(second)
    assert chat(client, FRENCH, messages=long).steering["tokens_cached"] == 0


def test_read_out_is_aligned_with_the_answers_tokens(client: openai.OpenAI) -> None:
    answer = chat(client, READ_ALL, logprobs=True)
    assert text(answer) == text(chat(client))
    read = answer.steering["read"]
    num = answer.usage.prompt_tokens + answer.usage.completion_tokens - 1
    assert read["positions"] == list(range(num)) and read["prompt_len"] == answer.usage.prompt_tokens
    generated = [token.token for token in answer.choices[0].logprobs.content]
    assert read["tokens"][read["prompt_len"] :] == generated[:-1]
    assert {len(read["features"][name]) for name in ("63", "338")} == {len(read["top"])} == {num}
    only = {"where": "generated", **READ_ALL}
    narrow = chat(client, only).steering["read"]
    assert narrow["positions"] == read["positions"][read["prompt_len"] :]
    assert narrow["top"] == read["top"][read["prompt_len"] :]


def test_a_read_out_too_large_is_refused_before_the_stream(http: httpx.Client) -> None:
    read = {"features": list(range(256)), "top": 128, "reduce": "none"}
    body = {"model": "demo", "messages": QUESTION, "max_tokens": 900, "stream": True, "steering": {"read": read}}
    refused = http.post("/v1/chat/completions", json=body)
    assert refused.status_code == 400 and refused.json()["error"]["param"] == "steering.read"


def test_profile_defaults_cap_and_fill_in(client: openai.OpenAI, http: httpx.Client) -> None:
    body = {"name": "short", "steering": FRENCH, "defaults": {"temperature": 0, "max_tokens": 3}}
    assert http.post("/v1/steering/profiles", json=body).status_code == 201
    try:
        bare: dict[str, Any] = {"model": "demo:short", "messages": QUESTION}
        answers = [client.chat.completions.create(**bare, **more) for more in ({}, {}, {"max_tokens": 9})]
        assert [answer.usage.completion_tokens for answer in answers] == [3, 3, 3]  # type: ignore[union-attr]
        assert text(answers[0]) == text(answers[1]) == text(answers[2])  # greedy
        assert client.chat.completions.create(**bare, max_tokens=2).usage.completion_tokens == 2  # type: ignore[union-attr]
        long = client.completions.create(model="demo:short", prompt="Good morning")
        assert long.usage.completion_tokens == 3  # type: ignore[union-attr]
        response = client.responses.create(model="demo:short", input="Good morning")
        assert response.usage.output_tokens == 3  # type: ignore[union-attr]
    finally:
        assert http.delete("/v1/steering/profiles/short").status_code == 200
