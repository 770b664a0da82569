"""What every judge is: a name, an id of all that decides its scores, and scores for finished units."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.profiles import SEATS
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.sotopia.unit import digest


class Missing(Exception):
    """A judgement without a score. `cause` is one word to count by, such as `unparsable`; `note` what was there instead."""

    def __init__(self, cause: str, note: str = "") -> None:
        self.cause = cause
        self.note = note
        super().__init__(f"{cause}: {note}")


class Judge(ABC):
    """Scores finished units; another prompt, model or setting is another `judge_id`.

    decides: JSON data of everything that can change a score, beside the kind and its version.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1  # raised by whoever changes what the same settings give
    noisy: ClassVar[bool] = False  # whether asking again may give another score
    batch_size: int = 1  # units that one call of judge_batch should get
    in_flight: int = 1  # such calls at a time
    repeat: int = 0

    def __init__(self, name: str, decides: Any = None) -> None:
        self.name = name
        self.decides = decides

    @property
    def judge_id(self) -> str:
        """Alike for all repeats up to the `#`."""
        own = digest([self.kind, self.version, self.decides])[:16]
        return f"{own}#{self.repeat}" if self.repeat else own

    def repeated(self, repeat: int) -> Self:
        """The same judge asked another time, to see how far it agrees with itself."""
        assert self.noisy or not repeat, f"{self.kind} gives the same scores again"
        other = copy.copy(self)
        other.repeat = repeat
        return other

    def applies(self, record: EpisodeRecord) -> bool:
        """Whether there is anything to judge; failed units are none of a judge's business."""
        return record.outcome.status == "complete"

    @abstractmethod
    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        """The scores of each record, in their order."""

    async def judge(self, record: EpisodeRecord) -> list[Score]:
        return (await self.judge_batch([record]))[0]

    def score(self, record: EpisodeRecord, seat: int | None, metric: str, value: float, note: str = "") -> Score:
        return Score(
            unit_id=record.unit.unit_id, judge_id=self.judge_id, judge=self.name, seat=seat, metric=metric,
            value=float(value), note=note,
        )  # fmt: skip

    def scores(self, record: EpisodeRecord, seat: int | None, values: Mapping[str, float]) -> list[Score]:
        return [self.score(record, seat, metric, value) for metric, value in values.items()]

    def missing(self, record: EpisodeRecord, seat: int | None, metrics: Sequence[str], why: Missing) -> list[Score]:
        """The same gap in every metric of one judgement, so that none of them has more units than another."""
        return [
            Score(
                unit_id=record.unit.unit_id, judge_id=self.judge_id, judge=self.name, seat=seat, metric=metric,
                status="missing", cause=why.cause, note=why.note,
            )
            for metric in metrics
        ]  # fmt: skip


def seats(record: EpisodeRecord) -> tuple[int, ...]:
    """Both seats of an episode; a prompt is answered by seat 0 alone."""
    return SEATS if record.unit.scene is not None else (0,)


def lines(record: EpisodeRecord, seat: int) -> list[str]:
    """What the agent at `seat` said or did, in order, turns without words left out."""
    return [turn.argument.strip() for turn in record.turns if turn.seat == seat and turn.argument.strip()]
