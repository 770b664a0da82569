"""Trains the demo language model: a small Qwen2 on an endless stream of corpus documents, resumable at any moment."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from .corpus import document
from .residual import residual_hook

CHECKPOINT = "lm_checkpoint.pt"


@dataclass(frozen=True)
class LMConfig:
    """Sizes and schedule; one step is `num_rows` packed rows of `seq_len` tokens, every tenth step has longer rows.

    From step `noise_from` on, random noise of up to `noise` times a token's norm is added to the layer that will be
    steered, so that the layers after it keep a word together under an edit instead of relying on exact values.
    """

    num_steps: int = 1300
    horizon_steps: int = 1700
    cooldown_steps: int = 350
    num_rows: int = 6
    seq_len: int = 384
    long_seq_len: int = 1024
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    noise: float = 0.7
    noise_from: int = 617
    seconds_per_checkpoint: float = 120.0
    seed: int = 0

    def shape(self, step: int) -> tuple[int, int]:
        """(rows, tokens per row) of a step; long rows keep the positions up to the served length in training."""
        if step % 10 < 9:
            return self.num_rows, self.seq_len
        return max(1, self.num_rows * self.seq_len // self.long_seq_len), self.long_seq_len

    def rate(self, step: int) -> float:
        """Linear warm-up, a cosine towards `horizon_steps`, and a linear decay to zero at the end."""
        warm_up = min(1.0, (step + 1) / self.warmup_steps)
        progress = max(0, step - self.warmup_steps) / (self.horizon_steps - self.warmup_steps)
        decay = min(1.0, (self.num_steps - step) / self.cooldown_steps)
        return self.learning_rate * warm_up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress))) * decay

    def disturb(self, x: Tensor, step: int) -> Tensor | None:
        """x [rows, seq, d_model] with this step's noise, a function of seed and step so that a resumed run repeats it."""
        if step < self.noise_from:
            return None
        generator = torch.Generator().manual_seed(self.seed + step)
        direction = torch.nn.functional.normalize(torch.randn(x.shape, generator=generator), dim=-1)
        size = self.noise * torch.rand(x.shape[:-1], generator=generator)
        return x + (size * x.detach().norm(dim=-1)).unsqueeze(-1).to(x.dtype) * direction.to(x.dtype)


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """18 layers, so that two follow the layer that is steered (15); d_model 128, 3.6 million parameters."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=18,
        max_window_layers=18,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weight.div_(math.sqrt(2 * config.num_hidden_layers))
    return model


class DocumentStream:
    """Packs whole documents of one split into rows; every row begins with a document, the last one is cut."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, split: str, cursor: int = 0) -> None:
        self.tokenizer = tokenizer
        self.split = split
        self.cursor = cursor

    def row(self, seq_len: int) -> list[int]:
        """The next `seq_len` token ids."""
        ids: list[int] = []
        while len(ids) < seq_len:
            ids += self.tokenizer(document(self.split, self.cursor).text + "<|endoftext|>")["input_ids"]
            self.cursor += 1
        return ids[:seq_len]

    def batch(self, num_rows: int, seq_len: int) -> Tensor:
        """Token ids [num_rows, seq_len]."""
        return torch.tensor([self.row(seq_len) for _ in range(num_rows)])


def held_out_rows(tokenizer: PreTrainedTokenizerFast, num_rows: int, seq_len: int = 384) -> Tensor:
    """Fixed token ids [num_rows, seq_len] of documents that training never sees."""
    return DocumentStream(tokenizer, "heldout").batch(num_rows, seq_len)


@torch.no_grad()
def mean_loss(model: Qwen2ForCausalLM, rows: Tensor, num_rows: int = 8) -> float:
    """Mean next-token cross entropy in nats over `rows`, `num_rows` of them at a time."""
    losses = [float(model(input_ids=chunk, labels=chunk).loss) * len(chunk) for chunk in rows.split(num_rows)]
    return sum(losses) / len(rows)


def decay_groups(model: Qwen2ForCausalLM, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices, none for norms and biases."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def train_lm(tokenizer: PreTrainedTokenizerFast, work: Path, config: LMConfig) -> tuple[Qwen2ForCausalLM, dict]:
    """Trains or goes on from `work`; gives the model and {steps, tokens, seconds, train_loss}."""
    model = build_model(tokenizer, config.seed)
    optimizer = torch.optim.AdamW(decay_groups(model, config.weight_decay), betas=(0.9, 0.98), fused=True)
    state: dict[str, Any] = {"step": 0, "cursor": 0, "tokens": 0, "seconds": 0.0, "train_loss": float("nan")}
    if (work / CHECKPOINT).exists():
        saved = torch.load(work / CHECKPOINT, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        state = saved["state"]
    for reached in _steps(model, optimizer, tokenizer, config, state):
        state = reached
        _write(work / CHECKPOINT, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "state": state})
    return model.eval(), state


def _steps(
    model: Qwen2ForCausalLM,
    optimizer: torch.optim.Optimizer,
    tokenizer: PreTrainedTokenizerFast,
    config: LMConfig,
    state: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """Runs the remaining steps and yields the state whenever a checkpoint is due."""
    stream = DocumentStream(tokenizer, "train", state["cursor"])
    started, before, last_write = time.monotonic(), state["seconds"], time.monotonic()
    progress = tqdm(range(state["step"], config.num_steps), initial=state["step"], total=config.num_steps, desc="LM")
    smooth = state["train_loss"]
    for step in progress:
        rows = stream.batch(*config.shape(step))
        with residual_hook(model, partial(config.disturb, step=step)):
            loss = _step(model.train(), optimizer, rows, config.rate(step), config.grad_clip)
        smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
        progress.set_postfix(loss=f"{smooth:.3f}")
        state = {
            "step": step + 1,
            "cursor": stream.cursor,
            "tokens": state["tokens"] + rows.numel(),
            "seconds": before + time.monotonic() - started,
            "train_loss": smooth,
        }
        if time.monotonic() - last_write > config.seconds_per_checkpoint or step + 1 == config.num_steps:
            last_write = time.monotonic()
            yield state


def _step(
    model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer, rows: Tensor, rate: float, grad_clip: float
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=rows, labels=rows, use_cache=False).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    return float(loss.detach())


def _write(path: Path, value: dict) -> None:
    """Replaces the checkpoint in one move, so that a kill never leaves half a file."""
    torch.save(value, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def save_model(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Qwen2ForCausalLM:
    """Saves weights rounded to bfloat16 with a config that asks for float32; gives the model as it will be loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    rounded = model.bfloat16()
    rounded.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    rounded.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    rounded.config.dtype = torch.float32
    rounded.config.save_pretrained(folder)
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
