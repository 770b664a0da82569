"""Servers that are started another way, and servers that end."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from safetensors.torch import save_file

from tiller.engine.config import load_config
from tiller.engine.errors import TillerError
from tiller.engine.server.launch import serve

from .asking import FIXED, FRENCH, QUESTION, chat, check_sums, text
from .conftest import TILLER
from .process import START_SECONDS, ServerProcess, command_environment, serving
from .test_refusals import refused

VLLM = "vllm.entrypoints.openai.api_server"
CONFIG = load_config("demo")
ENGINE = [
    "--model", CONFIG.resolve(CONFIG.model), "--tokenizer", CONFIG.resolve(CONFIG.engine["tokenizer"]),
    "--served-model-name", "demo", "--dtype", "float32", "--enforce-eager", "--max-model-len", "1024",
    "--kv-cache-memory-bytes", "268435456",
]  # fmt: skip
USER = {"Authorization": "Bearer user"}


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vectors") / "side.safetensors"
    save_file({"v": torch.randn(128, generator=torch.Generator().manual_seed(1))}, file, metadata={"layer": "15"})
    return file


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, vector: Path) -> Iterator[ServerProcess]:
    """vLLM's own server, asked to steer by --additional-config, with vectors that an earlier run has left behind."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "vectors").mkdir()
    (folder / "vectors" / "kept.safetensors").write_bytes(vector.read_bytes())
    sae = {"path": CONFIG.resolve("demo/sae"), "subfolder": "resid_post_layer_15/trainer_0", "layer": 15}
    profile = {**FRENCH, "defaults": {"max_tokens": 5, "temperature": 0, "seed": 1}}
    body = {"saes": {"default": sae}, "vectors": {"side": str(vector)}, "profiles": {"fr": profile}}
    own = ["--additional-config", json.dumps({"tiller": body}), "--api-key", "user", "--shutdown-timeout", "30"]
    with serving(
        folder, VLLM, *ENGINE, *own, TILLER_STEERING_DIR=str(folder), TILLER_STEERING_API_KEY="admin"
    ) as server:
        yield server


def test_plain_vllm_serves_the_same(plain: ServerProcess, client: openai.OpenAI) -> None:
    own = plain.openai("user")
    for steering in (FRENCH, FIXED):
        here, there = chat(own, steering), chat(client, steering)
        assert text(here) == text(there)
        assert here.steering["spec_hash"] == there.steering["spec_hash"]
        assert here.steering["tokens_in_scope"] == there.steering["tokens_in_scope"]
    assert "steering" not in chat(own).model_dump()
    assert "demo:fr" in [model.id for model in own.models.list()]
    answer = own.chat.completions.create(model="demo:fr", messages=QUESTION)  # type: ignore[arg-type]
    assert answer.usage.completion_tokens == 5  # type: ignore[union-attr]


def test_vectors_of_the_config_and_of_an_earlier_run(plain: ServerProcess) -> None:
    own = plain.openai("user")
    side, kept = (chat(own, {"vectors": [{"name": name, "alpha": 30.0}]}) for name in ("side", "kept"))
    assert text(side) == text(kept)  # the same file
    check_sums(side.steering)
    with plain.http(**USER, **{"X-Steering-Key": "admin"}) as http:
        refused(http.delete("/v1/steering/vectors/side"), 409, "name")
        assert http.delete("/v1/steering/vectors/kept").status_code == 200


def test_both_keys(plain: ServerProcess) -> None:
    with plain.http() as http:
        assert http.get("/v1/steering").status_code == 401
        assert http.post("/v1/chat/completions", json={}).status_code == 401
        assert http.get("/v1/steering", headers=USER).status_code == 200
        body = {"name": "x", "steering": FRENCH}
        for wrong in ({}, {"X-Steering-Key": "wrong"}, {"X-Steering-Key": ""}, {"X-Steering-Key": b"\xc3\xa9"}):
            refused(http.post("/v1/steering/profiles", json=body, headers={**USER, **wrong}), 401, None)
            refused(http.delete("/v1/steering/profiles/fr", headers={**USER, **wrong}), 401, None)
            refused(http.delete("/v1/steering/vectors/x", headers={**USER, **wrong}), 401, None)
        both = {**USER, "X-Steering-Key": "admin"}
        assert http.post("/v1/steering/profiles", json=body, headers=both).status_code == 201
        assert http.delete("/v1/steering/profiles/x", headers=both).status_code == 200
    assert not [line for line in plain.log.splitlines() if "admin" in line]


def test_a_seed_and_a_long_prompt_are_no_danger(plain: ServerProcess) -> None:
    long = [{"role": "user", "content": " ".join(f"item {i}" for i in range(120))}]
    own = plain.openai("user")
    answers = [text(chat(own, FRENCH, messages=long, seed=7, temperature=1, max_tokens=8)) for _ in range(2)]
    assert answers[0] == answers[1]


def test_sigterm_lets_streams_finish(plain: ServerProcess) -> None:
    """The last test of this server: with --shutdown-timeout vLLM drains, and new requests are sent elsewhere meanwhile."""
    asked: dict[str, Any] = {"max_tokens": 600, "extra_body": {"steering": FRENCH, "ignore_eos": True}}
    stream = chat(plain.openai("user"), stream=True, **asked)
    next(stream)
    with plain.http(**USER, **{"X-Steering-Key": "admin"}) as http:  # its connection stays open
        assert http.get("/health").status_code == 200
        plain.process.send_signal(signal.SIGTERM)
        while "shutdown triggered" not in plain.log:
            next(stream)
        while http.get("/health").status_code == 200:  # until the engine has been told
            next(stream)
        refused(http.get("/health"), 503, None)
        body = {"model": "demo", "messages": QUESTION, "max_tokens": 4}
        for path, sent in {
            "/v1/chat/completions": body, "/v1/completions": {"model": "demo", "prompt": "Hello", "max_tokens": 4},
            "/v1/messages": body, "/v1/steering/profiles": {"name": "late", "steering": FRENCH},
        }.items():  # fmt: skip
            answer = http.post(path, json=sent)
            assert int(answer.headers["Retry-After"]) > 0
            refused(answer, 503, None)
        refused(http.delete("/v1/steering/profiles/fr"), 503, None)
        refused(http.get("/v1/steering/features", params={"text": "Bonjour"}), 503, None)
        assert http.get("/metrics").status_code == http.get("/v1/steering").status_code == 200
    chunks = list(stream)
    last = next(chunk.model_dump() for chunk in reversed(chunks) if chunk.choices)
    assert last["choices"][0]["finish_reason"] == "length"
    check_sums(last["steering"])
    assert plain.wait_end() == 0


def test_a_dead_engine_ends_the_server(tmp_path: Path) -> None:
    """Started with chunked prefill on, where seeds are refused; then its engine is killed in the middle of an answer."""
    flags = ["--enable-chunked-prefill", "--max-num-batched-tokens", "64", "--max-num-seqs", "32"]
    with serving(tmp_path, TILLER, "serve", "--config", "demo", *flags) as server:
        client = server.openai()
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as caught:
                chat(client, FRENCH, seed=1, stream=stream)
            assert caught.value.param == "seed"
        long = [{"role": "user", "content": " ".join(f"item {i}" for i in range(60))}]
        check_sums(chat(client, FIXED, messages=long).steering)
        failed: list[Exception | str] = []

        def ask() -> None:
            try:
                extra = {"steering": FRENCH, "ignore_eos": True}
                failed.append(text(chat(client, max_tokens=900, extra_body=extra)))
            except openai.OpenAIError as error:
                failed.append(error)

        waiting = threading.Thread(target=ask)
        waiting.start()
        stream = chat(client, FRENCH, max_tokens=900, stream=True)
        next(stream)
        os.kill(server.engine_pid(), signal.SIGKILL)
        waiting.join(timeout=60)
        assert isinstance(failed[0], openai.OpenAIError)
        assert server.wait_end() != 0


def test_without_a_plan_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    with serving(tmp_path, VLLM, *ENGINE) as server, server.http() as http:
        client = server.openai()
        assert text(chat(client)) and [model.id for model in client.models.list()] == ["demo"]
        body = {"model": "demo", "messages": QUESTION, "max_tokens": 4}
        for stream in (False, True):
            for more in ({"steering": FRENCH}, {"vllm_xargs": {"steering": json.dumps(FRENCH)}}):
                refused(http.post("/v1/chat/completions", json={**body, "stream": stream, **more}), 400, "steering")
        refused(http.post("/v1/messages", json={**body, "steering": FRENCH}), 400, "steering")
        refused(http.get("/v1/steering"), 400, "steering")
        assert text(chat(client, extra_body={"steering": None})) == text(chat(client))


def test_batch_files(tmp_path: Path, client: openai.OpenAI) -> None:
    body = {"model": "demo", "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    asked = {
        "plain": body,
        "steered": {**body, "steering": FRENCH},
        "profile": {**body, "model": "demo:french"},
        "wrong": {**body, "steering": {"features": [{"id": 9999, "value": 1.0}]}},
    }
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": b} for name, b in asked.items()
    ]
    given, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    given.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", "-i", str(given), "-o", str(out), *ENGINE]
    plan = ["--additional-config", '{"tiller": {"config": "demo"}}']
    done = subprocess.run([*command, *plan], env=command_environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = {line["custom_id"]: line for line in map(json.loads, out.read_text().splitlines())}
    bodies = {name: answer["response"]["body"] for name, answer in answers.items()}
    texts = {name: body["choices"][0]["message"]["content"] for name, body in bodies.items() if body}
    assert texts == {"plain": text(chat(client)), "steered": text(chat(client, FRENCH)), "profile": texts["steered"]}
    check_sums(bodies["steered"]["steering"])
    assert "steering" not in bodies["plain"]
    assert answers["wrong"]["response"]["status_code"] == 400
    assert answers["wrong"]["error"]["error"]["param"] == "steering.features[0].id"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--api-server-count", "2"], "profiles and vectors live in one API server process"),
        (["--headless"], "--headless starts engines without"),
        (["--model", "other/model"], "the model comes from the config"),
        (["--additional-config", '{"tiller": {}}'], "additional_config.tiller is ours"),
    ],
)
def test_what_tiller_serve_refuses(flags: list[str], message: str) -> None:
    with pytest.raises(TillerError, match=message):
        serve("demo", flags)


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_an_empty_key_guards_nothing_and_is_refused(by: str) -> None:
    """As `--steering-api-key "$KEY"` with KEY unset."""
    flags, variables = (["--steering-api-key", ""], {}) if by == "flag" else ([], {"TILLER_STEERING_API_KEY": ""})
    command = [sys.executable, "-m", TILLER, "serve", "--config", "demo", *flags]
    done = subprocess.run(
        command, env=command_environment(**variables), capture_output=True, text=True, timeout=START_SECONDS
    )
    assert done.returncode == 2, done.stderr[-2000:]
    assert "error: the steering key is empty" in done.stderr and "Traceback" not in done.stderr


def test_a_mistake_at_start_is_one_line() -> None:
    command = [sys.executable, "-m", TILLER, "serve", "--api-server-count", "2"]
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "error: profiles and vectors live in one" in done.stderr, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
