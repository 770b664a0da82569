"""No request can harm another: what it asks is refused, or bounded, or stays its own."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from vllm import SamplingParams

from tiller.engine import SpecError, SteeredLLM, TillerError, UnsupportedError

from . import tiny
from .oracle import check_output
from .test_scheduler import greedy

HUGE: list[dict[str, Any]] = [
    {"features": [{"id": 5, "value": 1e38}]},
    {"features": [{"id": 5, "value": -1e308}, {"id": 6, "value": 1e308}]},
    {"features": [{"id": i, "value": 1e30 * (-1) ** i} for i in range(64)], "error_term": False},
    {"features": [{"id": 5, "op": "set", "value": 1e38, "sae": "relu", "unit": "norm"}]},
    {"features": [{"id": 5, "op": "scale", "value": 1e38, "sae": "gated"}], "norm": "preserve"},
    {"vectors": [{"name": "left", "alpha": 1e38, "unit": "norm"}]},
    {"vectors": [{"name": "left", "alpha": -1e38, "mode": "orthogonal"}, {"name": "right", "alpha": 1e38}]},
]


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.runner), "float16"])
def test_huge_values_harm_nobody(engines: Callable[..., Any], oracles: Callable[..., Any], dtype: str) -> None:
    """Neighbours in flight and requests that get the same KV blocks later answer as if they were alone."""
    llm = engines(num_gpu_blocks_override=17, max_num_seqs=8, dtype=dtype)
    prompts = [tiny.prompt(900 + index, 30) for index in range(8)]
    alone = llm.generate(prompts, greedy(24), use_tqdm=False)
    for spec in HUGE:
        mixed = llm.generate(prompts, greedy(24), steering=[spec, None] * 4, use_tqdm=False)
        after = llm.generate(prompts, greedy(24), use_tqdm=False)
        for before, during, later in zip(alone, mixed, after, strict=True):
            assert all(-1e4 < logprob < 1e-3 for logprob in logprobs(during)), "not a finite distribution"
            assert later.outputs[0].token_ids == before.outputs[0].token_ids
        for before, during in zip(alone[1::2], mixed[1::2], strict=True):
            assert during.outputs[0].token_ids == before.outputs[0].token_ids
    if dtype == "float32":
        check_output(alone[0], oracles(), None)


def logprobs(output: Any) -> list[float]:
    answer = output.outputs[0]
    return [answer.logprobs[step][token].logprob for step, token in enumerate(answer.token_ids)]


BAD: list[tuple[Any, str]] = [
    ({"features": [{"id": 96, "value": 1.0}]}, "steering.features[0].id"),
    ({"features": [{"id": -1, "value": 1.0}]}, "steering.features[0].id"),
    ({"features": [{"id": 5, "value": float("nan")}]}, "steering.features[0].value"),
    ({"features": [{"id": 5, "value": float("inf")}]}, "steering.features[0].value"),
    ({"features": [{"id": 5, "value": "4"}]}, "steering.features[0].value"),
    ({"features": [{"id": 5, "value": 1.0, "sae": "nobody"}]}, "steering.features[0].sae"),
    ({"features": [{"id": 5, "value": 1.0, "unit": "max_act"}]}, "steering.features[0].unit"),
    ({"features": [{"id": 5, "value": 1.0, "when": {"feature": 96}}]}, "steering.features[0].when.feature"),
    ({"features": [{"id": 5, "value": 1.0}, {"id": 6}]}, "steering.features[1].value"),
    ({"features": [{"id": i % 96, "value": 1.0} for i in range(10_000)]}, "steering.features"),
    ({"vectors": [{"name": "nobody", "alpha": 1.0}]}, "steering.vectors[0].name"),
    ({"vectors": [{"name": "left", "alpha": 1.0, "unit": "max_act"}]}, "steering.vectors[0].unit"),
    ({"where": {"start": 9, "end": 4}}, "steering.where"),
    ({"where": "everywhere"}, "steering.where"),
    ({"strength": 4}, "steering.strength"),
    ({"read": {"top": 10**6}}, "steering.read.top"),
    ("{not json", "steering"),
    ([1, 2], "steering"),
]


@pytest.mark.parametrize(("spec", "field"), BAD, ids=[f"{field}-{i}" for i, (_, field) in enumerate(BAD)])
def test_bad_specs_are_refused_by_name(engines: Callable[..., Any], spec: Any, field: str) -> None:
    llm = engines()
    with pytest.raises(SpecError) as caught:
        llm.generate([tiny.prompt(1, 5)], greedy(2), steering=[spec], use_tqdm=False)
    assert caught.value.field == field
    assert isinstance(caught.value, TillerError) and isinstance(caught.value, ValueError)


@pytest.mark.runner
def test_bad_specs_are_refused_at_vllms_own_door(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    """Callers who use vLLM's API with `extra_args` get the same check, as vLLM's own error; the engine serves on."""
    from vllm.exceptions import VLLMValidationError

    llm = engines()
    for spec, field in BAD:
        given = spec if isinstance(spec, str | list) else json.loads(json.dumps(spec))
        with pytest.raises(VLLMValidationError) as caught:
            llm.llm.generate([tiny.prompt(1, 5)], SamplingParams(extra_args={"steering": given}), use_tqdm=False)
        assert caught.value.parameter == field
        # A refused batch leaves what it had already queued behind; vLLM must still answer the next one.
    good = {"features": [{"id": 5, "value": 9.0}]}
    check_output(llm.generate([tiny.prompt(2, 9)], greedy(4), steering=good, use_tqdm=False)[0], oracles(), good)


def test_extra_args_steer_too(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    spec = {"features": [{"id": 5, "op": "set", "value": 12.0}]}
    params = [greedy(6, extra_args={"steering": given}) for given in (spec, json.dumps(spec))]
    outputs = engines().generate([tiny.prompt(3, 9)] * 2, params, use_tqdm=False)
    for output in outputs:
        check_output(output, oracles(), spec)


def test_beam_search_is_refused(engines: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedError, match="beam search"):
        engines().beam_search([tiny.prompt(1, 5)])


def test_set_ups_that_would_share_steered_blocks_are_refused(models: Callable[[str], Any], saes: Any) -> None:
    """A KV connector that keys blocks by tokens alone; said before any worker starts."""
    transfer = {"kv_connector": "ExampleConnector", "kv_role": "kv_both"}
    with pytest.raises(UnsupportedError, match="ExampleConnector keys blocks by tokens alone.*Turn it off"):
        SteeredLLM(str(models("Qwen2ForCausalLM")), saes=saes, kv_transfer_config=transfer, **tiny.ENGINE)


@pytest.mark.runner
def test_edits_without_effect_are_bit_identical(engines: Callable[..., Any]) -> None:
    """Zero strength, scale 1, an open clamp, reading: rows whose x' equals x are not written at all."""
    llm = engines()
    prompts = [tiny.prompt(40, 20)]
    plain = llm.generate(prompts, greedy(12, skip_reading_prefix_cache=True), use_tqdm=False)[0]
    idle: list[dict[str, Any]] = [
        {"features": [{"id": 5, "value": 0.0}]},
        {"features": [{"id": 5, "op": "scale", "value": 1.0}]},
        {"features": [{"id": 5, "op": "min", "value": -1.0}]},
        {"features": [{"id": 5, "op": "max", "value": 1e9}]},
        {"features": [{"id": 5, "value": 50.0, "when": {"feature": 5, "above": 1e9}}]},
        {"features": [{"id": 5, "value": 50.0}], "max_norm": 1e-6},
        {"vectors": [{"name": "left", "alpha": 2.5}, {"name": "left", "alpha": -2.5}]},
        {"vectors": [{"name": "left", "alpha": 1.0, "mode": "orthogonal"}]},
        {"read": {"features": [3, 4], "top": 5}},
        {},
    ]
    for spec in idle:
        again = llm.generate(prompts, greedy(12), steering=spec, use_tqdm=False)[0]
        assert again.outputs[0].token_ids == plain.outputs[0].token_ids, spec
        assert logprobs(again) == logprobs(plain), spec


@pytest.mark.runner
def test_rows_are_freed(engines: Callable[..., Any]) -> None:
    llm = engines()
    specs = [{"features": [{"id": i, "value": 1.0}]} for i in range(60)]
    llm.generate([tiny.prompt(i, 5) for i in range(60)], greedy(3), steering=specs, use_tqdm=False)
    llm.generate([tiny.prompt(1, 5)], greedy(2), use_tqdm=False)
    assert llm.llm.collective_rpc("tiller_gauges")[0] == {"admitted": 0, "rows_held": 0, "records": 0}
