"""Real vLLM against Hugging Face with a plain hook: every operation, wherever it applies, on every activation."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from vllm import SamplingParams

from . import tiny
from .oracle import Oracle

OPS: list[dict[str, Any]] = [
    {"op": "add", "value": 9.0},
    {"op": "set", "value": 12.0},
    {"op": "scale", "value": 3.0},
    {"op": "min", "value": 7.0},
    {"op": "max", "value": 1.5},
    {"op": "ablate"},
]
WHERE: list[Any] = ["all", "prompt", "generated", {"start": 3, "end": -2}]
SAES = ["default", "threshold", "relu", "gated"]


def grid() -> list[dict[str, Any]]:
    """Every op x error term x where x activation, on three features at once so that some are active."""
    cases = []
    for index, (op, keep, where, sae) in enumerate(itertools.product(OPS, (True, False), WHERE, SAES)):
        ids = [(index * 7 + step) % tiny.D_SAE for step in (0, 31, 62)]
        cases.append(
            {"features": [{**op, "id": i, "sae": sae} for i in ids], "error_term": keep, "where": where}
        )
    return cases


SPECIAL: list[dict[str, Any]] = [
    {"features": [], "error_term": False},
    {"features": [{"id": 5, "value": 8.0}], "norm": "preserve"},
    {"features": [{"id": 5, "op": "set", "value": 20.0}], "norm": "preserve", "error_term": False},
    {"features": [{"id": 5, "value": 0.4, "unit": "norm"}]},
    {"features": [{"id": 5, "op": "min", "value": 0.3, "unit": "norm", "sae": "relu"}]},
    {"features": [{"id": 5, "value": 15.0, "when": {"feature": 9, "above": 0.5}}]},
    {"features": [{"id": 5, "value": 15.0, "sae": "relu", "when": {"feature": 9, "above": 0.5}}]},
    {"features": [{"id": 5, "value": 15.0, "sae": "gated", "when": {"feature": 9}}], "error_term": False},
    {"features": [{"id": 5, "value": 9.0}, {"id": 6, "value": -9.0}, {"id": 7, "op": "scale", "value": 0.5}]},
    {"features": [{"id": 5, "value": 9.0}, {"id": 5, "value": 9.0, "sae": "early"}]},
    {"features": [{"id": 5, "value": 9.0}, {"id": 8, "op": "set", "value": 9.0, "sae": "early"}], "error_term": False},
    {"features": [{"id": 5, "value": 9.0}, {"id": 6, "op": "set", "value": 9.0, "sae": "relu"}]},
    {"features": [{"id": 5, "value": 9.0}], "skip_first": 4},
    {"features": [{"id": 5, "value": 9.0}], "max_norm": 12.0},
    {"features": [{"id": 5, "value": 9.0}], "where": {"start": -3}},
    {"vectors": [{"name": "left", "alpha": 1.5}]},
    {"vectors": [{"name": "left", "alpha": 0.2, "unit": "norm"}, {"name": "right", "alpha": -1.0}]},
    {"vectors": [{"name": "left", "alpha": 0.0, "mode": "orthogonal"}]},
    {"vectors": [{"name": "left", "alpha": -2.0, "mode": "orthogonal"}, {"name": "right", "alpha": 0.1, "mode": "cap"}]},
    {"vectors": [{"name": "left", "alpha": 0.05, "mode": "cap", "unit": "norm"}], "where": "generated"},
    {"vectors": [{"name": "left", "alpha": 1.5}], "features": [{"id": 3, "value": 7.0}], "error_term": False},
]


def check(llm: Any, oracle: Oracle, specs: list[dict[str, Any] | None], max_tokens: int = 8) -> None:
    """All specs in one continuous batch; each answer must be what Hugging Face would have said greedily."""
    prompts = [tiny.prompt(index % 5, 9 + index % 4) for index in range(len(specs))]
    params = SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, logprobs=0)
    outputs = llm.generate(prompts, params, steering=specs, use_tqdm=False)
    moved = 0
    for prompt, spec, output in zip(prompts, specs, outputs, strict=True):
        ids, answer = prompt["prompt_token_ids"], output.outputs[0]
        expected = oracle.logprobs([*ids, *answer.token_ids], spec, len(ids))[len(ids) - 1 : -1]
        plain = oracle.logprobs([*ids, *answer.token_ids], None, len(ids))[len(ids) - 1 : -1]
        for step, token in enumerate(answer.token_ids):
            got = answer.logprobs[step][token].logprob
            assert got == pytest.approx(float(expected[step, token]), abs=1e-3), (spec, step)
            assert float(expected[step].max() - expected[step, token]) < 1e-4, (spec, step)
        moved += bool((plain - expected).abs().max() > 0.01)
        check_receipt(output, len(ids), spec)
    assert moved > 0.8 * sum(spec is not None for spec in specs), "the specs hardly change anything: a weak test"


def check_receipt(output: Any, prompt_len: int, spec: dict[str, Any] | None) -> None:
    receipt = output.steering
    if spec is None:
        assert receipt is None
        return
    from .oracle import in_scope

    fed = prompt_len + len(output.outputs[0].token_ids) - 1
    assert receipt.tokens_in_scope == sum(in_scope(spec, p, prompt_len) for p in range(fed))
    assert receipt.tokens_steered + receipt.tokens_cached == receipt.tokens_in_scope
    assert receipt.tokens_cached <= output.num_cached_tokens


@pytest.fixture(scope="module")
def oracle(models: Callable[[str], Path], saes: Any, vectors: Any) -> Callable[[str], Oracle]:
    return lambda architecture: Oracle(models(architecture), saes, vectors, tiny.LAYER)


def test_every_operation(engines: Callable[..., Any], oracle: Callable[[str], Oracle]) -> None:
    check(engines(), oracle("Qwen2ForCausalLM"), grid())


def test_special_forms(engines: Callable[..., Any], oracle: Callable[[str], Oracle]) -> None:
    check(engines(), oracle("Qwen2ForCausalLM"), [*SPECIAL, None])


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "StableLmForCausalLM"])
def test_other_architectures(engines: Callable[..., Any], oracle: Callable[[str], Oracle], architecture: str) -> None:
    check(engines(architecture), oracle(architecture), [*grid()[::5], *SPECIAL, None])
