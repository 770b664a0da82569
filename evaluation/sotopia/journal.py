"""The journal of a run: SQLite in WAL mode, in which every turn, outcome and score is durable once kept."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tiller.engine.errors import TillerError

from .episode_record import Outcome, TurnRecord
from .group_commit import GroupCommit, Row
from .journal_reader import BUSY_SECONDS, FILE, UNREADABLE, JournalReader
from .run_lock import RunLock
from .schema import add_functions, is_empty, make_tables, put_into
from .score_record import Score
from .unit import Unit

PUT_TURN, PUT_OUTCOME = put_into("turns"), put_into("outcomes")
PUT_SCORE = put_into("scores", "INSERT OR REPLACE")
NO_SEAT = -1  # a score of the unit as a whole; NULLs would not be unique


class JournalError(TillerError):
    """The journal can't be written; what was kept before is safe, and nothing of it is half."""


class DiskFullError(JournalError):
    """There is no space left."""


class Journal(JournalReader):
    """The one writer of `folder`/journal.sqlite, made if it isn't there.

    A record is kept once the await returns: it survives the end of the process in any way, and of the machine
    (synchronous=FULL). Raises InputError where another process writes there.

    lock: what two processes may not hold at a time; who writes scores alone has a lock of its own, so that a run may go on.
    """

    def __init__(self, folder: Path, lock: str = "journal.lock") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(folder, lock)
        try:
            self._open(folder)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, folder: Path) -> None:
        self.folder = folder
        self._connection = sqlite3.connect(
            folder / FILE, check_same_thread=False, isolation_level=None, timeout=BUSY_SECONDS
        )
        try:
            self._make_if_new()
            super().__init__(folder)
        except BaseException:
            self._connection.close()
            raise
        self._connection.execute("PRAGMA synchronous = FULL")
        self._commits = GroupCommit(self._connection, self._explain)

    def _make_if_new(self) -> None:
        add_functions(self._connection)
        try:
            new = is_empty(self._connection)
        except UNREADABLE:
            return  # the reader says what is wrong with it
        try:
            if new:
                make_tables(self._connection)
        except sqlite3.OperationalError as error:
            raise self._explain(error) from error

    def close(self) -> None:
        self._commits.close()
        super().close()
        self._connection.close()
        self._lock.release()

    def __enter__(self) -> "Journal":
        return self

    def start(self, manifest: dict[str, Any], units: Sequence[Unit]) -> None:
        """Writes down what the run is, in one transaction, before its first turn."""
        assert self.manifest() is None, "a run starts once"
        parts: dict[str, int] = {}
        rows = [_unit_row(number, unit, parts) for number, unit in enumerate(units)]
        self._commits.write(
            {
                put_into("manifest"): [(json.dumps(manifest, ensure_ascii=False),)],
                put_into("parts"): [(number, body) for body, number in parts.items()],
                put_into("units"): rows,
            }
        )
        for name in ("units", "_ids"):
            self.__dict__.pop(name, None)

    async def keep(self, unit_id: str, turn: TurnRecord) -> None:
        """Raises JournalError where it can't be written; then it is not kept."""
        row: Row = (self._ids[unit_id], turn.index, turn.seat, turn.model_dump_json())
        await self._commits.put(PUT_TURN, [row])

    async def finish(self, unit_id: str, outcome: Outcome) -> None:
        await self._commits.put(PUT_OUTCOME, [(self._ids[unit_id], outcome.model_dump_json())])

    async def put_scores(self, scores: Sequence[Score]) -> None:
        """All of them or none; replaces what the same judge said of the same unit, seat and metric."""
        rows: list[Row] = [
            (s.judge_id, self._ids[s.unit_id], NO_SEAT if s.seat is None else s.seat, s.metric, s.model_dump_json())
            for s in scores
        ]
        await self._commits.put(PUT_SCORE, rows)

    def reopen(self, unit_ids: Iterable[str]) -> None:
        """Takes back how units ended, and their scores; their turns stay, and a run goes on after those."""
        rows: list[Row] = [(self._ids[unit_id],) for unit_id in unit_ids]
        self._commits.write({"DELETE FROM outcomes WHERE unit = ?": rows, "DELETE FROM scores WHERE unit = ?": rows})

    def _explain(self, error: sqlite3.Error) -> Exception:
        where = str(self.folder / FILE)
        if error.sqlite_errorname == "SQLITE_FULL":
            return DiskFullError(
                "no space left; all that was kept is safe: free space and run the same command again", where
            )
        return JournalError(
            f"can't be written ({error}, {error.sqlite_errorname}); all that was kept is safe: "
            "mend this and run the same command again",
            where,
        )


def _unit_row(number: int, unit: Unit, parts: dict[str, int]) -> Row:
    """A unit with its large parts, which many units share, as numbers of `parts`."""

    def part(content: Any) -> int | None:
        if content is None:
            return None
        body = content.model_dump_json() if isinstance(content, BaseModel) else json.dumps(content, ensure_ascii=False)
        return parts.setdefault(body, len(parts))

    return (
        number, unit.unit_id, part(unit.scene), part(unit.prompt), part(unit.protocol), part(unit.arm),
        unit.seat, unit.seed, json.dumps(unit.models),
    )  # fmt: skip
