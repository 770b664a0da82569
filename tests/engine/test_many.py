"""Thousands of steered requests in one call: each has its receipt, and the workers hold few records at any moment."""

from collections.abc import Callable
from typing import Any

import pytest

from tiller.engine import SpecError, compat, pacing

from . import tiny
from .test_scheduler import greedy

EDIT = {"features": [{"id": 11, "value": 4.0}]}
BATCH = 256
MANY = 9000  # more than the 8,192 records that a worker keeps of callers that never ask


def peaks(llm: Any) -> Any:
    """Lets the engine's steps note how many records the worker holds: the largest number so far, as a list of one."""
    steering, seen = llm.llm.llm_engine.model_executor.driver_worker.model_runner.get_model().tiller, [0]
    record = steering._record

    def noted(*args: Any) -> int:
        number = record(*args)
        seen[0] = max(seen[0], len(steering.records))
        return number

    steering._record = noted
    return seen


def test_a_call_of_thousands_has_every_receipt(engines: Callable[..., Any]) -> None:
    llm = engines(max_num_seqs=BATCH, max_num_batched_tokens=1024)
    peak = peaks(llm)
    prompts = [{"prompt_token_ids": [2 + number % 500]} for number in range(MANY)]
    outputs = llm.generate(prompts, greedy(1), steering=EDIT, use_tqdm=False)
    assert [output.prompt_token_ids for output in outputs] == [prompt["prompt_token_ids"] for prompt in prompts]
    assert {output.steering.tokens_steered + output.steering.tokens_cached for output in outputs} == {1}
    assert peak[0] <= pacing.CLAIM_EVERY + 2 * BATCH
    assert llm.llm.collective_rpc("tiller_gauges") == [{"admitted": 0, "rows_held": 0, "records": 0}]


def test_pacing_changes_no_answer(engines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A window smaller than the batch, with completions of several lengths and unsteered requests between steered ones."""
    llm = engines()
    prompts = [tiny.prompt(seed, 3 + seed % 9) for seed in range(40)]
    params = [greedy(1 + number % 7) for number in range(40)]
    specs = [EDIT if number % 3 else None for number in range(40)]
    whole = llm.generate(prompts, params, steering=specs, use_tqdm=False)
    monkeypatch.setattr("tiller.engine.llm.MIN_OPEN", 3)
    monkeypatch.setattr(llm.llm.llm_engine.vllm_config.scheduler_config, "max_num_seqs", 0)
    paced = llm.generate(prompts, params, steering=specs, use_tqdm=True)
    assert [o.outputs[0].token_ids for o in paced] == [o.outputs[0].token_ids for o in whole]
    assert [o.steering is None for o in paced] == [spec is None for spec in specs]


def test_a_call_that_fails_leaves_nothing_behind(engines: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    llm = engines()
    monkeypatch.setattr("tiller.engine.llm.MIN_OPEN", 4)
    monkeypatch.setattr(llm.llm.llm_engine.vllm_config.scheduler_config, "max_num_seqs", 0)
    too_long = {"prompt_token_ids": [5] * 400}
    with pytest.raises(compat.refusals(), match="400 input tokens"):
        llm.generate([tiny.prompt(1, 4)] * 9 + [too_long], greedy(4), steering=EDIT, use_tqdm=False)
    with pytest.raises(SpecError):
        llm.generate([tiny.prompt(1, 4)], greedy(4), steering={"features": [{"id": 10**6, "value": 1.0}]})
    (output,) = llm.generate([tiny.prompt(1, 4)], greedy(4), steering=EDIT, use_tqdm=False)
    assert output.steering.tokens_in_scope == 7
    assert llm.llm.collective_rpc("tiller_gauges")[0]["records"] == 0
