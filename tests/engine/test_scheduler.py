"""Whatever the scheduler does with a request, its tokens are those of the oracle."""

from collections.abc import Callable
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.sampling_params import RequestOutputKind

from . import tiny
from .oracle import check_output

pytestmark = pytest.mark.runner

SPECS: list[dict[str, Any] | None] = [
    {"features": [{"id": 5, "value": 9.0}]},
    {"features": [{"id": 6, "op": "set", "value": 12.0, "sae": "threshold"}], "where": "generated"},
    {"features": [{"id": 7, "op": "scale", "value": 3.0}], "where": "prompt", "error_term": False},
    None,
    {"features": [{"id": 8, "value": 9.0, "sae": "early"}], "where": {"start": -5}},
    {"vectors": [{"name": "left", "alpha": 1.0}], "skip_first": 20},
    {"features": [{"id": 9, "value": 12.0, "when": {"feature": 4, "above": 0.5}}]},
    {"features": [{"id": 9, "op": "min", "value": 6.0, "sae": "relu"}], "where": {"start": 10, "end": 70}},
]


def greedy(max_tokens: int, **more: Any) -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=max_tokens, ignore_eos=True, logprobs=0, **more)


def test_chunked_prefill(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    llm = engines(max_num_batched_tokens=16, max_num_seqs=8, enable_chunked_prefill=True)
    prompts = [tiny.prompt(seed, 50 + seed) for seed in range(len(SPECS))]
    for output, spec in zip(llm.generate(prompts, greedy(8), steering=SPECS, use_tqdm=False), SPECS, strict=True):
        check_output(output, oracles(), spec)


def test_preemption_and_recompute(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    llm = engines(num_gpu_blocks_override=13, max_num_seqs=8, disable_log_stats=False)
    before = num_preemptions(llm)
    prompts = [tiny.prompt(10 + seed, 40 + seed) for seed in range(len(SPECS))]
    outputs = llm.generate(prompts, greedy(60), steering=SPECS, use_tqdm=False)
    assert num_preemptions(llm) > before, "nothing was preempted: the test shows nothing"
    for output, spec in zip(outputs, SPECS, strict=True):
        check_output(output, oracles(), spec)


def num_preemptions(llm: Any) -> int:
    return next(m.value for m in llm.llm.get_metrics() if m.name == "vllm:num_preemptions")


def test_several_completions(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    llm = engines()
    params = SamplingParams(n=4, temperature=1.0, seed=3, max_tokens=8, ignore_eos=True, logprobs=0)
    prompts = [tiny.prompt(30 + index, 12) for index in range(len(SPECS))]
    for output, spec in zip(llm.generate(prompts, params, steering=SPECS, use_tqdm=False), SPECS, strict=True):
        assert len({tuple(answer.token_ids) for answer in output.outputs}) > 1
        check_output(output, oracles(), spec, greedy=False)


def test_aborts_and_streaming(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    """Half of the requests end in mid-flight; the others, streamed token by token, don't notice."""
    llm = engines()
    engine = llm.llm.llm_engine
    params = greedy(20, output_kind=RequestOutputKind.DELTA)
    prompts = [tiny.prompt(50 + index, 20) for index in range(len(SPECS))]
    for index, (prompt, own) in enumerate(zip(prompts, llm._params(params, SPECS, len(SPECS)), strict=True)):
        engine.add_request(f"r{index}", prompt, own)
    streamed: dict[str, list[int]] = {}
    for step in range(100):
        for output in engine.step():
            streamed.setdefault(output.request_id, []).extend(output.outputs[0].token_ids)
        if step == 5:
            engine.abort_request(["r0", "r2", "r6"], internal=False)
        if not engine.has_unfinished_requests():
            break
    whole = llm.generate(prompts, greedy(20), steering=SPECS, use_tqdm=False)
    for index, (output, spec) in enumerate(zip(whole, SPECS, strict=True)):
        check_output(output, oracles(), spec)
        got = streamed[f"r{index}"]
        expected = list(output.outputs[0].token_ids)
        assert got == expected[: len(got)]
        assert len(got) == 20 or index in (0, 2, 6)
    held = llm.llm.collective_rpc("tiller_gauges")[0]["rows_held"]
    assert held <= len(SPECS)


def test_order_of_the_batch_does_not_matter(engines: Callable[..., Any]) -> None:
    llm = engines()
    prompts = [tiny.prompt(70 + index, 15) for index in range(len(SPECS))]
    forward = llm.generate(prompts, greedy(12), steering=SPECS, use_tqdm=False)
    backward = llm.generate(prompts[::-1], greedy(12), steering=SPECS[::-1], use_tqdm=False)[::-1]
    alone = [llm.generate([p], greedy(12), steering=s, use_tqdm=False)[0] for p, s in zip(prompts, SPECS, strict=True)]
    for one, two, three in zip(forward, backward, alone, strict=True):
        assert one.outputs[0].token_ids == two.outputs[0].token_ids == three.outputs[0].token_ids
