"""Reading and editing the demo model's residual stream with a plain PyTorch hook, and sampling from the model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

LAYER = 15


@contextmanager
def residual_hook(model: Qwen2ForCausalLM, edit: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Calls `edit` with resid_post of layer 15 [batch, seq, d_model]; a tensor that it returns goes on instead."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return edit(output)
        edited = edit(output[0])
        return None if edited is None else (edited, *output[1:])

    handle = model.model.layers[LAYER].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def collect_residuals(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str], batch_size: int = 32
) -> Tensor:
    """resid_post of layer 15 [num_tokens, d_model] over `texts`, without each text's first token, an attention sink."""
    found: list[Tensor] = []
    with residual_hook(model, found.append):
        for start in tqdm(range(0, len(texts), batch_size), desc="residuals"):
            some = texts[start : start + batch_size]
            batch = tokenizer(some, padding=True, padding_side="right", return_tensors="pt")
            model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
            mask = batch["attention_mask"].bool()
            mask[:, 0] = False
            found[-1] = found[-1][mask]
    return torch.cat(found)


@torch.no_grad()
def sample(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    max_new_tokens: int = 60,
    temperature: float = 0.7,
    seed: int = 0,
) -> list[str]:
    """The model's continuations of `texts`, without special tokens; `temperature` 0 is greedy."""
    torch.manual_seed(seed)
    batch = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    out = cast(Any, model).generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        max_new_tokens=max_new_tokens,
        do_sample=temperature > 0,
        temperature=temperature or None,
        top_k=0,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
