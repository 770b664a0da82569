"""Durable writes that don't hold up the event loop: whatever comes while one commit runs shares the next."""

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

Row = tuple[int | str | None, ...]


@dataclass
class _Batch:
    """Rows by their statement, and who waits for them."""

    rows: defaultdict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None


class GroupCommit:
    """The one thread that writes through `connection`, which nobody else may use meanwhile.

    explain: turns what SQLite says into what the waiting callers raise. After an error every later write raises it too.
    """

    def __init__(self, connection: sqlite3.Connection, explain: Callable[[sqlite3.Error], Exception]) -> None:
        self._connection = connection
        self._explain = explain
        self._thread = ThreadPoolExecutor(1, "journal")
        self._next: _Batch | None = None
        self._busy = False
        self._error: Exception | None = None

    async def put(self, statement: str, rows: Sequence[Row]) -> None:
        """Returns once the rows are on disk; all of them, or after an error none."""
        if self._error is not None:
            raise self._error
        if self._next is None:
            self._next = _Batch()
            if not self._busy:
                self._busy = True
                asyncio.get_running_loop().call_soon(self._start)  # so that the rest of this round comes along
        batch = self._next
        batch.rows[statement] += rows
        await batch.done.wait()
        if batch.error is not None:
            raise batch.error

    def write(self, rows: dict[str, list[Row]]) -> None:
        """The same at once, for use while nothing is put."""
        try:
            self._commit(rows)
        except sqlite3.Error as error:
            raise self._explain(error) from error

    def close(self) -> None:
        """Waits for the commit that runs."""
        self._thread.shutdown()

    def _start(self) -> None:
        batch, self._next = self._next, None
        assert batch is not None
        commit = asyncio.get_running_loop().run_in_executor(self._thread, self._commit, batch.rows)
        commit.add_done_callback(partial(self._finish, batch))

    def _finish(self, batch: _Batch, commit: "asyncio.Future[None]") -> None:
        self._busy = False
        error = commit.exception()
        if error is not None:
            explained = self._explain(error) if isinstance(error, sqlite3.Error) else error
            assert isinstance(explained, Exception)
            self._error = batch.error = explained
        batch.done.set()
        if self._next is None:
            return
        if self._error is not None:
            self._next.error = self._error
            self._next.done.set()
            self._next = None
            return
        self._busy = True
        self._start()

    def _commit(self, rows: dict[str, list[Row]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, own in rows.items():
                self._connection.executemany(statement, own)
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
