"""The `lexical` judge: how much of a trait the words of a text show."""

from collections.abc import Mapping, Sequence

import numpy as np

from tiller.evaluation.demo_model.scores import is_french, tone_score
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.score_record import Score

from .judge import Judge, Missing, lines, seats
from .lexicon import Trait
from .repetition import words

DEMO = ("french", "tone")


class LexicalJudge(Judge):
    """Of each seat, over all that it said and did:

    without traits: french, the share of its lines in French, and tone, (warm - hostile) / (warm + hostile) words;
    with traits:    TRAIT, (p - n) / (p + n) for p positive and n negative words, 0 where there is neither, and
                    TRAIT_per_100_words, 100 (p - n) / words, which long texts do not push to the ends.
    """

    kind = "lexical"
    batch_size = 256

    def __init__(self, name: str, traits: Mapping[str, Trait] | None = None) -> None:
        self.traits = traits
        super().__init__(name, None if traits is None else {k: t.model_dump(mode="json") for k, t in traits.items()})

    @property
    def metrics(self) -> Sequence[str]:
        return DEMO if self.traits is None else [m for trait in self.traits for m in (trait, f"{trait}_per_100_words")]

    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        return [[score for seat in seats(record) for score in self._judge(record, seat)] for record in records]

    def _judge(self, record: EpisodeRecord, seat: int) -> list[Score]:
        said = lines(record, seat)
        num_words = sum(len(words(line)) for line in said)
        if not num_words:
            return self.missing(record, seat, self.metrics, Missing("no_text", "not one word"))
        if self.traits is None:
            values = [float(np.mean([is_french(line) for line in said])), tone_score("\n".join(said))]
        else:
            values = [v for trait in self.traits.values() for v in balance_and_rate(trait, said, num_words)]
        return self.scores(record, seat, dict(zip(self.metrics, values, strict=True)))


def balance_and_rate(trait: Trait, said: Sequence[str], num_words: int) -> tuple[float, float]:
    counts = [trait.count(line) for line in said]
    positive, negative = (sum(side) for side in zip(*counts, strict=True))
    return (positive - negative) / max(1, positive + negative), 100 * (positive - negative) / num_words
