"""Tiny random models, SAEs and vectors, written in the formats that real ones come in."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

D_MODEL, NUM_LAYERS, VOCAB = 64, 4, 512
LAYER, OTHER_LAYER = 2, 1
D_SAE, K = 96, 8
ENGINE = {
    "enforce_eager": True,
    "dtype": "float32",
    "max_model_len": 256,
    "max_num_seqs": 32,
    "max_num_batched_tokens": 512,
    "kv_cache_memory_bytes": 64 << 20,
    "block_size": 32,
    "seed": 0,
}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": D_MODEL,
    "intermediate_size": 128,
    "num_hidden_layers": NUM_LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "initializer_range": 0.25,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_EXTRA: dict[str, dict[str, Any]] = {
    "Qwen2MoeForCausalLM": {"num_experts": 4, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    "Qwen3MoeForCausalLM": {"num_experts": 4, "moe_intermediate_size": 64, "num_experts_per_tok": 2},
    "GPT2LMHeadModel": {"n_embd": D_MODEL, "n_layer": NUM_LAYERS, "n_head": 2, "n_positions": 512},
    "Gemma2ForCausalLM": {"query_pre_attn_scalar": 32, "sliding_window": 64},
    "Gemma3ForCausalLM": {"query_pre_attn_scalar": 32, "sliding_window": 64, "sliding_window_pattern": 2},
}


def write_model(folder: Path, architecture: str) -> None:
    """A random model of `architecture` in Hugging Face's layout, in float32; same seed, same weights."""
    model_class = getattr(transformers, architecture)
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**{**_SHAPE, **_EXTRA.get(architecture, {})}))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:  # a norm weight of one, or a bias of zero, would hide a mistake
            torch.nn.init.normal_(parameter, 1.0 if "norm" in name or "ln" in name else 0.0, 0.1)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="t0", eos_token="t1").save_pretrained(folder)


def write_saes(root: Path) -> dict[str, dict[str, Any]]:
    """SAEs of each activation for `LAYER`, and one more for `OTHER_LAYER`; their names say which."""
    made = {
        "default": ("AutoEncoderTopK", LAYER, {"k": torch.tensor(K, dtype=torch.int32)}),
        "threshold": ("BatchTopKSAE", LAYER, {"k": torch.tensor(K), "threshold": torch.tensor(2.0)}),
        "relu": ("AutoEncoder", LAYER, {}),
        "gated": ("GatedAutoEncoder", LAYER, {}),
        "early": ("AutoEncoderTopK", OTHER_LAYER, {"k": torch.tensor(K, dtype=torch.int32)}),
    }
    return {
        name: _write_sae(root / name, index, dict_class, layer, extra)
        for index, (name, (dict_class, layer, extra)) in enumerate(made.items())
    }


def _write_sae(folder: Path, seed: int, dict_class: str, layer: int, extra: dict[str, Any]) -> dict[str, Any]:
    folder.mkdir()
    g = torch.Generator().manual_seed(100 + seed)
    encoder = torch.randn(D_SAE, D_MODEL, generator=g) / D_MODEL**0.5
    decoder = torch.nn.functional.normalize(encoder + 0.3 * torch.randn(D_SAE, D_MODEL, generator=g) / 8, dim=1).T
    state = {"encoder.weight": encoder, "decoder.weight": decoder.contiguous()}
    bias, b_dec = 0.1 * torch.randn(D_SAE, generator=g), 0.1 * torch.randn(D_MODEL, generator=g)
    if dict_class == "GatedAutoEncoder":
        rest = {"r_mag": bias, "gate_bias": -bias, "mag_bias": 0.5 * bias, "decoder_bias": b_dec}
    elif dict_class == "AutoEncoder":
        rest = {"encoder.bias": bias, "bias": b_dec}
    else:
        rest = {"encoder.bias": bias, "b_dec": b_dec}
        extra = {"threshold": torch.tensor(-1.0), **extra}
    torch.save({**state, **rest, **extra}, folder / "ae.pt")
    trainer = {
        "dict_class": dict_class,
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "layer": layer,
        "lm_name": "tiny",
    }
    if "k" in extra:
        trainer["k"] = int(extra["k"])
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return {"path": str(folder), "layer": layer}


def write_vectors(root: Path) -> dict[str, str]:
    g = torch.Generator().manual_seed(7)
    paths = {}
    for name in ("left", "right"):
        paths[name] = str(root / f"{name}.safetensors")
        save_file({"vector": torch.randn(D_MODEL, generator=g)}, paths[name], metadata={"layer": str(LAYER)})
    return paths


def prompt(seed: int, length: int) -> dict[str, list[int]]:
    """A prompt of random token ids."""
    g = torch.Generator().manual_seed(seed)
    return {"prompt_token_ids": torch.randint(2, VOCAB, (length,), generator=g).tolist()}
