"""Load on a server, made by vLLM's own `vllm bench serve`, each request with its own steering."""

import asyncio
import contextlib
import io
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from tiller.engine import compat

from .serve_process import NAME, ServeProcess

Spec = dict[str, Any] | None
PERCENTILES = [50.0, 95.0, 99.0]
METRICS = ["ttft", "tpot", "itl", "e2el"]
KEPT = ("duration", "completed", "request_throughput", "output_throughput")


class Load(NamedTuple):
    """How requests come in: at most `concurrency` at once, or (0) at `rate` a second whatever happens to them."""

    name: str
    num_requests: int
    concurrency: int = 0
    rate: float = math.inf


def run_load(
    server: ServeProcess,
    tokenizer: Any,
    load: Load,
    spec: Callable[[int], Spec],
    prompt_len: int,
    max_tokens: int,
    seed: str,
) -> dict[str, float]:
    """Percentiles in milliseconds, rates a second, and the front end's processor time a request.

    Equal seeds make equal prompts, a new one prompts that no prefix cache has met.

    Raises RuntimeError where a request failed: its time would count for nothing.
    """
    task, benchmark, sample = compat.load_generator()
    requests = _requests(sample, load.num_requests, spec, prompt_len, max_tokens, len(tokenizer), seed)
    cpu, steered = server.cpu_seconds(), server.steered_tokens()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        result = asyncio.run(
            benchmark(
                task_type=task.GENERATION,
                endpoint_type="openai",
                api_url=f"{server.url}/v1/completions",
                base_url=server.url,
                model_id=NAME,
                model_name=NAME,
                tokenizer=tokenizer,
                input_requests=requests,
                logprobs=None,
                request_rate=load.rate,
                burstiness=1.0,
                disable_tqdm=True,
                num_warmups=0,
                ready_check_timeout_sec=0,  # its request would count among the load's steered tokens and front-end time
                profile=False,
                selected_percentile_metrics=METRICS,
                selected_percentiles=PERCENTILES,
                ignore_eos=True,
                goodput_config_dict={},
                max_concurrency=load.concurrency or None,
                lora_modules=None,
                extra_headers=None,
                extra_body={"temperature": 0},
            )
        )
    if result["completed"] != load.num_requests:
        failed = load.num_requests - result["completed"]
        raise RuntimeError(f"{failed} of {load.num_requests} requests failed: {result.get('errors')}")
    kept = {name: float(result[name]) for name in KEPT}
    kept |= {f"p{p:.0f}_{metric}_ms": float(result[f"p{p:.0f}_{metric}_ms"]) for metric in METRICS for p in PERCENTILES}
    kept["front_end_ms"] = 1000 * (server.cpu_seconds() - cpu) / load.num_requests
    kept["steered_tokens"] = server.steered_tokens() - steered
    return kept


def _requests(
    sample: Any, num: int, spec: Callable[[int], Spec], prompt_len: int, max_tokens: int, vocab_size: int, seed: str
) -> list[Any]:
    """Random prompts; each carries its steering as a client would send it."""
    rng = random.Random(seed)
    requests = []
    for index in range(num):
        prompt = [rng.randrange(3, vocab_size) for _ in range(prompt_len)]
        steering = spec(index)
        overrides = None if steering is None else {"steering": steering}
        requests.append(sample(prompt, prompt_len, max_tokens, request_overrides=overrides))
    return requests
