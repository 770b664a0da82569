"""The `repetition` judge: counts that need no model."""

import re
from collections.abc import Sequence

from tiller.evaluation.sotopia.actions import ActionError, offered_actions, parse_action
from tiller.evaluation.sotopia.episode_record import ActionType, EpisodeRecord, TurnRecord
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.stats import distinct

from .judge import Judge, Missing, lines, seats

WORD = re.compile(r"\w+")
STOPS = ("left", "max_turns", "stale")
OF_WORDS = ("distinct_1", "distinct_2", "distinct_3", "repeated_lines", "words_per_line")


class RepetitionJudge(Judge):
    """Of each seat, and of the episode as a whole:

    distinct_1, _2, _3: share of distinct word n-grams in all that the seat said, lower-case
    repeated_lines:     share of its lines that stood in the episode before, whoever said them, up to case and punctuation
    words_per_line:     mean length of its lines in words
    valid_share:        share of its turns whose answer was one of the actions offered (episodes only)
    cut_share:          share of its turns that ended before their JSON did
    turns:              how many turns it had
    turns (no seat):    of the whole episode; stopped_left, stopped_max_turns, stopped_stale: 1 for why it ended, 0 else
    """

    kind = "repetition"
    batch_size = 256

    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        return [self._judge(record) for record in records]

    def _judge(self, record: EpisodeRecord) -> list[Score]:
        found = [score for seat in seats(record) for score in self._of_seat(record, seat)]
        if record.unit.scene is None:
            return found
        whole = {"turns": len(record.turns)} | {f"stopped_{cause}": record.outcome.cause == cause for cause in STOPS}
        return found + self.scores(record, None, whole)

    def _of_seat(self, record: EpisodeRecord, seat: int) -> list[Score]:
        own = [turn for turn in record.turns if turn.seat == seat]
        found = self.scores(record, seat, {"turns": len(own)})
        shares = {"cut_share": share([t.cut for t in own])} if own else {}
        if own and record.unit.scene is not None:
            shares["valid_share"] = share([is_action(t, offered_actions(record.unit.protocol, t.index)) for t in own])
        found += self.scores(record, seat, shares)
        try:
            return found + self.scores(record, seat, word_counts(record, seat))
        except Missing as why:
            return found + self.missing(record, seat, OF_WORDS, why)


def word_counts(record: EpisodeRecord, seat: int) -> dict[str, float]:
    """The metrics `OF_WORDS`. Raises Missing where the seat said too little for three words in a row."""
    own = [words(line) for line in lines(record, seat)]
    joined = [word for line in own for word in line]
    shares = {f"distinct_{n}": distinct(joined, n) for n in (1, 2, 3)}  # type: ignore[arg-type]
    if any(share is None for share in shares.values()):
        raise Missing("no_text", f"{len(joined)} words")
    repeated = {"repeated_lines": share(repeats(record, seat))}
    return {**shares, **repeated, "words_per_line": len(joined) / len(own)}  # type: ignore[dict-item]


def repeats(record: EpisodeRecord, seat: int) -> list[bool]:
    """For each line of `seat`, whether the same words stood in the episode before."""
    seen: set[tuple[str, ...]] = set()
    found = []
    for turn in record.turns:
        line = tuple(words(turn.argument))
        if not turn.argument.strip():
            continue
        if turn.seat == seat:
            found.append(line in seen)
        seen.add(line)
    return found


def is_action(turn: TurnRecord, offered: Sequence[ActionType]) -> bool:
    """Whether the answer is an action by itself, or once its cut end is closed."""
    try:
        parse_action(turn.text, turn.cut, offered, max_chars=len(turn.text))
    except ActionError:
        return False
    return True


def share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())
