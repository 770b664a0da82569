"""The tables of a journal, each row with a checksum over its table's name and all its other columns."""

import sqlite3

from .checksum import checksum

VERSION = 2  # 1: without checksums
SCHEMA = """
CREATE TABLE manifest (body TEXT NOT NULL, checksum BLOB);
CREATE TABLE parts (id INTEGER PRIMARY KEY, body TEXT NOT NULL, checksum BLOB);
CREATE TABLE units (
    id INTEGER PRIMARY KEY, unit_id TEXT NOT NULL UNIQUE, scene INTEGER, prompt INTEGER, protocol INTEGER NOT NULL,
    arm INTEGER NOT NULL, seat TEXT NOT NULL, seed INTEGER NOT NULL, models TEXT NOT NULL, checksum BLOB
);
CREATE TABLE turns (
    unit INTEGER NOT NULL, idx INTEGER NOT NULL, seat INTEGER NOT NULL, body TEXT NOT NULL, checksum BLOB,
    PRIMARY KEY (unit, idx, seat)
);
CREATE TABLE outcomes (unit INTEGER PRIMARY KEY, body TEXT NOT NULL, checksum BLOB);
CREATE TABLE scores (
    judge_id TEXT NOT NULL, unit INTEGER NOT NULL, seat INTEGER NOT NULL, metric TEXT NOT NULL, body TEXT NOT NULL,
    checksum BLOB, PRIMARY KEY (judge_id, unit, seat, metric)
) WITHOUT ROWID;
"""
COLUMNS = {
    "manifest": ("body",),
    "parts": ("id", "body"),
    "units": ("id", "unit_id", "scene", "prompt", "protocol", "arm", "seat", "seed", "models"),
    "turns": ("unit", "idx", "seat", "body"),
    "outcomes": ("unit", "body"),
    "scores": ("judge_id", "unit", "seat", "metric", "body"),
}


def add_functions(connection: sqlite3.Connection) -> None:
    """Lets SQL on this connection call `checksum`."""
    connection.create_function("checksum", -1, checksum, deterministic=True)


def checksum_of(table: str) -> str:
    """The checksum of a row of `table`, as SQL."""
    return f"checksum('{table}', {', '.join(COLUMNS[table])})"


def put_into(table: str, verb: str = "INSERT") -> str:
    """The statement that writes a row of COLUMNS with its checksum."""
    places = ", ".join(f"?{i + 1}" for i in range(len(COLUMNS[table])))
    return f"{verb} INTO {table} VALUES ({places}, checksum('{table}', {places}))"


def is_empty(connection: sqlite3.Connection) -> bool:
    """True for a new file, and for one whose maker ended before its tables were there."""
    return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def make_tables(connection: sqlite3.Connection) -> None:
    """In WAL mode, all of them or none."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")


def version_of(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def upgrade(connection: sqlite3.Connection) -> None:
    """Gives the rows of a journal of version 1 their checksums, all of them or none; others stay as they are."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if version_of(connection) == 1:
            for table in COLUMNS:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum BLOB")
                connection.execute(f"UPDATE {table} SET checksum = {checksum_of(table)}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
