"""The `fluency` judge: how natural what an agent said is to the model that nothing steers."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiller.evaluation.sotopia.episode_record import EpisodeRecord, TurnRecord
from tiller.evaluation.sotopia.prompts import agent_prompt
from tiller.evaluation.sotopia.score_record import Score

from .judge import Judge, Missing, seats

METRIC = "mean_logprob"
ARGUMENT = re.compile(r'"argument"\s*:\s*"((?:[^"\\]|\\.)*)')


@dataclass(frozen=True)
class Span:
    """Tokens up to the last one that is scored; those from `start` on are."""

    ids: list[int]
    start: int


class FluencyJudge(Judge):
    """Of each seat: mean log-probability in nats of the tokens of what it said or did, given the prompt it was asked with,
    under the unsteered model. The mean is taken over the tokens of a turn, then over turns, so that one endless
    turn does not outweigh the others. The JSON around the argument is context only, since the schema dictates it.

    All turns of a batch are scored in one engine call. `engine` gives a SteeredLLM when first needed; `model` names it.
    """

    kind = "fluency"
    batch_size = 32

    def __init__(self, name: str, engine: Callable[[], Any], model: str) -> None:
        self._engine = engine
        super().__init__(name, {"model": model})

    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        llm = self._engine()
        asked = [[(seat, self._spans(llm, record, seat)) for seat in seats(record)] for record in records]
        limit = llm.llm.model_config.max_model_len
        fitting = [own for of_record in asked for _, own in of_record if all(len(span.ids) < limit for span in own)]
        logprobs = iter(_logprobs(llm, [span for own in fitting for span in own]))
        return [
            [score for seat, own in of_record for score in self._score(record, seat, own, limit, logprobs)]
            for record, of_record in zip(records, asked, strict=True)
        ]

    def _score(self, record: EpisodeRecord, seat: int, spans: list[Span], limit: int, logprobs: Any) -> list[Score]:
        if too_long := [len(span.ids) for span in spans if len(span.ids) >= limit]:
            why = Missing("too_long", f"{too_long[0]} tokens, the model takes {limit - 1} and one to come")
            return self.missing(record, seat, [METRIC], why)
        if not spans:
            return self.missing(record, seat, [METRIC], Missing("no_text", "not one word"))
        return [self.score(record, seat, METRIC, float(np.mean([next(logprobs) for _ in spans])))]

    def _spans(self, llm: Any, record: EpisodeRecord, seat: int) -> list[Span]:
        """One for each turn of `seat` that has words."""
        turns = [(i, t) for i, t in enumerate(record.turns) if t.seat == seat and t.argument.strip()]
        tokenizer = llm.get_tokenizer()
        return [_span(tokenizer, record, _past(record, i), turn) for i, turn in turns]


def _past(record: EpisodeRecord, index: int) -> list[TurnRecord]:
    """The turns that the agent of turn `index` had seen: those of earlier rounds."""
    return [turn for turn in record.turns[:index] if turn.index < record.turns[index].index]


def _span(tokenizer: Any, record: EpisodeRecord, past: list[TurnRecord], turn: TurnRecord) -> Span:
    unit = record.unit
    messages = agent_prompt(unit.protocol, unit.scene, turn.seat, past) if unit.scene is not None else unit.prompt
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(turn.text, add_special_tokens=False, return_offsets_mapping=True)
    first, last = _argument(turn.text) if unit.scene is not None else (0, len(turn.text))
    scored = [i for i, (low, high) in enumerate(answer["offset_mapping"]) if low < last and high > first]
    return Span([*prompt_ids, *answer["input_ids"][: scored[-1] + 1]], len(prompt_ids) + scored[0])


def _argument(text: str) -> tuple[int, int]:
    """Where the argument's characters stand in a JSON action; all of it where there is none."""
    found = ARGUMENT.search(text)
    return found.span(1) if found is not None else (0, len(text))


def _logprobs(llm: Any, spans: Sequence[Span]) -> list[float]:
    """Mean log-probability of each span, all in one engine call."""
    from vllm import SamplingParams

    from tiller.evaluation.answers import mean_logprob

    if not spans:
        return []
    params = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    scored = llm.generate([{"prompt_token_ids": span.ids} for span in spans], params, use_tqdm=False)
    return [mean_logprob(output, span.start) for output, span in zip(scored, spans, strict=True)]
