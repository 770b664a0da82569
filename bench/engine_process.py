"""One engine in a process of its own, timed on request. Reads a JSON line per round from stdin, answers with one.

{"specs": [...] or null, "max_tokens": 64}  ->  {"seconds": ..., "tokens": ..., "steered": ...}
"""

import json
import random
import sys
import time
from typing import Any

from vllm import LLM, SamplingParams


def prompts(num: int, length: int, vocab_size: int) -> list[dict[str, list[int]]]:
    """Random prompts, the same in every process."""
    rng = random.Random(0)
    return [{"prompt_token_ids": [rng.randrange(3, vocab_size) for _ in range(length)]} for _ in range(num)]


def main(job: dict[str, Any]) -> None:
    from tiller.engine import SteeredLLM, load_config

    config = load_config(job["config"])
    if job["kind"] == "steered":
        llm: Any = SteeredLLM.from_config(config, **job["engine"])
        vocab_size = llm.llm.model_config.get_vocab_size()
    else:
        llm = LLM(**{**config.vllm_arguments(), **job["engine"]})
        vocab_size = llm.model_config.get_vocab_size()
    requests = prompts(job["num_requests"], job["prompt_len"], vocab_size)
    print("READY", flush=True)
    for line in sys.stdin:
        print("ROUND " + json.dumps(_round(llm, requests, json.loads(line))), flush=True)


def _round(llm: Any, requests: list[Any], order: dict[str, Any]) -> dict[str, Any]:
    params = SamplingParams(temperature=0, max_tokens=order["max_tokens"], ignore_eos=True)
    more = {"steering": order["specs"]} if order["specs"] is not None else {}
    start = time.perf_counter()
    outputs = llm.generate(requests, params, use_tqdm=False, **more)
    seconds = time.perf_counter() - start
    receipts = [receipt for output in outputs if (receipt := getattr(output, "steering", None))]
    return {
        "seconds": seconds,
        "tokens": sum(len(output.outputs[0].token_ids) for output in outputs),
        "steered": sum(receipt.tokens_steered for receipt in receipts),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
