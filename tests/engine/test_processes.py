"""Engines in processes of their own, as in production: the plan reaches the workers, the compile cache keeps engines
apart, and where nobody steers nothing changes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiller.engine import Receipt

from . import tiny
from .oracle import Oracle, check_receipt
from .test_scheduler import SPECS

SCRIPT = Path(__file__).with_name("answers.py")
PROMPTS = [tiny.prompt(index, 20) for index in range(4)]
STEERED = {"features": [{"id": 5, "op": "set", "value": 12.0}]}
IN_ONE = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # starts sooner, for what does not depend on where the worker is


def answers(
    model: Path, saes: Any = None, spec: Any = None, environment: dict[str, str] | None = None, **engine: Any
) -> list[dict[str, Any]]:
    """Answers to PROMPTS from an engine that lives and dies with a subprocess."""
    return run_engine(model, saes, PROMPTS, spec, environment, **engine)["answers"]


def run_engine(
    model: Path, saes: Any, prompts: Any, specs: Any, environment: dict[str, str] | None = None, **engine: Any
) -> dict[str, Any]:
    job = {"model": str(model), "saes": saes, "engine": {**tiny.ENGINE, **engine}, "prompts": prompts, "specs": specs}
    run = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(job)],
        env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )
    line = next((line for line in run.stdout.splitlines() if line.startswith("ANSWERS ")), None)
    assert run.returncode == 0 and line, run.stderr[-3000:]
    return json.loads(line.removeprefix("ANSWERS "))


def check(got: list[dict[str, Any]], oracle: Oracle, spec: Any) -> None:
    for prompt, answer in zip(PROMPTS, got, strict=True):
        check_answer(prompt["prompt_token_ids"], answer, oracle, spec)


def check_answer(ids: list[int], answer: dict[str, Any], oracle: Oracle, spec: Any) -> None:
    expected = oracle.logprobs([*ids, *answer["tokens"]], spec, len(ids))[len(ids) - 1 : -1]
    for step, (token, logprob) in enumerate(zip(answer["tokens"], answer["logprobs"], strict=True)):
        assert logprob == pytest.approx(float(expected[step, token]), abs=1e-3)
        assert float(expected[step].max() - expected[step, token]) < 1e-4
    receipt = answer["receipt"] and Receipt.from_worker(answer["receipt"])
    check_receipt(receipt, spec, len(ids), len(answer["tokens"]), num_cached=0)


def test_nothing_when_nothing(models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle]) -> None:
    """vLLM without the plugin, with it, and a steered engine that nobody asks to steer: the same bits."""
    model = models("Qwen2ForCausalLM")
    without = answers(model, environment={**IN_ONE, "TILLER_DISABLE": "1"})
    assert answers(model, environment=IN_ONE) == without
    assert answers(model, saes, environment=IN_ONE) == without
    check(without, oracles(), None)


def test_plan_reaches_the_workers(models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle]) -> None:
    check(answers(models("Qwen2ForCausalLM"), saes, STEERED), oracles(), STEERED)


def test_disabled_plugin_is_noticed_at_start(models: Callable[[str], Path], saes: Any) -> None:
    with pytest.raises(AssertionError, match="does not steer by this plan|tiller_describe"):
        answers(models("Qwen2ForCausalLM"), saes, STEERED, environment={"TILLER_DISABLE": "1"})


def test_compile_cache_keeps_engines_apart(
    models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle], tmp_path: Path
) -> None:
    """Unsteered, steered, and steered by another version of Tiller, all on one cache and in vLLM's own compile mode."""
    model, one = models("Qwen2ForCausalLM"), {"default": saes["default"]}
    cache, other = tmp_path / "cache", tmp_path / "vllm_tiller-0.0.1.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-tiller\nVersion: 0.0.1\n")
    (other / "entry_points.txt").write_text("[vllm.general_plugins]\ntiller = tiller.engine.plugin:register\n")
    shared = {"VLLM_CACHE_ROOT": str(cache), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"), **IN_ONE}
    compiled = {"enforce_eager": False, "compilation_config": {"mode": 3}}
    check(answers(model, **compiled, environment=shared), oracles(), None)
    for more in ({}, {"PYTHONPATH": str(tmp_path)}):
        check(answers(model, one, STEERED, **compiled, environment={**shared, **more}), oracles(), STEERED)
    graphs = list((cache / "torch_compile_cache" / "torch_aot_compile").iterdir())
    assert len(graphs) == 3, "one of them ran what another had compiled"


def test_speculative_decoding(
    models: Callable[[str], Path], saes: Any, vectors: Any, oracles: Callable[..., Any]
) -> None:
    """Draft tokens pass the sites at their own positions; rejected ones are computed again.

    In a process of its own: once numba is loaded for the n-gram drafter, vLLM can't start another engine beside it.
    """
    speculative = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2, "prompt_lookup_min": 1}
    phrase = tiny.prompt(60, 8)["prompt_token_ids"]
    prompts = [{"prompt_token_ids": [*phrase, *phrase, index + 5, *phrase]} for index in range(len(SPECS))]
    more = {"speculative_config": speculative, "disable_log_stats": False, "vectors": vectors}
    ran = run_engine(models("Qwen2ForCausalLM"), saes, prompts, SPECS, enable_prefix_caching=False, **more)
    assert ran["counters"]["vllm:spec_decode_num_draft_tokens"] > 0, "nothing was drafted: the test shows nothing"
    for prompt, answer, spec in zip(prompts, ran["answers"], SPECS, strict=True):
        check_answer(prompt["prompt_token_ids"], answer, oracles(), spec)
