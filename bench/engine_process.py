"""vLLM, with or without Tiller, in a process of its own and timed on request (see `child.py`).

An order is {"prompts": [[token, ...], ...], "specs": [...] or null, "max_tokens": 64}. Blocks of earlier rounds are dropped
before the clock starts; prefix caching is on, as it is by default.
"""

from typing import Any

from vllm import LLM, SamplingParams

from tiller.engine import SteeredLLM, load_config
from tiller.engine.server.launch import use_few_threads

from .rivals.protocol import Call, Order, Prepare, Read, answer, of_vllm, token_prompts


def load(job: dict[str, Any]) -> tuple[dict[str, Any], Prepare]:
    config = load_config(job["config"])
    use_few_threads(config)  # as `tiller serve` does, here for both
    if job["kind"] == "plain":
        llm = LLM(**{**config.vllm_arguments(), **job["engine"]})
        return {}, lambda order: prepare(llm, llm, order)
    steered = SteeredLLM.from_config(config, **job["engine"])
    return {"active_features": active_features(steered)}, lambda order: prepare(steered, steered.llm, order)


def prepare(engine: Any, llm: LLM, order: Order) -> tuple[Call, Read]:
    params = SamplingParams(temperature=0, max_tokens=order["max_tokens"], ignore_eos=True)
    more = {"steering": order["specs"]} if order.get("specs") is not None else {}
    requests = token_prompts(order)
    llm.reset_prefix_cache()
    return lambda: engine.generate(requests, params, use_tqdm=False, **more), read


def read(outputs: list[Any]) -> dict[str, Any]:
    receipts = [receipt for output in outputs if (receipt := getattr(output, "steering", None))]
    return {**of_vllm(outputs), "steered_tokens": sum(receipt.tokens_steered for receipt in receipts)}


def active_features(steered: SteeredLLM, num_tokens: int = 8) -> float:
    """Mean number of active features at a token of a prompt, counted up to the plan's `max_top`."""
    top = min(steered.plan.max_top, steered.plan.saes["default"].d_sae)
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    prompt = {"prompt_token_ids": [11 + 7 * i for i in range(num_tokens)]}
    spec = {"read": {"top": top, "reduce": "none"}}
    (out,) = steered.generate([prompt], params, steering=spec, use_tqdm=False)
    active = [len(features) for features in out.steering.read["top"]]
    return sum(active) / len(active)


if __name__ == "__main__":
    answer(load)
