"""Shapes without weights are the public models' shapes, and the SAEs made up for them what they are said to be."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from tiller.bench import shapes
from tiller.bench.prompts import Lengths, check_config, engine_arguments, kv_bytes
from tiller.bench.shapes import DUMMY_RMS, SHAPES, Shape, materialise, model_config, shape_facts
from tiller.engine import compat, load_config
from tiller.engine.build_inventory import make_plan
from tiller.engine.errors import TillerError
from tiller.engine.sae.loader import load_sae
from tiller.kernels.reference import encode

PARAMETERS = {  # as their model cards count them, tied weights once
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "llama-3.1-8b": 8_030_261_248,
    "gemma-2-2b": 2_614_341_888,
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "cache_folder", lambda: tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_as_many_parameters_as_the_model(name):
    facts = shape_facts(name)
    config = AutoConfig.for_model(**facts)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SHAPES)
def test_vllm_and_the_planner_take_it(name, cache):
    """Without starting an engine: the SAE fits the layer, and vLLM's own checks pass."""
    config = check_config(model_config(name, features=96, k=4))
    plan = make_plan(config)
    facts = shape_facts(name)
    assert (plan.saes["default"].d_sae, plan.saes["default"].d_model) == (96, facts["hidden_size"])
    arguments = {**config.vllm_arguments(), **engine_arguments(config, [256, 1], Lengths(128, 128), True, 64)}
    vllm_config = compat.engine_config(arguments)
    compat.check_supported(vllm_config)
    assert vllm_config.load_config.load_format == "dummy"
    assert vllm_config.model_config.get_num_layers(vllm_config.parallel_config) == facts["num_hidden_layers"]


@pytest.mark.parametrize("activation", ["topk", "threshold"])
def test_k_features_are_active_at_a_token(tmp_path, activation):
    num, d_model, k = 2048, 128, 16
    shapes.write_sae(tmp_path, d_model, num, k, activation, Shape(3, num, k))
    found = load_sae(tmp_path, layer=3)
    assert found.sae.activation == activation and found.d_sae == num
    x = DUMMY_RMS * torch.randn(500, d_model, generator=torch.Generator().manual_seed(1))
    active = (encode(x, found.sae) > 0).sum(1).float()
    # A token's count is binomial with mean k; of 500 its mean has a standard deviation below 0.2, and x's norm adds as much.
    assert active.mean() == k if activation == "topk" else abs(float(active.mean()) - k) < 1.5


def test_its_tokenizer_has_a_word_for_each_token(cache):
    config = load_config(materialise("qwen2.5-0.5b", 96, 4, "topk", cache))
    tokenizer = AutoTokenizer.from_pretrained(config.vllm_arguments()["tokenizer"])
    assert len(tokenizer) == shape_facts("qwen2.5-0.5b")["vocab_size"]
    assert tokenizer.decode([5, 100]) == "t5 t100"


def test_it_is_made_once_and_again_when_it_changes(cache):
    first = materialise("qwen2.5-0.5b", 96, 4, "topk", cache)
    stamp = (first.parent / "sae" / "ae.pt").stat().st_mtime_ns
    assert materialise("qwen2.5-0.5b", 96, 4, "topk", cache) == first
    assert (first.parent / "sae" / "ae.pt").stat().st_mtime_ns == stamp
    assert materialise("qwen2.5-0.5b", 96, 5, "topk", cache) != first
    assert load_config(first).saes["default"].layer == SHAPES["qwen2.5-0.5b"].layer


def test_a_config_keeps_its_own_sae(cache):
    assert model_config("demo") == "demo"
    with pytest.raises(TillerError, match="'demo' has its own SAE"):
        model_config("demo", features=96)
    with pytest.raises(TillerError, match="--k: 96 given; it must be below the number of features, 96"):
        model_config("qwen2.5-0.5b", features=96, k=96)


def test_room_for_keys_and_values():
    """Qwen2.5-7B: 28 layers, 4 heads of 128, keys and values of 2 bytes."""
    model = AutoConfig.for_model(**shape_facts("qwen2.5-7b"))
    assert kv_bytes(model, 10, 2) == 10 * 28 * 4 * 128 * 2 * 2


def test_a_request_too_long_is_refused():
    with pytest.raises(TillerError, match="--max-tokens: 1200 tokens in a request"):
        engine_arguments(load_config("demo"), [4], Lengths(600, 600), True, 0)
