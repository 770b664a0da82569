"""Profiles and vectors that come and go while the server runs."""

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from safetensors.torch import load_file, save

from .asking import FRENCH, chat, check_sums, text
from .test_refusals import refused

PROFILES, VECTORS = "/v1/steering/profiles", "/v1/steering/vectors"
D_MODEL, LAYER = 128, 15
LONG = [{"role": "user", "content": " ".join(f"part {i}" for i in range(60))}]


def vector(seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(D_MODEL, generator=torch.Generator().manual_seed(seed))


def upload(http: httpx.Client, name: str, data: bytes, **form: Any) -> httpx.Response:
    return http.post(VECTORS, data={"layer": LAYER, **form, "name": name}, files={"file": ("v", data)})


def stored(tensor: torch.Tensor, **metadata: str) -> bytes:
    return save({"vector": tensor}, metadata=metadata)


def along(name: str, alpha: float = 30.0) -> dict[str, Any]:
    return {"vectors": [{"name": name, "alpha": alpha}]}


def test_capabilities(http: httpx.Client) -> None:
    body = http.get("/v1/steering").json()
    assert body["object"] == "steering" and body["served_model_names"] == ["demo"] and body["layers"] == [LAYER]
    assert body["saes"]["default"] | {"activation": "auto"} == {
        "layer": LAYER, "site": "resid_post", "source": "file", "doubts": [], "d_sae": 1024, "d_model": D_MODEL,
            "activation": "auto", "format": "dictionary_learning", "num_labels": 18,
    }  # fmt: skip
    assert {"french", "hostile", "warm"} <= set(body["profiles"])
    assert body["ops"] == ["add", "set", "scale", "min", "max", "ablate"] and body["units"] == [
        "raw",
        "max_act",
        "norm",
    ]
    assert {"max_edits", "max_projections", "max_top", "max_vectors", "max_body_bytes"} <= set(body["limits"])
    assert set(body["versions"]) == {"tiller", "vllm", "torch"} and body["runner"] in ("v1", "v2")


def test_profile_comes_and_goes(client: openai.OpenAI, http: httpx.Client, kept: Path) -> None:
    made = http.post(PROFILES, json={"name": "fr.2", "steering": FRENCH})
    assert made.status_code == 201
    assert made.json() == {"name": "fr.2", "steering": FRENCH, "defaults": {}, "source": "runtime"}
    assert "demo:fr.2" in [model.id for model in client.models.list()]
    assert (kept / "profiles" / "fr.2.json").exists()
    assert text(chat(client, model="demo:fr.2")) == text(chat(client, FRENCH))
    refused(http.post(PROFILES, json={"name": "fr.2", "steering": FRENCH}), 409, "name")
    gone = http.delete(f"{PROFILES}/fr.2")
    assert gone.json() == {"name": "fr.2", "object": "steering.profile", "deleted": True}
    assert not (kept / "profiles" / "fr.2.json").exists()
    refused(http.delete(f"{PROFILES}/fr.2"), 404, "name")
    with pytest.raises(openai.NotFoundError):
        chat(client, model="demo:fr.2")


def test_profiles_of_the_config_stay(http: httpx.Client) -> None:
    refused(http.delete(f"{PROFILES}/french"), 409, "name")
    listed = {profile["name"]: profile for profile in http.get(PROFILES).json()["data"]}
    assert listed["french"]["source"] == "config" and listed["french"]["steering"] == FRENCH


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a/b", "steering": {}}, "body.name"),
        ({"name": "x" * 65, "steering": {}}, "body.name"),
        ({"name": "ok", "steering": {"features": [{"id": 9999, "value": 1.0}]}}, "steering.features[0].id"),
        ({"name": "ok", "steering": "{}"}, "body.steering"),
        ({"name": "ok", "steering": {}, "defaults": {"top_p": 1}}, "body.defaults.top_p"),
        ({"name": "ok", "steering": {}, "defaults": {"max_tokens": 0}}, "body.defaults.max_tokens"),
        ({"name": "ok", "steering": {}, "path": "/etc"}, "body.path"),
        ({"steering": {}}, "body.name"),
    ],
)
def test_wrong_profiles(http: httpx.Client, body: Any, param: str) -> None:
    refused(http.post(PROFILES, json=body), 400, param)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ('{"name": "a1", "name": "a2", "steering": {}}', "name"),
        ('{"name": "ok", "steering": {"skip_first": 1}, "steering": {"skip_first": 2}}', "steering"),
        ('{"name": "ok", "steering": {"features": [], "features": [{"id": 1, "value": 1.0}]}}', "steering"),
        ('{"name": "ok", "steering": {"features": [{"id": 1, "value": 1.0, "value": 2.0}]}}', "steering.features[0]"),
        ('{"name": "ok", "steering": {}, "defaults": {"seed": 1, "seed": 2}}', "defaults"),
        ('{"name": "ok", "steering": {"max_norm": NaN}}', "steering.max_norm"),
    ],
)
def test_profiles_that_say_one_thing_twice(http: httpx.Client, body: str, param: str) -> None:
    before = http.get(PROFILES).json()
    refused(http.post(PROFILES, content=body, headers={"Content-Type": "application/json"}), 400, param)
    assert http.get(PROFILES).json() == before


def test_a_vector_whose_form_says_one_thing_twice(http: httpx.Client) -> None:
    files = [("name", (None, "one")), ("name", (None, "two")), ("file", ("v.safetensors", stored(vector(0))))]
    refused(http.post(VECTORS, files=[*files, ("layer", (None, str(LAYER)))]), 400, "name")
    assert not {"one", "two"} & http.get("/v1/steering").json()["vectors"].keys()


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_parts_of_paths_are_no_names(http: httpx.Client, name: str) -> None:
    """Clients shorten a path with one, so that DELETE would never reach it."""
    refused(http.post(PROFILES, json={"name": name, "steering": {}}), 400, "body.name")
    refused(upload(http, name, stored(vector(0))), 400, "body.name")


def test_vector_comes_and_goes(client: openai.OpenAI, http: httpx.Client, kept: Path) -> None:
    refused_before = pytest.raises(openai.BadRequestError)
    with refused_before:
        chat(client, along("dir"))
    made = upload(http, "dir", stored(vector(1).half()))
    assert made.status_code == 201, made.text
    body = made.json()
    assert body["norm"] == pytest.approx(float(vector(1).half().float().norm())) and body["layer"] == LAYER
    assert http.get("/v1/steering").json()["vectors"]["dir"]["layer"] == LAYER
    assert set(load_file(kept / "vectors" / "dir.safetensors")) == {"vector"}
    answer = chat(client, along("dir"))
    check_sums(answer.steering)
    assert answer.steering["mean_delta_norm"] == pytest.approx(30 * body["norm"], rel=1e-3)
    refused(upload(http, "dir", stored(vector(2))), 409, "name")
    gone = http.delete(f"{VECTORS}/dir").json()
    assert gone == {"name": "dir", "object": "steering.vector", "deleted": True}
    assert not list((kept / "vectors").glob("dir*"))
    refused(http.delete(f"{VECTORS}/dir"), 404, "name")


def test_a_name_given_again_takes_nothing_from_the_cache(client: openai.OpenAI, http: httpx.Client) -> None:
    """KV blocks hold what a vector did; its name says nothing about that."""
    first, second = stored(vector(3)), stored(vector(4))
    assert upload(http, "again", first).status_code == 201
    old = [chat(client, along("again"), messages=LONG) for _ in range(2)]
    assert old[1].steering["tokens_cached"] > 0
    http.delete(f"{VECTORS}/again")
    assert upload(http, "again", second).status_code == upload(http, "never-used", second).status_code == 201
    new, oracle = chat(client, along("again"), messages=LONG), chat(client, along("never-used"), messages=LONG)
    assert new.steering["tokens_cached"] == 0
    assert text(new) == text(oracle) != text(old[0])
    assert chat(client, along("again"), messages=LONG).steering["tokens_cached"] > 0
    http.delete(f"{VECTORS}/again")
    assert upload(http, "again", first).status_code == 201
    assert text(chat(client, along("again"), messages=LONG)) == text(old[0])
    assert [http.delete(f"{VECTORS}/{name}").status_code for name in ("again", "never-used")] == [200, 200]


def test_requests_under_way_keep_their_vector(client: openai.OpenAI, http: httpx.Client) -> None:
    assert upload(http, "flow", stored(vector(5))).status_code == 201
    asked: dict[str, Any] = {"max_tokens": 120, "extra_body": {"steering": along("flow", 3.0), "ignore_eos": True}}
    whole = text(chat(client, **asked))
    stream = chat(client, stream=True, **asked)
    chunks = [next(stream)]
    assert http.delete(f"{VECTORS}/flow").status_code == 200
    assert upload(http, "flow", stored(vector(6))).status_code == 201
    chunks += stream
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    check_sums(chunks[-1].model_dump()["steering"])
    assert text(chat(client, **asked)) != whole
    assert http.delete(f"{VECTORS}/flow").status_code == 200


@pytest.mark.parametrize(
    ("data", "form", "param"),
    [
        (b"", {}, "file"),
        (b"\x80\x04N.", {}, "file"),
        (b"\xff" * 4000, {}, "file"),
        (stored(vector(0)[:-1]), {}, "file"),
        (stored(vector(0)[None]), {}, "file"),
        (stored(vector(0).double()), {}, "file"),
        (stored(torch.full((D_MODEL,), torch.nan)), {}, "file"),
        (stored(torch.zeros(D_MODEL)), {}, "file"),
        (save({"a": vector(0), "b": vector(1)}), {}, "file"),
        (stored(vector(0)), {"layer": 14}, "layer"),
        (stored(vector(0)), {"layer": "x"}, "body.layer"),
        (stored(vector(0)), {"name": "../up"}, "body.name"),
        (stored(vector(0)), {"name": "é"}, "body.name"),
        (stored(vector(0)), {"name": ""}, "body.name"),
    ],
)
def test_wrong_vectors(http: httpx.Client, data: bytes, form: dict[str, Any], param: str) -> None:
    before = http.get("/v1/steering").json()["vectors"]
    refused(upload(http, form.pop("name", "bad"), data, **form), 400, param)
    assert http.get("/v1/steering").json()["vectors"] == before


def test_uploads_are_bounded(http: httpx.Client) -> None:
    limit = http.get("/v1/steering").json()["limits"]["max_body_bytes"]
    refused(upload(http, "big", b"x" * limit), 413, "body")
    pieces = (b"x" * 65_536 for _ in range(limit // 65_536 + 2))  # sent without a length
    refused(http.post(PROFILES, content=pieces, headers={"Content-Type": "application/json"}), 413, "body")
