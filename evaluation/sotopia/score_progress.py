"""The progress of judging on the terminal: one bar a judge, with what it could not score."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tqdm import tqdm

from .judges.judge import Judge
from .score import Progress
from .score_record import Score


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """What shows how far each judge is, on stderr."""
    bars: dict[str, tqdm] = {}
    missing: dict[str, set[str]] = {}

    def show(judge: Judge, num_done: int, total: int, scores: Sequence[Score]) -> None:
        name = f"{judge.name} {judge.judge_id[:6]}" + (f" #{judge.repeat}" if judge.repeat else "")
        if judge.judge_id not in bars:
            bars[judge.judge_id] = tqdm(total=total, desc=name, unit=" episodes")
        gaps = missing.setdefault(judge.judge_id, set())
        gaps |= {score.unit_id for score in scores if score.status == "missing"}
        bar = bars[judge.judge_id]
        bar.update(num_done - bar.n)
        if gaps:
            bar.set_postfix_str(f"{len(gaps)} with a gap", refresh=False)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
