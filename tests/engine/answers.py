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
        outputs = LLM(job["model"], **job["engine"]).generate(job["prompts"], params, use_tqdm=False)
    else:
        from tiller.engine import SteeredLLM

        llm = SteeredLLM(job["model"], saes=job["saes"], **job["engine"])
        outputs = llm.generate(job["prompts"], params, steering=job["specs"], use_tqdm=False)
    print("ANSWERS " + json.dumps([_plain(output) for output in outputs]))


def _plain(output: Any) -> dict[str, Any]:
    answer, receipt = output.outputs[0], getattr(output, "steering", None)
    return {
        "tokens": list(answer.token_ids),
        "logprobs": [answer.logprobs[step][token].logprob for step, token in enumerate(answer.token_ids)],
        "receipt": receipt and receipt.to_dict(),
    }


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
