"""The usual way to steer by an SAE: Hugging Face's `generate` with a forward hook that puts decode(encode(x) + value e) in the
place of the layer's output, one request at a time or in one batch.

It runs in our own environment; encoder and decoder are plain torch on the weights' dtype.
"""

from pathlib import Path
from typing import Any

from .protocol import Order, Prepare, answer


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tiller.bench.prompts import text_config
    from tiller.engine import load_config
    from tiller.engine.sae.loader import load_sae
    from tiller.engine.server.launch import SMALL_D_MODEL
    from tiller.kernels.reference import decode, encode

    config = load_config(job["config"])
    if text_config(config).hidden_size <= SMALL_D_MODEL:
        torch.set_num_threads(1)  # matrices too small to split: the second thread makes it slower
    entry = config.saes["default"]
    loaded = load_sae(config.resolve(entry.path), entry.subfolder, entry.layer, entry.activation)
    layer = entry.layer if entry.layer is not None else loaded.layer
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    path = Path(config.resolve(config.model))
    dtype = getattr(torch, config.engine["dtype"]) if "dtype" in config.engine else "auto"
    if any(path.glob("*.safetensors")):
        model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
        model.to(device)
    else:  # a shape: weights of transformers' own initialisation
        facts = AutoConfig.from_pretrained(path)
        with torch.device(device):
            model = AutoModelForCausalLM.from_config(facts, dtype=facts.dtype)
    model.eval().generation_config.eos_token_id = None
    sae = loaded.sae.to(device, torch.float32 if device.type == "cpu" else model.dtype)
    edit: dict[str, Any] = {}

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        hidden = output if isinstance(output, torch.Tensor) else output[0]
        x = hidden.flatten(0, -2).float()
        f = encode(x, sae)
        f[:, edit["id"]] += edit["value"]
        new = decode(f, sae, x).to(hidden.dtype).view_as(hidden)
        return new if isinstance(output, torch.Tensor) else (new, *output[1:])

    model.model.layers[layer].register_forward_hook(replace)

    def prepare(order: Order) -> Any:
        edit.update(order["specs"][0]["features"][0])
        ids = torch.tensor(order["prompts"], device=device)
        parts = ids.split(1 if order.get("one_by_one") else len(ids))
        num = order["max_tokens"]
        own = {"max_new_tokens": num, "min_new_tokens": num, "do_sample": False, "pad_token_id": 0}

        @torch.inference_mode()
        def call() -> int:
            made = [model.generate(part, attention_mask=torch.ones_like(part), **own) for part in parts]
            return sum(int(len(part) * (part.shape[1] - ids.shape[1])) for part in made)

        return call, lambda tokens: {"tokens": tokens, "steered_tokens": tokens + ids.numel() - len(ids)}

    return {"device": str(device), "dtype": str(model.dtype).removeprefix("torch.")}, prepare


if __name__ == "__main__":
    answer(load)
