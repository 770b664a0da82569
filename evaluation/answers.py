"""Many steered chats in one continuous batch, each answer scored by the unsteered model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tiller.engine import SteeredLLM, SteeringSpec

from .inputs import Messages
from .stats import distinct


@dataclass(frozen=True, kw_only=True)
class Request:
    """One chat to answer; equal seeds make equal prompts draw alike, so that answers pair across specs."""

    messages: Messages
    spec: SteeringSpec | None
    seed: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, and how natural it is."""

    text: str
    num_tokens: int
    fluency: float  # mean log-probability of its tokens, in nats, under the unsteered model given the same prompt
    distinct_2: float | None  # share of its token pairs that are distinct
    receipt: dict[str, Any] | None  # None where it was not steered

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def answer_all(
    llm: SteeredLLM, requests: Sequence[Request], max_tokens: int = 64, temperature: float = 0.7
) -> list[Answer]:
    """Answers every request in one engine call, then scores all answers in a second one."""
    from vllm import SamplingParams

    params = [SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=r.seed) for r in requests]
    messages, specs = [r.messages for r in requests], [r.spec for r in requests]
    outputs = llm.chat(messages, params, steering=specs)
    return [
        Answer(
            text=output.outputs[0].text.strip(),
            num_tokens=len(output.outputs[0].token_ids),
            fluency=fluency,
            distinct_2=distinct(output.outputs[0].token_ids),
            receipt=None if output.steering is None else output.steering.to_dict(),
        )
        for output, fluency in zip(outputs, score_fluency(llm, outputs), strict=True)
    ]


def score_fluency(llm: SteeredLLM, outputs: Sequence[Any]) -> list[float]:
    """Mean log-probability of each output's tokens after its prompt, in nats, with nothing steered."""
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    prompts = [{"prompt_token_ids": [*o.prompt_token_ids, *o.outputs[0].token_ids]} for o in outputs]
    scored = llm.generate(prompts, params)
    return [mean_logprob(s, len(o.prompt_token_ids)) for s, o in zip(scored, outputs, strict=True)]


def mean_logprob(scored: Any, prompt_len: int) -> float:
    """Mean over the positions from `prompt_len` on."""
    ids = scored.prompt_token_ids[prompt_len:]
    logprobs = [entry[i].logprob for i, entry in zip(ids, scored.prompt_logprobs[prompt_len:], strict=True)]
    return float(np.mean(logprobs))
