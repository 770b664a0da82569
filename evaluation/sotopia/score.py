"""Judging, a stage of its own: what a run's journal holds is scored, each unit once by each judge."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import get_args

from tiller.evaluation.atomic import atomic_writer
from tiller.evaluation.jsonl import rounded

from .ask import Cause
from .disk import writing
from .episode_record import EpisodeRecord
from .journal import Journal
from .journal_reader import JournalReader, find_journal
from .judges.judge import Judge
from .score_record import Score

SCORES = "scores.jsonl"
LOCK = "scores.lock"
NO_ANSWER = frozenset(get_args(Cause)) - {"refused"}  # causes of what a later command asks for again

Progress = Callable[[Judge, int, int, Sequence[Score]], None]  # units judged, units to judge, their newest scores


async def score_run(out: Path, judges: Sequence[Judge], on_progress: Progress | None = None) -> None:
    """Judges every complete unit in `out` that a judge has not judged yet, one judge after the other, and writes
    DIR/scores.jsonl.

    The scores of a unit are kept together as soon as they are there, so the same command goes on after a kill: what was
    judged is not asked again, except where the judge gave no answer at all. May be called while the run goes on.
    Raises InputError where there is no run, or where another process scores it, EndpointError where an endpoint is gone,
    JournalError where nothing more can be written.
    """
    find_journal(out)
    with writing(out), Journal(out, lock=LOCK) as journal:
        for judge in judges:
            await _score(journal, judge, on_progress)
        write_scores(journal)


async def _score(journal: Journal, judge: Judge, on_progress: Progress | None) -> None:
    todo = pending(journal, judge)
    left, num_done = iter(todo), 0

    async def work() -> None:
        nonlocal num_done
        while batch := list(islice(left, judge.batch_size)):
            scores = await judge.judge_batch([_with_turns(journal, record) for record in batch])
            found = [score for own in scores for score in own]
            await journal.put_scores(found)
            num_done += len(batch)
            if on_progress is not None:
                on_progress(judge, num_done, len(todo), found)

    await _all([work() for _ in range(judge.in_flight)])


async def _all(works: Sequence[object]) -> None:
    """Runs all of them; the first error ends the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]  # type: ignore[call-overload]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def pending(journal: JournalReader, judge: Judge) -> list[EpisodeRecord]:
    """What `judge` has something to say of and has not said, in plan order, without turns."""
    done = judged(journal, judge.judge_id)
    outcomes = journal.outcomes()
    ended = [unit for unit in journal.units if unit.unit_id in outcomes and unit.unit_id not in done]
    records = [EpisodeRecord(unit=unit, turns=[], outcome=outcomes[unit.unit_id]) for unit in ended]
    return [record for record in records if judge.applies(record)]


def judged(journal: JournalReader, judge_id: str) -> set[str]:
    """unit_ids with an answer of this judge, be it one that could not be read."""
    found, unanswered = set(), set()
    for score in journal.scores(judge_id):
        found.add(score.unit_id)
        if score.cause in NO_ANSWER:
            unanswered.add(score.unit_id)
    return found - unanswered


def _with_turns(journal: JournalReader, record: EpisodeRecord) -> EpisodeRecord:
    return record.model_copy(update={"turns": journal.turns(record.unit.unit_id)})


def write_scores(journal: JournalReader) -> None:
    """DIR/scores.jsonl: one score a line, by judge_id, in plan order, by seat and metric; equal for equal scores."""
    with atomic_writer(journal.folder / SCORES) as file:
        for score in all_scores(journal):
            file.write(json.dumps(rounded(score.model_dump(mode="json")), ensure_ascii=False) + "\n")


def all_scores(journal: JournalReader) -> Iterator[Score]:
    """Of all judges, one judge in memory at a time."""
    for judge_id in sorted(journal.judged()):
        yield from journal.scores(judge_id)
