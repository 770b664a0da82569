"""The `sotopia` judge: the seven dimensions, both agents in one ask."""

from collections.abc import Callable, Sequence

import numpy as np

from tiller.evaluation.sotopia.actions import render_action
from tiller.evaluation.sotopia.ask import Speaker
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.judge_settings import SotopiaConfig
from tiller.evaluation.sotopia.profiles import SEATS
from tiller.evaluation.sotopia.prompts import background, facts_of
from tiller.evaluation.sotopia.score_record import Score

from .asking import AskingJudge, Schema, an_object, whole_number
from .dimensions import DIMENSIONS, METRICS, OVERALL
from .evaluations import Evaluation, Rating, read_evaluations
from .judge import Missing

BIAS = "position_bias"
SYSTEM = (
    "You have watched two people meet, and you know what neither of them knew of the other. You judge each of them by what "
    "they said and did, not by what they meant to do. You are fair, you use the whole range, and you answer in JSON."
)
QUESTION = """\
{background}{namesakes}

What happened:
{transcript}

Judge {first} and {second}, each on their own, in seven respects. In each respect write your reasons first, in one to three
sentences about what happened here, then give a whole number.

{rubric}

Answer with one JSON object with the keys {keys}. The value of each is an object with the keys {dimensions}; each of \
these is {{"reasoning": "...", "score": N}}."""
NAMESAKES = (
    "\nBoth have this name: here {first} is the one whose background and goal stand first, {second} is the other one."
)


class SotopiaJudge(AskingJudge):
    """Of each seat: the dimensions and `overall_score`, their plain mean; the reasons are in the notes.

    The judge sees the scene with all that is private and every action but "did nothing". It names the agents in its
    answer, which is read by these names and not by its order. Where any of the fourteen ratings is wrong, all scores of
    the unit are missing. With order `both` it is asked twice, with either agent named first; scores are the means, and
    `position_bias` is what being named first brought the seat, in points of a mean dimension.
    """

    kind = "sotopia"

    def __init__(self, name: str, config: SotopiaConfig, speaker: Callable[[], Speaker], model: str) -> None:
        self._order = config.order
        super().__init__(name, config, speaker, model, [SYSTEM, QUESTION, NAMESAKES, DIMENSIONS])

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*METRICS, BIAS) if self._order == "both" else METRICS

    def applies(self, record: EpisodeRecord) -> bool:
        return super().applies(record) and record.unit.scene is not None

    async def judge(self, record: EpisodeRecord) -> list[Score]:
        try:
            evaluations = [await self._evaluate(record, seats) for seats in self._orders()]
        except Missing as why:
            return [score for seat in SEATS for score in self.missing(record, seat, self.metrics, why)]
        return [score for seat in SEATS for score in self._scores(record, seat, [e[seat] for e in evaluations])]

    def _orders(self) -> list[tuple[int, int]]:
        return {"seats": [(0, 1)], "swapped": [(1, 0)], "both": [(0, 1), (1, 0)]}[self._order]  # type: ignore[return-value]

    async def _evaluate(self, record: EpisodeRecord, order: tuple[int, int]) -> list[Evaluation]:
        """Of each seat, when they are named in `order`."""
        names = labels(record)
        named = [names[seat] for seat in order]
        body = await self._ask(record, SYSTEM, question(record, named), self._schema(named))
        return read_evaluations(body, names)

    def _schema(self, names: Sequence[str]) -> Schema:
        dimensions = {
            dimension: an_object({"reasoning": self.reasoning(), "score": whole_number(low, high)})
            for dimension, (low, high, _) in DIMENSIONS.items()
        }
        return an_object({name: an_object(dimensions) for name in names})

    def _scores(self, record: EpisodeRecord, seat: int, given: Sequence[Evaluation]) -> list[Score]:
        """`given`: the seat's evaluation for each of the orders."""
        merged = {dimension: [evaluation[dimension] for evaluation in given] for dimension in DIMENSIONS}
        means = {dimension: _mean(ratings) for dimension, ratings in merged.items()}
        found = [
            self.score(record, seat, dimension, means[dimension], "\n".join(r.reasoning for r in ratings))
            for dimension, ratings in merged.items()
        ]
        found.append(self.score(record, seat, OVERALL, float(np.mean(list(means.values())))))
        if self._order == "both":
            first, second = (_mean(list(evaluation.values())) for evaluation in given)
            found.append(self.score(record, seat, BIAS, first - second if seat == 0 else second - first))
        return found


def _mean(ratings: Sequence[Rating]) -> float:
    return float(np.mean([rating.score for rating in ratings]))


def labels(record: EpisodeRecord) -> tuple[str, str]:
    """What the judge calls the agents, in seat order; numbered where they have the same name."""
    assert record.unit.scene is not None
    first, second = facts_of(record.unit.protocol, record.unit.scene).names
    return (f"{first} (1)", f"{second} (2)") if first.casefold() == second.casefold() else (first, second)


def question(record: EpisodeRecord, named: Sequence[str]) -> str:
    """The ask about an episode with the agents `named` in this order."""
    assert record.unit.scene is not None
    first, second = labels(record)
    is_shared = first.endswith(" (1)")
    return QUESTION.format(
        background=background(record.unit.protocol, record.unit.scene, None),
        namesakes=NAMESAKES.format(first=first, second=second) if is_shared else "",
        transcript=transcript(record),
        first=named[0],
        second=named[1],
        rubric="\n".join(f"- {name} ({d.low} to {d.high}): {d.rubric}" for name, d in DIMENSIONS.items()),
        keys=" and ".join(f'"{name}"' for name in named),
        dimensions=", ".join(DIMENSIONS),
    )


def transcript(record: EpisodeRecord) -> str:
    """Every action but those that did nothing."""
    names = labels(record)
    acts = [
        f"Turn #{turn.index + 1}: {render_action(names[turn.seat], turn.action_type, turn.argument)}"
        for turn in record.turns
        if turn.action_type != "none"
    ]
    return "\n".join(acts) or "Nobody said or did anything."
