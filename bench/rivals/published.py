"""What others have published of their own speed: their models, machines and baselines. None of it was measured here."""

from typing import NamedTuple


class Published(NamedTuple):
    who: str
    setup: str
    number: str


PUBLISHED = [
    Published(
        "EasySteer, repository, 2026-08",
        "RTX PRO 6000, 1.5B model, 256 prompts at once, 128 tokens, vectors of scale 0, CUDA graphs, against its own fork "
        "unsteered",
        "one layer -10.8%, 28 layers -23.8%",
    ),
    Published(
        "EasySteer, repository, 2026-08",
        "the same, 256 requests over K distinct configurations",
        "K = 1 -24%, 64 -64%, 256 -82%",
    ),
    Published(
        "RhizoNymph's fork, README",
        "A100, Gemma-3-27B, 8 to 16 at once, 256 tokens, against steering switched off",
        "named vectors +0.0% time per token, 16 distinct inline vectors +1.3%",
    ),
    Published(
        "vllm-lens, notebook",
        "Llama-3.3-70B on 4 GPUs, 50 prompts at once, 1024 tokens, against eager vLLM",
        "one layer -9.6% tokens/s",
    ),
    Published(
        "interp-engine, benchmarks, 2026-08",
        "B200, Llama-3.1-8B, 8 at once, 512 + 128 tokens, taps at every layer, against vLLM with graphs",
        "static taps -7.5% tokens/s, hooks -75%",
    ),
]
