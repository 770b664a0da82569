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

from . import tiny
from .oracle import Oracle

SCRIPT = Path(__file__).with_name("answers.py")
PROMPTS = [tiny.prompt(index, 20) for index in range(4)]
STEERED = {"features": [{"id": 5, "op": "set", "value": 12.0}]}
EARLY = {"features": [{"id": 5, "op": "set", "value": 12.0, "sae": "early"}]}


def answers(
    model: Path, saes: Any = None, spec: Any = None, environment: dict[str, str] | None = None, **engine: Any
) -> list[dict[str, Any]]:
    """Answers to PROMPTS from an engine that lives and dies with a subprocess."""
    job = {"model": str(model), "saes": saes, "engine": {**tiny.ENGINE, **engine}, "prompts": PROMPTS, "specs": spec}
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
        ids = prompt["prompt_token_ids"]
        expected = oracle.logprobs([*ids, *answer["tokens"]], spec, len(ids))[len(ids) - 1 : -1]
        for step, (token, logprob) in enumerate(zip(answer["tokens"], answer["logprobs"], strict=True)):
            assert logprob == pytest.approx(float(expected[step, token]), abs=1e-3)
        assert (answer["receipt"] is None) == (spec is None)


def test_nothing_when_nothing(models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle]) -> None:
    """vLLM without the plugin, with it, and a steered engine that nobody asks to steer: the same bits."""
    model = models("Qwen2ForCausalLM")
    without = answers(model, environment={"TILLER_DISABLE": "1"})
    assert answers(model) == without
    assert answers(model, saes) == without
    check(without, oracles(), None)


def test_plan_reaches_the_workers(models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle]) -> None:
    check(answers(models("Qwen2ForCausalLM"), saes, STEERED), oracles(), STEERED)


def test_disabled_plugin_is_noticed_at_start(models: Callable[[str], Path], saes: Any) -> None:
    with pytest.raises(AssertionError, match="does not steer by this plan|tiller_describe"):
        answers(models("Qwen2ForCausalLM"), saes, STEERED, environment={"TILLER_DISABLE": "1"})


def test_compile_cache_keeps_engines_apart(
    models: Callable[[str], Path], saes: Any, oracles: Callable[..., Oracle], tmp_path: Path
) -> None:
    """Unsteered, steered, another layer, and unsteered again, all on one cache and in vLLM's own compile mode.

    vLLM's key doesn't see that a layer was changed: without our stamp the second engine would run the first's graph.
    """
    model, one = models("Qwen2ForCausalLM"), {"default": saes["default"]}
    shared = {"VLLM_CACHE_ROOT": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor")}
    compiled = {"enforce_eager": False, "compilation_config": {"mode": 3}, "environment": shared}
    check(answers(model, **compiled), oracles(), None)
    check(answers(model, one, STEERED, **compiled), oracles(), STEERED)
    check(answers(model, {"early": saes["early"]}, EARLY, **compiled), oracles(), EARLY)
    check(answers(model, **compiled), oracles(), None)
