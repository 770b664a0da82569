"""The proof that a journal holds what was written into it, and the sentence about one that doesn't."""

import sqlite3
from pathlib import Path

from tiller.evaluation.inputs import InputError

from .schema import COLUMNS, VERSION, checksum_of, is_empty, version_of

NOT_OF_THE_FILE = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_BUSY", "SQLITE_READONLY", "SQLITE_NOMEM")


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """1 or VERSION; raises InputError where it is neither."""
    if is_empty(connection):
        raise InputError("no run has begun there; `tiller sotopia run --out` begins one", str(path))
    version = version_of(connection)
    if version not in (1, VERSION):
        raise InputError(
            f"a journal of format {version}, this version of tiller reads format {VERSION}: either a newer one made it, "
            "or it is damaged; read it with that version, or begin anew in another folder",
            str(path),
        )
    return version


def check_structure(connection: sqlite3.Connection, path: Path) -> None:
    """Raises InputError where pages, tables and indexes don't fit together; a lost row is seen here."""
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, " ".join(found.split()))


def check_rows(connection: sqlite3.Connection, path: Path) -> None:
    """Raises InputError where any row is not as it was written; reads one row at a time."""
    for table in COLUMNS:
        query = f"SELECT count(*) FROM {table} WHERE checksum IS NOT {checksum_of(table)}"
        try:
            (num,) = connection.execute(query).fetchone()
        except sqlite3.OperationalError as error:
            if "user-defined function" not in str(error):
                raise
            raise damaged(path, f"bytes of its {table} are no text") from error
        if num:
            raise damaged(path, f"{num} of its {table} {'is' if num == 1 else 'are'} not as written")


def explained(path: Path, error: Exception) -> InputError:
    """What SQLite says on reading: that the disk fails or has no space for its work, or that the file is wrong."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if not name.startswith(NOT_OF_THE_FILE):
        return damaged(path, str(error))
    return InputError(
        f"the journal can't be read just now ({error}, {name}); see that its folder can be written and has space, and run "
        "the same command again",
        str(path),
    )


def damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"the journal is damaged ({what}); put a copy of it back, or begin anew in another folder",
        str(path),
    )
