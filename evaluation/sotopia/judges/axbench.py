"""The `axbench` judge: concept, instruction and fluency of each seat's text, as in AxBench's steering evaluation."""

import asyncio
from collections.abc import Callable
from statistics import harmonic_mean

from tiller.evaluation.sotopia.ask import Speaker
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.judge_settings import AxbenchConfig
from tiller.evaluation.sotopia.prompts import background
from tiller.evaluation.sotopia.score_record import Score

from .asking import AskingJudge, an_object, read_number, whole_number
from .judge import Missing, lines, seats

LOW, HIGH = 0, 2
PARTS = ("concept", "instruct", "fluency")
OVERALL = "axbench"
SYSTEM = (
    f"You grade a text of a language model in one respect, from {LOW} to {HIGH}. Write one sentence of reasons, then the "
    f'grade, as JSON: {{"reasoning": "...", "score": N}}.'
)
CONCEPT = """\
Is this concept in the text? 0: no. 1: it is there, but by the way or in an unnatural place. 2: the text is plainly about \
it. How well the text is written does not count.

Concept: {concept}

Text:
{text}"""
INSTRUCT = """\
Does the text deal with what was asked for? Only the subject counts, neither quality nor completeness. 0: it is about \
something else. 1: it touches on it. 2: it is about just that.

Asked for:
{instruction}

Text:
{text}"""
FLUENCY = """\
How well does the text read? What it is about does not count. 0: hardly readable, or the same words again and again. \
1: understandable, with mistakes or repetitions. 2: as a fluent person would write it.

Text:
{text}"""


class AxbenchJudge(AskingJudge):
    """Of each seat: three grades from 0 to 2, each asked on its own, and their harmonic mean, 0 where one is 0 (Wu et al.
    2025, arXiv:2501.17148). What an agent was asked for is its scene with its own goal.

    One wrong answer makes all four missing; AxBench itself takes it for 0.
    """

    kind = "axbench"

    def __init__(self, name: str, config: AxbenchConfig, speaker: Callable[[], Speaker], model: str) -> None:
        self._concept = config.concept
        super().__init__(name, config, speaker, model, [SYSTEM, CONCEPT, INSTRUCT, FLUENCY])

    async def judge(self, record: EpisodeRecord) -> list[Score]:
        found = await asyncio.gather(*(self._judge(record, seat) for seat in seats(record)))
        return [score for own in found for score in own]

    async def _judge(self, record: EpisodeRecord, seat: int) -> list[Score]:
        try:
            grades = [await self._grade(record, question) for question in self._questions(record, seat)]
        except Missing as why:
            return self.missing(record, seat, (*PARTS, OVERALL), why)
        found = [self.score(record, seat, p, grade, why) for p, (grade, why) in zip(PARTS, grades, strict=True)]
        return [*found, self.score(record, seat, OVERALL, harmonic_mean([grade for grade, _ in grades]))]

    def _questions(self, record: EpisodeRecord, seat: int) -> list[str]:
        text = "\n".join(lines(record, seat))
        if not text:
            raise Missing("no_text", "not one word")
        return [
            CONCEPT.format(concept=self._concept, text=text),
            INSTRUCT.format(instruction=instruction(record, seat), text=text),
            FLUENCY.format(text=text),
        ]

    async def _grade(self, record: EpisodeRecord, question: str) -> tuple[int, str]:
        schema = an_object({"reasoning": self.reasoning(), "score": whole_number(LOW, HIGH)})
        body = await self._ask(record, SYSTEM, question, schema)
        return read_number(body.get("score"), LOW, HIGH, "score"), str(body.get("reasoning", ""))


def instruction(record: EpisodeRecord, seat: int) -> str:
    """What the text of `seat` answers to: the prompt's messages, or the scene as far as the agent knew it."""
    unit = record.unit
    if unit.scene is not None:
        return background(unit.protocol, unit.scene, seat)
    assert unit.prompt is not None
    return "\n".join(f"{message['role']}: {message['content']}" for message in unit.prompt)
