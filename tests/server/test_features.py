"""Features looked up over HTTP: what a text activates, what the weights say, labels."""

import urllib.parse
from typing import Any

import httpx
import openai
import pytest

from tiller.engine import load_config
from tiller.engine.sae.dictionary import describe_feature, load_dictionary
from tiller.engine.sae.logit_lens import logit_lens, spoken_ids

from .test_refusals import refused

FEATURES = "/v1/steering/features"
TEXT = "Bonjour, je voudrais un café."


def test_a_text_is_read_as_a_completion_reads_it(http: httpx.Client, client: openai.OpenAI) -> None:
    read = {"where": "prompt", "skip_first": 1, "read": {"top": 16, "reduce": "none"}}
    asked: Any = {"model": "demo", "prompt": TEXT, "max_tokens": 1, "extra_body": {"steering": read}}
    expected = client.completions.create(**asked).steering["read"]  # type: ignore[attr-defined]
    found = http.get(FEATURES, params={"text": TEXT, "top": 128}).json()
    assert [token["position"] for token in found["tokens"]] == expected["positions"]
    assert [token["token"] for token in found["tokens"]] == expected["tokens"]
    assert [token["top"] for token in found["tokens"]] == expected["top"]


def test_sums_are_those_of_the_tokens(http: httpx.Client) -> None:
    found = http.get(FEATURES, params={"text": TEXT, "top": 128}).json()
    for feature in found["data"]:
        values = {token["position"]: dict(map(tuple, token["top"])).get(feature["id"], 0) for token in found["tokens"]}
        assert feature["sum"] == pytest.approx(sum(values.values()))
        assert feature["max"] == max(values.values()) == values[feature["at"]]
        assert feature["num_active"] == sum(value > 0 for value in values.values())
    sums = [feature["sum"] for feature in found["data"]]
    assert sums == sorted(sums, reverse=True)
    few = http.get(FEATURES, params={"text": TEXT, "top": 3}).json()
    assert few["data"] == found["data"][:3]
    assert [token["top"] for token in few["tokens"]] == [token["top"][:3] for token in found["tokens"]]


def test_leading_tokens_are_left_out_on_request(http: httpx.Client) -> None:
    whole = http.get(FEATURES, params={"text": TEXT, "skip_first": 0}).json()["tokens"]
    assert [token["position"] for token in whole] == list(range(len(whole)))
    later = http.get(FEATURES, params={"text": TEXT, "skip_first": 4}).json()["tokens"]
    assert later == whole[4:]
    assert http.get(FEATURES, params={"text": TEXT, "skip_first": 999}).json()["data"] == []


def test_a_feature_is_what_its_weights_say(http: httpx.Client) -> None:
    config = load_config("demo")
    loaded = load_dictionary(config, "default")
    found, expected = http.get(f"{FEATURES}/81").json(), describe_feature(loaded, 81)
    assert (found["decoder_norm"], found["encoder_bias"]) == (expected.decoder_norm, expected.encoder_bias)
    assert [(near["id"], near["cosine"]) for near in found["nearest"]] == expected.nearest
    assert found["max_act"] == expected.max_act > 0  # type: ignore[operator]
    promoted, suppressed = spoken_ids(logit_lens(config.resolve(config.model), loaded.sae.W_dec[81]), 12)

    def words(ids: list[int]) -> list[str]:
        return [http.post("/detokenize", json={"model": "demo", "tokens": [i]}).json()["prompt"] for i in ids]

    assert (found["promotes"], found["suppresses"]) == (words(promoted), words(suppressed))
    assert found["label"] == "French lines"


def test_labels_are_searched_by_word(http: httpx.Client) -> None:
    found = http.get(f"{FEATURES}/search", params={"q": "LINES french"}).json()["data"]
    assert {feature["id"] for feature in found} >= {63, 81, 116}
    assert {feature["label"] for feature in found} == {"French lines"}
    assert http.get(f"{FEATURES}/search", params={"q": "no such word"}).json()["data"] == []


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("/1024", 404, "id"),
        (f"/{2**70}", 404, "id"),
        ("/-1", 400, "path.id"),
        ("/x", 400, "path.id"),
        ("/63?sae=other", 400, "sae"),
        ("/search?q=a&sae=other", 400, "sae"),
        ("/search", 400, "query.q"),
        ("", 400, "query.text"),
        ("?text=", 400, "query.text"),
        ("?text=hello&sae=other", 400, "sae"),
        ("?text=hello&sae=..%2F..", 400, "query.sae"),
        ("?text=hello&top=0", 400, "query.top"),
        ("?text=hello&skip_first=-1", 400, "query.skip_first"),
        ("?text=" + "word+" * 2000, 400, "text"),
        ("?text=" + "w" * 20_000, 400, "query.text"),
    ],
)
def test_what_is_wrong_is_refused(http: httpx.Client, path: str, status: int, param: str) -> None:
    refused(http.get(FEATURES + path), status, param)


@pytest.mark.parametrize("text", ["\0", "<|im_end|>", "%", "a&b=c", "é"])
def test_any_text_is_read(http: httpx.Client, text: str) -> None:
    answer = http.get(f"{FEATURES}?text={urllib.parse.quote(text)}&skip_first=0")
    assert answer.status_code == 200 and "".join(token["token"] for token in answer.json()["tokens"]) == text
