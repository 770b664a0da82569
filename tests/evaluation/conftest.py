"""A tiny random model with an SAE of which one feature is planted: it fires at the token t7 and nowhere else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

LAYER, D_MODEL, D_SAE, K, VOCAB_SIZE = 2, 64, 96, 8, 512
PLANTED, PLANTED_TOKEN = 11, 7
CONFIG = """\
model: model
saes:
  default: {path: sae, layer: 2}
profiles:
  strong: {features: [{id: 3, op: set, value: 30.0}]}
engine: {max_model_len: 256, max_num_seqs: 16, max_num_batched_tokens: 512, dtype: float32, enforce_eager: true,
         enable_chunked_prefill: false, kv_cache_memory_bytes: 67108864}
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with model/, sae/ and config.yaml."""
    root = tmp_path_factory.mktemp("tiny")
    model = write_model(root / "model")
    write_sae(root / "sae", model)
    (root / "config.yaml").write_text(CONFIG)
    return root


@pytest.fixture(scope="session")
def llm(tiny: Path) -> Iterator[Any]:
    """One engine for all tests of this folder, in processes of its own so that it can live beside others."""
    from tiller.evaluation.boot import boot

    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn", "OMP_NUM_THREADS": "1"}
    with patch.dict(os.environ, own), boot(tiny / "config.yaml", capture=True) as engine:
        yield engine


def write_model(folder: Path) -> MistralForCausalLM:
    """Of a family whose tokenizer.json AutoTokenizer takes as it is; for a Qwen2 it puts its own splitting there."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCAB_SIZE, hidden_size=D_MODEL, intermediate_size=128, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=False, initializer_range=0.3,
        bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        model.model.norm.weight.copy_(torch.rand(D_MODEL) + 0.5)
        model.model.embed_tokens.weight[PLANTED_TOKEN] *= 100  # stays visible in the residual after LAYER
    model.save_pretrained(folder)
    words = ["<unk>", "<eos>", *(f"t{i}" for i in range(2, VOCAB_SIZE))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)
    return model


@torch.no_grad()
def residuals(model: MistralForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """resid_post of LAYER [batch, num_tokens, d_model]."""
    return model(input_ids=ids, output_hidden_states=True).hidden_states[LAYER + 1]


def write_sae(folder: Path, model: MistralForCausalLM) -> None:
    folder.mkdir()
    torch.manual_seed(1)
    W_enc, b_enc = 0.1 * torch.randn(D_SAE, D_MODEL), 0.1 * torch.randn(D_SAE)
    ids = torch.randint(20, VOCAB_SIZE, (64, 12))
    ids[:, 6] = PLANTED_TOKEN
    x = residuals(model, ids)
    planted, others = x[:, 6], torch.cat([x[:, :6], x[:, 7:]], dim=1).flatten(0, 1)
    direction = planted.mean(0) - others.mean(0)
    direction /= direction.norm()
    low, high = (others @ direction).max(), (planted @ direction).min()
    assert low < high, "the token can't be told from others along one direction"
    scale = 500 / (high - low)
    W_enc[PLANTED] = scale * direction
    b_enc[PLANTED] = -scale * (low + high) / 2
    state = {
        "encoder.weight": W_enc,
        "encoder.bias": b_enc,
        "decoder.weight": torch.nn.functional.normalize(torch.randn(D_MODEL, D_SAE), dim=0),
        "b_dec": torch.zeros(D_MODEL),
        "k": torch.tensor(K, dtype=torch.int32),
        "threshold": torch.tensor(-1.0),
    }
    torch.save(state, folder / "ae.pt")
    trainer = {"dict_class": "AutoEncoderTopK", "activation_dim": D_MODEL, "dict_size": D_SAE, "k": K, "layer": LAYER}
    trainer |= {"lm_name": "tiny", "submodule_name": f"resid_post_layer_{LAYER}"}
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
