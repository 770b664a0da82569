"""The `sae_ts` judge: how much of a behaviour each seat's text shows, and how coherent it is, as in SAE-TS's evaluation."""

import asyncio
from collections.abc import Callable

from tiller.evaluation.sotopia.ask import Speaker
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.judge_settings import SaeTsConfig
from tiller.evaluation.sotopia.score_record import Score

from .asking import AskingJudge, an_object, read_number, whole_number
from .judge import Missing, lines, seats

LOW, HIGH = 1, 10
METRICS = ("behaviour", "coherence", "behaviour_coherence")
COHERENCE = "The text makes sense as a whole, and its sentences are grammatical."
SYSTEM = (
    f"You grade texts of a language model by one statement. {LOW} means that the statement is not true of the text at all, "
    f'{HIGH} that it is entirely true. Answer with JSON alone: {{"score": N}}, N a whole number from {LOW} to {HIGH}.'
)
QUESTION = "Statement: {statement}\n\nText:\n{text}"
SCHEMA = an_object({"score": whole_number(LOW, HIGH)})


class SaeTsJudge(AskingJudge):
    """Of each seat: behaviour and coherence, each asked on its own from 1 to 10 and rescaled to (s - 1) / 9 in [0, 1], and
    their product for this very text (Chalnev et al. 2024, arXiv:2411.02193, report the product of means).

    One wrong answer makes all three missing, so that they are always about the same texts.
    """

    kind = "sae_ts"

    def __init__(self, name: str, config: SaeTsConfig, speaker: Callable[[], Speaker], model: str) -> None:
        self._statements = (config.behaviour, COHERENCE)
        super().__init__(name, config, speaker, model, [SYSTEM, QUESTION, COHERENCE])

    async def judge(self, record: EpisodeRecord) -> list[Score]:
        found = await asyncio.gather(*(self._judge(record, seat) for seat in seats(record)))
        return [score for own in found for score in own]

    async def _judge(self, record: EpisodeRecord, seat: int) -> list[Score]:
        try:
            behaviour, coherence = [await self._rate(record, seat, s) for s in self._statements]
        except Missing as why:
            return self.missing(record, seat, METRICS, why)
        values = (behaviour, coherence, behaviour * coherence)
        return self.scores(record, seat, dict(zip(METRICS, values, strict=True)))

    async def _rate(self, record: EpisodeRecord, seat: int, statement: str) -> float:
        text = "\n".join(lines(record, seat))
        if not text:
            raise Missing("no_text", "not one word")
        body = await self._ask(record, SYSTEM, QUESTION.format(statement=statement, text=text), SCHEMA)
        return (read_number(body.get("score"), LOW, HIGH, "score") - LOW) / (HIGH - LOW)
