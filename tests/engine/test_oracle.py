"""Real vLLM against Hugging Face with a plain hook: every operation, wherever it applies, on every activation."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from vllm import SamplingParams

from . import tiny
from .oracle import Oracle, check_output

pytestmark = pytest.mark.runner

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
        cases.append({"features": [{**op, "id": i, "sae": sae} for i in ids], "error_term": keep, "where": where})
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
    {
        "vectors": [
            {"name": "left", "alpha": -2.0, "mode": "orthogonal"},
            {"name": "right", "alpha": 0.1, "mode": "cap"},
        ]
    },
    {"vectors": [{"name": "left", "alpha": 0.05, "mode": "cap", "unit": "norm"}], "where": "generated"},
    {"vectors": [{"name": "left", "alpha": 1.5}], "features": [{"id": 3, "value": 7.0}], "error_term": False},
]


def check_batch(llm: Any, oracle: Oracle, specs: list[dict[str, Any] | None]) -> None:
    """All specs in one continuous batch, each against the oracle."""
    prompts = [tiny.prompt(index % 5, 9 + index % 4) for index in range(len(specs))]
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=0)
    outputs = llm.generate(prompts, params, steering=specs, use_tqdm=False)
    moved = [check_output(output, oracle, spec) for output, spec in zip(outputs, specs, strict=True)]
    assert sum(moved) > 0.8 * sum(spec is not None for spec in specs), "the specs hardly change anything: a weak test"


def test_every_operation(engines: Callable[..., Any], oracles: Callable[[str], Oracle]) -> None:
    check_batch(engines(), oracles("Qwen2ForCausalLM"), grid())


def test_special_forms(engines: Callable[..., Any], oracles: Callable[[str], Oracle]) -> None:
    check_batch(engines(), oracles("Qwen2ForCausalLM"), [*SPECIAL, None])


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Gemma2ForCausalLM", "StableLmForCausalLM"])
def test_other_architectures(engines: Callable[..., Any], oracles: Callable[[str], Oracle], architecture: str) -> None:
    check_batch(engines(architecture), oracles(architecture), [*grid()[::5], *SPECIAL, None])


def test_compiled(engines: Callable[..., Any], oracles: Callable[[str], Oracle]) -> None:
    llm = engines(enforce_eager=False)
    check_batch(llm, oracles("Qwen2ForCausalLM"), [*grid()[::3], *SPECIAL, None])
