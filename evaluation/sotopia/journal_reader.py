"""What a run has kept so far; may be read while it goes on."""

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from tiller.evaluation.inputs import InputError

from .episode_record import EpisodeRecord, Outcome, TurnRecord
from .profiles import Scene
from .protocol import Protocol
from .score_record import Score
from .unit import Arm, Unit

FILE = "journal.sqlite"
VERSION = 1


def find_journal(folder: Path) -> Path:
    """The journal's file; raises InputError where there is none."""
    path = folder / FILE
    if not path.is_file():
        raise InputError("there is no run here; `tiller sotopia run --out` makes one", str(folder))
    return path


def _uri(path: Path) -> str:
    """For reading; SQLite wants to write beside the file, unless it is told that nobody can change it."""
    fixed = not os.access(path.parent, os.W_OK) and not path.with_name(f"{FILE}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if fixed else ''}"


class JournalReader:
    """Reads `folder`/journal.sqlite.

    Raises InputError where there is none, or where it isn't one that this version can read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._reader = sqlite3.connect(_uri(find_journal(folder)), uri=True)
        self._check_version()

    def _check_version(self) -> None:
        try:
            (version,) = self._reader.execute("PRAGMA user_version").fetchone()
        except sqlite3.DatabaseError as error:
            raise InputError(f"no journal of a run ({error})", str(self.folder / FILE)) from None
        if version != VERSION:
            raise InputError(
                f"a journal of format {version}, this version of tiller reads format {VERSION}", str(self.folder / FILE)
            )

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def manifest(self) -> dict[str, Any] | None:
        """What defines the run; None before it has started."""
        row = self._reader.execute("SELECT body FROM manifest").fetchone()
        return None if row is None else json.loads(row[0])

    @cached_property
    def units(self) -> list[Unit]:
        """All units of the run, in plan order."""
        parts = dict(self._reader.execute("SELECT id, body FROM parts"))
        scenes: dict[int, Scene] = {}
        protocols: dict[int, Protocol] = {}
        arms: dict[int, Arm] = {}
        units = []
        for scene, prompt, protocol, arm, seat, seed, models in self._reader.execute(
            "SELECT scene, prompt, protocol, arm, seat, seed, models FROM units ORDER BY id"
        ):
            if scene is not None and scene not in scenes:
                scenes[scene] = Scene.model_validate_json(parts[scene])
            if protocol not in protocols:
                protocols[protocol] = Protocol.model_validate_json(parts[protocol])
            if arm not in arms:
                arms[arm] = Arm.model_validate_json(parts[arm])
            units.append(
                Unit(
                    scene=None if scene is None else scenes[scene],
                    prompt=None if prompt is None else json.loads(parts[prompt]),
                    protocol=protocols[protocol], arm=arms[arm], seat=seat, seed=seed, models=json.loads(models),
                )
            )  # fmt: skip
        return units

    @cached_property
    def _ids(self) -> dict[str, int]:
        """The number of each unit by its unit_id."""
        return {unit_id: number for number, unit_id in self._reader.execute("SELECT id, unit_id FROM units")}

    def turns(self, unit_id: str) -> list[TurnRecord]:
        """The kept turns of one unit, by index and seat."""
        rows = self._reader.execute("SELECT body FROM turns WHERE unit = ? ORDER BY idx, seat", (self._ids[unit_id],))
        return [TurnRecord.model_validate_json(body) for (body,) in rows]

    def outcomes(self) -> dict[str, Outcome]:
        """How each finished unit ended, by unit_id, in plan order."""
        rows = self._reader.execute("SELECT unit_id, body FROM outcomes JOIN units ON id = unit ORDER BY unit")
        return {unit_id: Outcome.model_validate_json(body) for unit_id, body in rows}

    def records(self) -> Iterator[EpisodeRecord]:
        """The finished units in plan order, failed ones among them; one at a time in memory."""
        outcomes = self._reader.execute("SELECT unit, body FROM outcomes ORDER BY unit")
        turns = groupby(self._reader.execute("SELECT unit, body FROM turns ORDER BY unit, idx, seat"), itemgetter(0))
        at, own = next(turns, (None, iter(())))
        for unit, body in outcomes:
            while at is not None and at < unit:
                at, own = next(turns, (None, iter(())))
            kept = [TurnRecord.model_validate_json(row[1]) for row in own] if at == unit else []
            yield EpisodeRecord(unit=self.units[unit], turns=kept, outcome=Outcome.model_validate_json(body))

    def scores(self, judge_id: str | None = None) -> list[Score]:
        """Scores of one judge, or of all, by judge and in plan order."""
        query = "SELECT body FROM scores WHERE judge_id = ? ORDER BY judge_id, unit, seat, metric"
        if judge_id is None:
            rows = self._reader.execute(query.replace("WHERE judge_id = ? ", ""))
        else:
            rows = self._reader.execute(query, (judge_id,))
        return [Score.model_validate_json(body) for (body,) in rows]

    def judged(self) -> dict[str, set[str]]:
        """unit_ids that each judge_id has judged, whether a score came of it or not."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for judge_id, unit_id in self._reader.execute(
            "SELECT DISTINCT judge_id, unit_id FROM scores JOIN units ON id = unit"
        ):
            found[judge_id].add(unit_id)
        return dict(found)
