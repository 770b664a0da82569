"""Steering beside vLLM's other per-request features: LoRA adapters, structured output, logprobs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from vllm import SamplingParams
from vllm.lora.request import LoRARequest

from . import tiny
from .oracle import check_output
from .test_scheduler import SPECS, greedy


def write_adapter(folder: Path) -> LoRARequest:
    """A LoRA adapter on the MLP of every layer, in PEFT's layout, large enough to change what the model says."""
    folder.mkdir()
    g = torch.Generator().manual_seed(3)
    shapes = {"gate_proj": (tiny.D_MODEL, 128), "down_proj": (128, tiny.D_MODEL)}
    state = {}
    for layer in range(tiny.NUM_LAYERS):
        for name, (wide, out) in shapes.items():
            stem = f"base_model.model.model.layers.{layer}.mlp.{name}"
            state[f"{stem}.lora_A.weight"] = 0.3 * torch.randn(8, wide, generator=g)
            state[f"{stem}.lora_B.weight"] = 0.3 * torch.randn(out, 8, generator=g)
    save_file(state, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": list(shapes), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return LoRARequest("adapter", 1, str(folder))


def test_lora(engines: Callable[..., Any], oracles: Callable[..., Any], tmp_path: Path) -> None:
    """Eight specs under an adapter, then without it. (Not in one batch: vLLM's CPU build mixes those up, steered or not.)"""
    llm = engines(enable_lora=True, max_lora_rank=8, max_num_seqs=8)
    adapter = write_adapter(tmp_path / "adapter")
    prompts = [tiny.prompt(70 + index, 20) for index in range(len(SPECS))]
    for used, folder in ((adapter, tmp_path / "adapter"), (None, None)):
        outputs = llm.generate(prompts, greedy(10), steering=SPECS, lora_request=used, use_tqdm=False)
        with oracles().merged(folder):
            for output, spec in zip(outputs, SPECS, strict=True):
                check_output(output, oracles(), spec)


def test_structured_output(engines: Callable[..., Any]) -> None:
    """A choice constraint holds under steering that would say something else."""
    from vllm.sampling_params import StructuredOutputsParams

    llm = engines()
    constraint = StructuredOutputsParams(choice=["t7", "t8"])
    params = SamplingParams(temperature=0, max_tokens=4, structured_outputs=constraint)
    spec = {"features": [{"id": 5, "op": "set", "value": 30.0}]}
    for output in llm.generate([tiny.prompt(5, 9)] * 2, params, steering=[spec, None], use_tqdm=False):
        assert output.outputs[0].text.strip() in ("t7", "t8")


def test_prompt_logprobs_are_steered(engines: Callable[..., Any], oracles: Callable[..., Any]) -> None:
    prompt, spec = tiny.prompt(6, 14), {"features": [{"id": 5, "op": "set", "value": 12.0}]}
    params = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    output = engines().generate([prompt], params, steering=spec, use_tqdm=False)[0]
    ids = prompt["prompt_token_ids"]
    expected = oracles().logprobs(ids, spec, len(ids))
    for position in range(1, len(ids)):
        got = output.prompt_logprobs[position][ids[position]].logprob
        assert got == pytest.approx(float(expected[position - 1, ids[position]]), abs=1e-3)
