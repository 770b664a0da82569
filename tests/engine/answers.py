"""Run as a script: starts an engine in processes of its own, answers, and prints the answers as JSON.

    python answers.py '{"model": ..., "saes": {...} or null, "engine": {...}, "prompts": [...], "specs": [...]}'

Without `saes` it is vLLM's own LLM class.
"""

import json
import sys
from typing import Any


def main(job: dict[str, Any]) -> None:
    from vllm import LLM, SamplingParams

    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True, logprobs=0)
    if job["saes"] is None:
        llm = LLM(job["model"], **job["engine"])
        outputs = llm.generate(job["prompts"], params, use_tqdm=False)
    else:
        from tiller.engine import SteeredLLM

        steered = SteeredLLM(job["model"], saes=job["saes"], **job["engine"])
        outputs = steered.generate(job["prompts"], params, steering=job["specs"], use_tqdm=False)
        llm = steered.llm
    print("ANSWERS " + json.dumps({"answers": [_plain(output) for output in outputs], "counters": _counters(llm, job)}))


def _counters(llm: Any, job: dict[str, Any]) -> dict[str, int]:
    if job["engine"].get("disable_log_stats", True):
        return {}
    return {metric.name: metric.value for metric in llm.get_metrics() if hasattr(metric, "value")}


def _plain(output: Any) -> dict[str, Any]:
    answer, receipt = output.outputs[0], getattr(output, "steering", None)
    return {
        "tokens": list(answer.token_ids),
        "logprobs": [answer.logprobs[step][token].logprob for step, token in enumerate(answer.token_ids)],
        "receipt": receipt and receipt.to_dict(),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
