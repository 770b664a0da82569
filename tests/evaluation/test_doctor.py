from typing import Any

import pytest
import torch

from tiller.evaluation.doctor import (
    capture,
    check_residual,
    describe_saes,
    describe_worker,
    load_hf,
    run_checks,
    token_ids,
    versions,
)

from .conftest import LAYER


def test_a_sound_engine_passes(llm: Any) -> None:
    checks = list(run_checks(llm))
    assert [check.passed for check in checks] == [True, True, True], checks
    assert f"residual at layer {LAYER}" in checks[0].name
    assert "24 of 24 tokens steered" in checks[1].detail
    assert "log-probabilities" in checks[2].detail


def test_without_hugging_face(llm: Any) -> None:
    checks = list(run_checks(llm, with_hf=False))
    assert [check.passed for check in checks] == [True]


def test_an_sae_that_may_belong_elsewhere_passes_nothing(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    doubted = llm.plan.saes["default"].model_copy(update={"doubts": ["trained on another model"]})
    monkeypatch.setattr(llm, "plan", llm.plan.model_copy(update={"saes": {"default": doubted}}))
    residual, doubt, *checks = run_checks(llm)
    assert residual.passed is True and "trained on another model" in doubt.detail
    assert [check.passed for check in (doubt, *checks)] == [None, None, None]


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_another_layers_residual_fails(llm: Any, layer: int) -> None:
    ids = token_ids(llm)
    hf = load_hf(llm)
    with hf.recorded() as seen:
        hf.next_logprobs(ids)
    check = check_residual(llm, layer, capture(llm, ids)[LAYER], seen)
    assert not check.passed
    assert f"closest layer of 4: {LAYER}" in check.detail


def test_a_slightly_wrong_residual_fails(llm: Any) -> None:
    ids = token_ids(llm)
    hf = load_hf(llm)
    with hf.recorded() as seen:
        hf.next_logprobs(ids)
    x = seen[LAYER] * 1.01
    assert not check_residual(llm, LAYER, x, seen).passed
    assert len(seen) == 4 and not torch.equal(seen[0], seen[1])


def test_what_it_says_of_the_saes(llm: Any) -> None:
    (sae,) = describe_saes(llm.plan)
    assert (sae["name"], sae["format"], sae["activation"]) == ("default", "dictionary_learning", "topk 8")
    assert (sae["d_sae"], sae["d_model"], sae["layer"]) == ("96", "64", "2")


def test_it_says_which_kernels_run(llm: Any) -> None:
    assert describe_worker(llm) == {"runner": "v1", "kernels": "reference"}
    llm.workers[0].update(kernels="triton", scratch_bytes=3 << 20)
    assert describe_worker(llm)["kernels"] == "triton, 3 MiB of buffers"
    llm.workers[0].update(kernels="reference", scratch_bytes=0)


def test_versions_name_what_is_installed() -> None:
    assert {"python", "platform", "vllm-tiller", "torch", "transformers"} <= versions().keys()
