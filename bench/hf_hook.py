"""The usual way to steer by an SAE: Hugging Face's `generate` with a forward hook, one request at a time."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from tiller.engine import Config
from tiller.engine.sae_loader import load_sae
from tiller.kernels.reference import decode, encode

SMALL_D_MODEL = 512


class HookedModel:
    """The model of `config` with `decode(encode(x) + value * e_feature)` in the place of its layer's output."""

    def __init__(self, config: Config, feature: int, value: float) -> None:
        entry = config.saes["default"]
        loaded = load_sae(config.resolve(entry.path), entry.subfolder, entry.layer, entry.activation)
        self.sae, self.feature, self.value = loaded.sae, feature, value
        layer = entry.layer if entry.layer is not None else loaded.layer
        path = Path(config.resolve(config.model))
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        self.model.model.layers[layer].register_forward_hook(self._replace)
        if self.sae.d_model <= SMALL_D_MODEL:
            torch.set_num_threads(1)  # matrices too small to split: the second thread makes it slower

    def _replace(self, module: Any, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else output[0]
        x = hidden[0]
        f = encode(x, self.sae)
        f[:, self.feature] += self.value
        new = decode(f, self.sae, x)[None]
        return new if isinstance(output, Tensor) else (new, *output[1:])

    @torch.inference_mode()
    def tokens_per_second(self, requests: list[dict[str, list[int]]], max_tokens: int) -> float:
        """Output tokens a second over `requests`, answered one after the other."""
        start = time.perf_counter()
        for request in requests:
            ids = torch.tensor([request["prompt_token_ids"]])
            self.model.generate(ids, max_new_tokens=max_tokens, min_new_tokens=max_tokens, do_sample=False)
        return len(requests) * max_tokens / (time.perf_counter() - start)
