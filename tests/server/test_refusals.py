"""What a server refuses, and how it says so: OpenAI's error shape, the field in `param`, the worker unharmed."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from .asking import FRENCH, QUESTION, chat, text
from .process import ServerProcess

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
ROUTES = {
    CHAT: {"model": "demo", "messages": QUESTION, "max_tokens": 4},
    COMPLETIONS: {"model": "demo", "prompt": "Hello", "max_tokens": 4},
    RESPONSES: {"model": "demo", "input": "Hello", "max_output_tokens": 4},
}
EDIT = {"id": 63, "value": 1.0}
WRONG: dict[str, tuple[Any, str, int]] = {
    "no object": (3, "steering", 400),
    "a list": ([EDIT], "steering", 400),
    "unknown key": ({"feature": [EDIT]}, "steering.feature", 400),
    "unknown feature": ({"features": [{"id": 1024, "value": 1.0}]}, "steering.features[0].id", 400),
    "negative feature": ({"features": [{"id": -1, "value": 1.0}]}, "steering.features[0].id", 400),
    "text for a number": ({"features": [{"id": 1, "value": "4"}]}, "steering.features[0].value", 400),
    "true for a number": ({"features": [{"id": True, "value": 4.0}]}, "steering.features[0].id", 400),
    "same feature twice": ({"features": [EDIT, EDIT]}, "steering.features", 400),
    "too many edits": ({"features": [{"id": i, "value": 1.0} for i in range(257)]}, "steering.features", 400),
    "a megabyte of edits": ({"features": [{"id": i, "value": 1.0} for i in range(40_000)]}, "steering", 413),
    "unknown SAE": ({"features": [{**EDIT, "sae": "other"}]}, "steering.features[0].sae", 400),
    "unknown vector": ({"vectors": [{"name": "nobody", "alpha": 1.0}]}, "steering.vectors[0].name", 400),
    "a path for a name": ({"vectors": [{"name": "../../etc", "alpha": 1.0}]}, "steering.vectors[0].name", 400),
    "a unicode name": ({"vectors": [{"name": "français", "alpha": 1.0}]}, "steering.vectors[0].name", 400),
    "a lone surrogate": ({"vectors": [{"name": "\ud800", "alpha": 1.0}]}, "steering", 400),
    "empty span": ({"where": {"start": 5, "end": 5}}, "steering.where", 400),
    "position out of bounds": ({"where": {"start": -(2**40)}}, "steering.where.start", 400),
    "negative skip": ({"skip_first": -1}, "steering.skip_first", 400),
    "unknown unit": ({"features": [{**EDIT, "unit": "percent"}]}, "steering.features[0].unit", 400),
    "top too large": ({"read": {"top": 129}}, "steering.read.top", 400),
    "nested": ({"where": json.loads("[" * 200 + "]" * 200)}, "steering.where", 400),
}


def refused(answer: httpx.Response, status: int, param: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == status and error["param"] == param and error["message"] and error["type"]
    return error


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_steering(http: httpx.Client, path: str, stream: bool, name: str) -> None:
    steering, param, status = WRONG[name]
    body = json.dumps({**ROUTES[path], "stream": stream, "steering": steering})
    refused(http.post(path, content=body, headers={"Content-Type": "application/json"}), status, param)


@pytest.mark.parametrize(
    ("steering", "param"),
    [
        ('{"skip_first": 1, "skip_first": 2}', "steering"),
        ('{"features": [{"id": 1, "value": 1.0, "value": 2.0}]}', "steering.features[0]"),
        ('{"max_norm": NaN}', "steering.max_norm"),
        ('{"features": [{"id": 1, "value": -Infinity}]}', "steering.features[0].value"),
        ('{"features": [{"id": 1, "value": 1e999}]}', "steering.features[0].value"),
        ('{"skip_first": 1}, "steering": null', "steering"),
        ("[" * 100_000 + "]" * 100_000, "body"),
    ],
)
def test_text_that_parsers_read_differently(http: httpx.Client, steering: str, param: str) -> None:
    body = json.dumps(ROUTES[CHAT])[:-1] + f', "steering": {steering}}}'
    refused(http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 400, param)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"model": "demo:french", "steering": FRENCH}, "steering"),
        ({"model": "demo:french", "steering": None}, "steering"),
        ({"vllm_xargs": {"steering": "{}"}, "steering": FRENCH}, "steering"),
        ({"vllm_xargs": {"steering": '{"top": 1}'}}, "steering.top"),
        ({"vllm_xargs": {"steering": 3}}, "steering"),
        ({"use_beam_search": True, "n": 2, "steering": FRENCH}, "use_beam_search"),
        ({"use_beam_search": True, "n": 2, "vllm_xargs": {"steering": json.dumps(FRENCH)}}, "use_beam_search"),
    ],
)
def test_two_ways_at_once_and_beam_search(http: httpx.Client, more: dict[str, Any], param: str) -> None:
    refused(http.post(CHAT, json={**ROUTES[CHAT], **more}), 400, param)


@pytest.mark.parametrize(
    ("xargs", "param"),
    [
        ('{"steering": "{}", "steering": "{\\"skip_first\\": 1}"}', "vllm_xargs"),
        ('{"steering": "{}"}, "vllm_xargs": {"steering": "{\\"skip_first\\": 1}"}', "vllm_xargs"),
    ],
)
def test_xargs_given_twice(http: httpx.Client, xargs: str, param: str) -> None:
    body = json.dumps(ROUTES[CHAT])[:-1] + f', "vllm_xargs": {xargs}}}'
    refused(http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 400, param)


@pytest.mark.parametrize("model", ["demo:nobody", "demo:", ":french", "other:french", "demo:french:french"])
def test_unknown_model_names(http: httpx.Client, model: str) -> None:
    for path, body in ROUTES.items():
        refused(http.post(path, json={**body, "model": model}), 404, "model")


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/chat/completions/batch", "/inference/v1/generate", "/v1/embeddings"]
)
def test_routes_that_would_drop_the_field(http: httpx.Client, path: str) -> None:
    refused(http.post(path, json={**ROUTES[CHAT], "steering": FRENCH}), 400, "steering")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("key", ["steering", "steer\\u0069ng", "\\u0073teering"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions/batch"])
def test_no_spelling_of_the_field_is_dropped(http: httpx.Client, path: str, key: str, encoding: str) -> None:
    body = json.dumps(ROUTES[CHAT])[:-1] + f', "{key}": {json.dumps(FRENCH)}}}'
    answer = http.post(path, content=body.encode(encoding), headers={"Content-Type": "application/json"})
    refused(answer, 400, "steering")


def test_the_server_answers_while_the_largest_bodies_are_parsed(http: httpx.Client, demo: ServerProcess) -> None:
    """As many keys as 262,144 bytes hold; the time used to grow with their square, to 4 s a body."""
    steering = json.dumps({f"k{number}": 1 for number in range(20_700)})
    assert 250_000 < len(steering) < 262_144
    body = json.dumps(ROUTES[COMPLETIONS])[:-1] + f', "steering": {steering}}}'
    done = threading.Event()

    def health() -> int:
        answered = 0
        with httpx.Client(base_url=demo.url, timeout=3.0) as impatient:
            while not done.is_set():
                answered += impatient.get("/health").status_code == 200
        return answered

    def send() -> httpx.Response:
        return http.post(COMPLETIONS, content=body, headers={"Content-Type": "application/json"})

    with ThreadPoolExecutor() as pool:
        watching = pool.submit(health)
        try:
            for answer in [future.result() for future in [pool.submit(send) for _ in range(4)]]:
                refused(answer, 400, "steering.k0")
        finally:
            done.set()
    assert watching.result() > 0


def test_messages_take_a_profile_by_model_name(http: httpx.Client, client: openai.OpenAI) -> None:
    """They can show no receipt; it is claimed and checked all the same."""
    body = {"model": "demo:french", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    answer = http.post("/v1/messages", json=body)
    assert answer.json()["content"][0]["text"] == text(chat(client, FRENCH))


def test_counting_tokens_is_not_steering(http: httpx.Client) -> None:
    assert http.post("/tokenize", json={**ROUTES[CHAT], "steering": FRENCH}).status_code == 200


def test_refusals_are_logged_and_counted(demo: ServerProcess, http: httpx.Client) -> None:
    body = {**ROUTES[CHAT], "steering": {"features": [{"id": 5000, "value": 1.0}], "secret-prompt": 1}}
    before = http.get("/metrics").text
    refused(http.post(CHAT, json=body), 400, "steering.secret-prompt")
    refused(
        http.post(CHAT, json={**body, "steering": {"features": [{"id": 5000, "value": 1.0}]}}),
        400,
        "steering.features[0].id",
    )
    lines = [json.loads(line) for line in demo.log.splitlines() if line.startswith('{"event": "rejected"')]
    assert lines[-1] == {"event": "rejected", "route": CHAT, "status": 400, "param": "steering.features[0].id"}
    after = http.get("/metrics").text
    for reason in ("steering.features.id", "steering.other"):
        sample = f'tiller_rejected_specs_total{{reason="{reason}"}}'
        assert _value(after, sample) == _value(before, sample) + 1
    assert "secret-prompt" not in after
    assert "bicycle" not in demo.log


def _value(metrics: str, sample: str) -> float:
    return next((float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(sample)), 0.0)


def test_the_worker_is_unharmed(client: openai.OpenAI) -> None:
    """Runs after what is above in this file, and would run alone."""
    plain, steered = chat(client), chat(client, FRENCH)
    assert text(plain) != text(steered) and steered.steering["tokens_steered"] > 0
