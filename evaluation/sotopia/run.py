"""One sitting of a run, from its units to its files; a killed run's next sitting goes on where it was."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tiller.evaluation.atomic import atomic_writer

from .ask import EndpointError, Speaker
from .disk import writing
from .export import ArmTotals, export_run
from .journal import Journal
from .manifest import Manifest, open_run
from .progress import Progress
from .progress_view import progress_view
from .runner import Ending, run_units
from .speakers import Voices
from .unit import Unit

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Sitting:
    """How it ended, what it did, and what is there now."""

    ending: Ending
    progress: Progress
    totals: list[ArmTotals]


def run(
    out: Path,
    manifest: Manifest,
    units: Sequence[Unit],
    voices: Voices,
    console: Console,
    in_flight: int | None = None,
    retry_failed: bool = False,
    logs: bool = False,
) -> Sitting:
    """Plays what is left of the run in `out` and writes its files.

    retry_failed: failed units go on from their last turn. Raises InputError where another run is there or another process
    writes there, JournalError where nothing more can be written, EndpointError where an endpoint is gone.
    """
    with writing(out), open_run(out, manifest, units) as journal:
        with atomic_writer(out / MANIFEST) as file:
            file.write(manifest.model_dump_json(indent=1) + "\n")
        if retry_failed:
            journal.reopen([i for i, outcome in journal.outcomes().items() if outcome.status == "failed"])
        progress = Progress(len(units))
        try:
            ending = _play(journal, voices, progress, in_flight, console)
        except EndpointError:
            export_run(journal, logs)  # so that what is there can be looked at meanwhile
            raise
        return Sitting(ending, progress, export_run(journal, logs))


def _play(journal: Journal, voices: Voices, progress: Progress, in_flight: int | None, console: Console) -> Ending:
    if len(journal.outcomes()) == progress.total:
        return Ending("done")
    with voices.speakers() as speakers, progress_view(console) as show:

        async def play() -> Ending:
            try:
                return await run_units(journal, speakers, in_flight or voices.max_in_flight, progress, show)
            finally:
                await asyncio.gather(*(speaker.close() for speaker in set(speakers)))

        progress.notices = lambda: _notices(speakers)
        return asyncio.run(play())


def _notices(speakers: tuple[Speaker, Speaker]) -> list[str]:
    """What speakers wait for, where they say so."""
    return [notice for speaker in dict.fromkeys(speakers) if (notice := getattr(speaker, "notice", ""))]
