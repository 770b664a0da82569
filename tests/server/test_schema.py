"""Bodies made up from the server's own OpenAPI document: no 5xx, no hang, and the worker right afterwards."""

from typing import Any

import httpx
import hypothesis
import openai
import pytest
import schemathesis
from hypothesis import strategies

from .asking import FRENCH, QUESTION, chat, text
from .process import ServerProcess
from .test_refusals import ROUTES

EXAMPLES = 40
bounded = hypothesis.settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True
)


@pytest.fixture(scope="module")
def schema(demo: ServerProcess) -> Any:
    return schemathesis.openapi.from_url(f"{demo.url}/openapi.json").include(path_regex="^/v1/steering")


def test_our_routes_are_in_the_document(http: httpx.Client) -> None:
    paths = http.get("/openapi.json").json()["paths"]
    assert {"/v1/steering", "/v1/steering/profiles", "/v1/steering/profiles/{name}", "/v1/steering/vectors"} <= set(
        paths
    )


def test_our_routes(schema: Any, http: httpx.Client) -> None:
    for operation in (result.ok() for result in schema.get_all_operations()):

        @bounded
        @hypothesis.given(case=operation.as_strategy())
        def run(case: Any) -> None:
            answer = case.call(timeout=60)
            assert answer.status_code < 500, answer.text

        run()
    for kind in ("profiles", "vectors"):
        for entry in http.get(f"/v1/steering/{kind}").json()["data"]:
            if entry["source"] == "runtime":
                assert http.delete(f"/v1/steering/{kind}/{entry['name']}").status_code == 200


scalars = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.integers(-(2**70), 2**70),
    strategies.floats(),
    strategies.text(max_size=8),
    strategies.sampled_from(["add", "set", "all", "prompt", "raw", "norm", "none", "default"]),
)
anything = strategies.recursive(
    scalars,
    lambda inner: (
        strategies.lists(inner, max_size=3) | strategies.dictionaries(strategies.text(max_size=5), inner, max_size=3)
    ),
)
small = strategies.integers(0, 1023)
edits = strategies.fixed_dictionaries(
    {"id": small | scalars},
    optional={
        "op": strategies.sampled_from(["add", "set", "scale", "min", "max", "ablate"]) | scalars,
        "value": strategies.floats(allow_nan=False, allow_infinity=False) | scalars,
        "unit": strategies.sampled_from(["raw", "norm", "max_act"]),
        "when": strategies.fixed_dictionaries({"feature": small}) | scalars,
    },
)
specs = strategies.fixed_dictionaries(
    {},
    optional={
        "features": strategies.lists(edits, max_size=3) | anything,
        "vectors": anything,
        "error_term": strategies.booleans() | scalars,
        "norm": strategies.sampled_from(["free", "preserve"]) | scalars,
        "where": strategies.sampled_from(["all", "prompt", "generated"]) | anything,
        "skip_first": strategies.integers(0, 9) | scalars,
        "max_norm": strategies.floats(0.1, 1e3) | scalars,
        "read": strategies.fixed_dictionaries(
            {"features": strategies.lists(small, max_size=3), "top": strategies.integers(0, 9)}
        )
        | anything,
    },
)


@pytest.mark.parametrize("path", ROUTES)
def test_requests_with_made_up_steering(http: httpx.Client, client: openai.OpenAI, path: str) -> None:
    statuses = set()

    @bounded
    @hypothesis.given(steering=specs | anything)
    def run(steering: Any) -> None:
        import json

        body = json.dumps({**ROUTES[path], "steering": steering})
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (200, 400, 413), answer.text
        statuses.add(answer.status_code)
        if answer.status_code != 200:
            assert answer.json()["error"]["param"].startswith(("steering", "body")), answer.text

    run()
    assert statuses == {200, 400}
    assert text(chat(client, FRENCH, messages=QUESTION)) == text(chat(client, model="demo:french", messages=QUESTION))
