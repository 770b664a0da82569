"""What every arm is asked: prompts of tokens, the same for all, and the room that they need in the cache of keys and values."""

import json
import os
import random
import sys
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from tiller.engine import Config, load_config
from tiller.engine.errors import TillerError

from .child import Child

SHARED_LEN, OWN_LEN = 512, 8  # tokens of the long prompt, and of each request's own behind it
BLOCK = 128  # largest block that a cache is cut into


class Lengths(NamedTuple):
    """Tokens of each prompt, and of each answer."""

    prompt: int
    answer: int


def prompts(num: int, length: int, vocab_size: int, shared: bool = False) -> list[list[int]]:
    """Random tokens, the same in every process; with `shared`, SHARED_LEN common ones and OWN_LEN of each prompt's own."""
    rng = random.Random(0)
    common = [rng.randrange(3, vocab_size) for _ in range(SHARED_LEN if shared else 0)]
    own = OWN_LEN if shared else length
    return [common + [rng.randrange(3, vocab_size) for _ in range(own)] for _ in range(num)]


def text_config(config: Config) -> Any:
    """The model's own config, as transformers reads it."""
    return AutoConfig.from_pretrained(config.resolve(config.model)).get_text_config()


def kv_bytes(model: Any, num_tokens: int, itemsize: int) -> int:
    """Keys and values of `num_tokens` tokens in every layer."""
    head_dim = getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads
    return 2 * model.num_hidden_layers * model.num_key_value_heads * head_dim * itemsize * num_tokens


def blocks(num: int, length: int) -> int:
    """Tokens that `num` requests of `length` take up, in whole blocks."""
    return num * BLOCK * -(-length // BLOCK)


def engine_arguments(config: Config, batches: list[int], lengths: Lengths, eager: bool, shared: int) -> dict[str, Any]:
    """vLLM's arguments for all arms alike; `shared` is how many requests at most hold the long prompt.

    Raises TillerError where the config's engine can't hold a request.
    """
    model = text_config(config)
    longest = max(sum(lengths), (SHARED_LEN + OWN_LEN + lengths.answer) if shared else 0)
    limit = config.engine.get("max_model_len", model.max_position_embeddings)
    if longest > limit:
        raise TillerError(f"{longest} tokens in a request, but the engine's max_model_len is {limit}", "--max-tokens")
    needed = max(blocks(max(batches), sum(lengths)), blocks(shared, SHARED_LEN + OWN_LEN + lengths.answer))
    itemsize = dtype_of(config, model).itemsize
    arguments: dict[str, Any] = {"enforce_eager": eager, "max_num_seqs": max(batches), "enable_prefix_caching": True}
    arguments["kv_cache_memory_bytes"] = kv_bytes(model, needed + 64 * BLOCK, itemsize)
    if torch.cuda.is_available():
        arguments["gpu_memory_utilization"] = 0.3  # three engines live side by side
    return arguments


def dtype_of(config: Config, model: Any) -> torch.dtype:
    """Of the weights, as the engine runs them."""
    given = config.engine.get("dtype") or model.dtype or torch.bfloat16
    return getattr(torch, given) if isinstance(given, str) else given


def engine_child(kind: str, config: str, engine: dict[str, Any]) -> Child:
    """vLLM without ("plain") or with ("steered") Tiller, or ("toolkit") Hugging Face with a hook."""
    module = "rivals.toolkit" if kind == "toolkit" else "engine_process"
    job = {"kind": kind, "config": config, "engine": engine}
    return Child([sys.executable, "-m", f"tiller.bench.{module}", json.dumps(job)], environment(kind))


def environment(kind: str) -> dict[str, str]:
    """Of an engine's process: as the user's, with vLLM's own choice of processes, which `tiller` changes for itself."""
    own = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    return {**own, "VLLM_LOGGING_LEVEL": "ERROR", "TILLER_DISABLE": "1" if kind == "plain" else "0"}


def check_config(name: str) -> Config:
    """Raises TillerError where there is no such config, or it has no SAE named default."""
    config = load_config(name)
    if "default" not in config.saes:
        raise TillerError("the benchmark edits features of the SAE named 'default', and there is none", "saes")
    return config
