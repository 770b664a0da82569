from typing import Any

import pytest
from vllm import SamplingParams

from tiller.engine import parse_spec
from tiller.evaluation.features import read_activations
from tiller.evaluation.generate import Pair, baseline_spec, generate_pairs, record_of
from tiller.evaluation.inputs import InputError

from .conftest import LAYER, PLANTED

PROMPTS = ["t20 t7 t31 t44", "t90 t91"]
PARAMS = SamplingParams(max_tokens=12, temperature=1.0, seed=3, ignore_eos=True)
SPEC = parse_spec({"features": [{"id": 3, "op": "set", "value": 60.0}, {"id": PLANTED, "op": "scale", "value": 1.0}]})


@pytest.fixture(scope="module")
def pairs(llm: Any) -> list[Pair]:
    return generate_pairs(llm, PROMPTS, SPEC, PARAMS)


def test_keys_of_the_record(llm: Any, pairs: list[Pair]) -> None:
    record = record_of(pairs[0], SPEC, PARAMS, llm)
    assert list(record)[:8] == [
        "feature_idx", "steering_strength", "layer", "prompt", "baseline_output", "steered_output",
        "baseline_feature_value", "config",
    ]  # fmt: skip
    assert (record["feature_idx"], record["steering_strength"], record["layer"]) == (3, 60.0, LAYER)
    assert record["config"] == {"max_new_tokens": 12, "temperature": 1.0}
    assert record["prompt"] == PROMPTS[0]
    assert record["baseline_output"] != record["steered_output"]
    assert record["receipt"]["tokens_steered"] == record["receipt"]["tokens_in_scope"] == 4 + 12 - 1
    assert parse_spec(record["steering"]) == SPEC


def test_baseline_value_is_the_mean_activation_over_the_unsteered_run(llm: Any, pairs: list[Pair]) -> None:
    record = record_of(pairs[0], SPEC, PARAMS, llm)
    run = f"{PROMPTS[0]} {record['baseline_output']}"
    fed = " ".join(run.split()[:-1])  # the last token is never fed to the model
    mean = read_activations(llm, [fed], skip_first=0).mean.toarray()[0]
    assert record["baseline_feature_values"] == pytest.approx({"3": mean[3], str(PLANTED): mean[PLANTED]}, rel=1e-4)
    assert record["baseline_feature_value"] == record["baseline_feature_values"]["3"]
    assert record["baseline_feature_values"][str(PLANTED)] > 0


def test_the_baseline_is_vllms_own_answer(llm: Any, pairs: list[Pair]) -> None:
    for i, pair in enumerate(pairs):
        params = PARAMS.clone()
        params.seed = 3 + i
        plain = llm.llm.generate(PROMPTS[i], params, use_tqdm=False)[0]
        assert pair.baseline.outputs[0].token_ids == plain.outputs[0].token_ids


def test_without_baseline(llm: Any, pairs: list[Pair]) -> None:
    alone = generate_pairs(llm, PROMPTS, SPEC, PARAMS, baseline=False)
    assert [p.steered.outputs[0].token_ids for p in alone] == [p.steered.outputs[0].token_ids for p in pairs]
    record = record_of(alone[0], SPEC, PARAMS, llm)
    assert record["baseline_output"] is record["baseline_feature_value"] is None


def test_a_spec_without_features_reads_nothing(llm: Any) -> None:
    spec = parse_spec({"error_term": False})
    assert baseline_spec(spec) is None
    record = record_of(generate_pairs(llm, PROMPTS[:1], spec, PARAMS)[0], spec, PARAMS, llm)
    assert record["feature_idx"] is record["steering_strength"] is record["layer"] is None
    assert record["receipt"]["tokens_steered"] == 15


@pytest.mark.parametrize(
    ("prompt", "chat", "message"),
    [
        ([{"role": "user", "content": "t5"}], False, "leave --no-chat out"),
        ([{"role": "user", "content": "t5"}], None, "no chat template"),
        ("t5", True, "no chat template"),
    ],
)
def test_chat_that_can_not_be(llm: Any, prompt: Any, chat: bool | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate_pairs(llm, [prompt], SPEC, PARAMS, chat)
