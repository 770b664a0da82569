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
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tiller.evaluation.inputs import InputError

from .damage import check_rows, check_structure, check_version, damaged, explained
from .episode_record import EpisodeRecord, Outcome, TurnRecord
from .profiles import Scene
from .protocol import Protocol
from .schema import add_functions, upgrade
from .score_record import Score
from .unit import Arm, Unit

FILE = "journal.sqlite"
BUSY_SECONDS = 60.0  # for who writes scores beside a run
Model = TypeVar("Model", bound=BaseModel)
UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where SQLite's own message holds broken text


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
    """Reads `folder`/journal.sqlite, which is proved whole first, in one pass over its rows.

    Raises InputError where there is none, where it isn't one that this version can read, and where anything in it is not
    as it was written. A journal of version 1 is made one of today's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = find_journal(folder)
        self._reader = sqlite3.connect(_uri(self._path), uri=True)
        add_functions(self._reader)
        try:
            self._check()
        except BaseException as error:
            self._reader.close()
            if isinstance(error, UNREADABLE):
                raise explained(self._path, error) from error
            raise

    def _check(self) -> None:
        version = check_version(self._reader, self._path)
        check_structure(self._reader, self._path)
        if version == 1:
            _upgrade(self._path)
        check_rows(self._reader, self._path)

    def _select(self, query: str, *values: Any) -> Iterator[Any]:
        try:
            yield from self._reader.execute(query, values)
        except UNREADABLE as error:
            raise explained(self._path, error) from error

    def _parse(self, model: type[Model], body: str) -> Model:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            raise damaged(self._path, f"no {model.__name__}: {error.errors()[0]['msg']}") from error

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> "JournalReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def manifest(self) -> dict[str, Any] | None:
        """What defines the run; None before it has started."""
        row = next(self._select("SELECT body FROM manifest"), None)
        return None if row is None else json.loads(row[0])

    @cached_property
    def units(self) -> list[Unit]:
        """All units of the run, in plan order."""
        parts = dict(self._select("SELECT id, body FROM parts"))
        scenes: dict[int, Scene] = {}
        protocols: dict[int, Protocol] = {}
        arms: dict[int, Arm] = {}
        units = []
        for scene, prompt, protocol, arm, seat, seed, models in self._select(
            "SELECT scene, prompt, protocol, arm, seat, seed, models FROM units ORDER BY id"
        ):
            if scene is not None and scene not in scenes:
                scenes[scene] = self._parse(Scene, parts[scene])
            if protocol not in protocols:
                protocols[protocol] = self._parse(Protocol, parts[protocol])
            if arm not in arms:
                arms[arm] = self._parse(Arm, parts[arm])
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
        return {unit_id: number for number, unit_id in self._select("SELECT id, unit_id FROM units")}

    def turns(self, unit_id: str) -> list[TurnRecord]:
        """The kept turns of one unit, by index and seat."""
        rows = self._select("SELECT body FROM turns WHERE unit = ? ORDER BY idx, seat", self._ids[unit_id])
        return [self._parse(TurnRecord, body) for (body,) in rows]

    def outcomes(self) -> dict[str, Outcome]:
        """How each finished unit ended, by unit_id, in plan order."""
        rows = self._select("SELECT unit_id, body FROM outcomes JOIN units ON id = unit ORDER BY unit")
        return {unit_id: self._parse(Outcome, body) for unit_id, body in rows}

    def records(self) -> Iterator[EpisodeRecord]:
        """The finished units in plan order, failed ones among them; one at a time in memory."""
        outcomes = self._select("SELECT unit, body FROM outcomes ORDER BY unit")
        turns = groupby(self._select("SELECT unit, body FROM turns ORDER BY unit, idx, seat"), itemgetter(0))
        at, own = next(turns, (None, iter(())))
        for unit, body in outcomes:
            while at is not None and at < unit:
                at, own = next(turns, (None, iter(())))
            kept = [self._parse(TurnRecord, row[1]) for row in own] if at == unit else []
            yield EpisodeRecord(unit=self.units[unit], turns=kept, outcome=self._parse(Outcome, body))

    def scores(self, judge_id: str | None = None) -> list[Score]:
        """Scores of one judge, or of all, by judge and in plan order."""
        query = "SELECT body FROM scores WHERE judge_id = ? ORDER BY judge_id, unit, seat, metric"
        if judge_id is None:
            rows = self._select(query.replace("WHERE judge_id = ? ", ""))
        else:
            rows = self._select(query, judge_id)
        return [self._parse(Score, body) for (body,) in rows]

    def judged(self) -> dict[str, set[str]]:
        """unit_ids that each judge_id has judged, whether a score came of it or not."""
        found: defaultdict[str, set[str]] = defaultdict(set)
        for judge_id, unit_id in self._select("SELECT DISTINCT judge_id, unit_id FROM scores JOIN units ON id = unit"):
            found[judge_id].add(unit_id)
        return dict(found)


def _upgrade(path: Path) -> None:
    """Raises InputError where the journal can't be written."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        add_functions(connection)
        upgrade(connection)
    except sqlite3.OperationalError as error:
        raise InputError(
            f"a journal of format 1, which can't be brought up to date here ({error}); copy its folder to a place where "
            "it can be written",
            str(path),
        ) from error
    finally:
        connection.close()
