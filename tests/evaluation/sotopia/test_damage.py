"""A journal in which anything was changed is refused in one sentence; nothing goes on with other data than was kept.

TILLER_FLIPS=5000 tries so many changed bytes.
"""

import asyncio
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.journal_reader import FILE, JournalReader
from tiller.evaluation.sotopia.unit import UNSTEERED

from ..mounts import mounted
from ..test_cli import run_tiller
from .made_run import record, scores, swept, turn, units, write_run

NUM_FLIPS = int(os.environ.get("TILLER_FLIPS", 300))
TABLES = ("manifest", "parts", "units", "turns", "outcomes", "scores")
PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run of 40 episodes, some of them failed."""
    out = tmp_path_factory.mktemp("damage") / "whole"
    given = units([UNSTEERED, *swept("warm", [0.0, 1.0, 2.0])], num_scenes=5)
    records = [record(unit, cause="timeout" if i % 9 == 0 else "left") for i, unit in enumerate(given)]
    write_run(out, records, given, scores(given))
    return out


def damaged(whole: Path, out: Path, change: Callable[[bytearray], None]) -> Path:
    """A copy of the run whose journal was changed."""
    out.mkdir()
    content = bytearray((whole / FILE).read_bytes())
    change(content)
    (out / FILE).write_bytes(content)
    return out


def content_of(out: Path) -> Any:
    with JournalReader(out) as journal:
        return journal.manifest(), journal.units, list(journal.records()), journal.scores()


def flip_200(content: bytearray) -> None:
    middle = len(content) // 2
    for i in range(middle, middle + 200):
        content[i] ^= 0xFF


def zero_page_3(content: bytearray) -> None:
    content[2 * PAGE : 3 * PAGE] = bytes(PAGE)


def change_a_word(content: bytearray) -> None:
    """What was said differs; the JSON is as valid as before."""
    at = content.rindex(b"line 1</i> at")
    content[at : at + 4] = b"lime"


def change_a_score(content: bytearray) -> None:
    at = content.rindex(b'"value":') + len(b'"value":')
    content[at] = ord("9") if content[at] != ord("9") else ord("8")


def destroy_header(content: bytearray) -> None:
    content[:100] = b"x" * 100


def change_version(content: bytearray) -> None:
    content[60] = 7


CHANGES = [flip_200, zero_page_3, change_a_word, change_a_score, destroy_header, change_version]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_damaged_journal_is_named(whole: Path, tmp_path: Path, change: Callable[[bytearray], None]) -> None:
    out = damaged(whole, tmp_path / "run", change)
    for kind in (Journal, JournalReader):
        with pytest.raises(InputError) as caught:
            kind(out)
        assert str(caught.value).startswith(f"{out / FILE}: ")
        assert "in another folder" in str(caught.value)


@pytest.mark.parametrize("change", [flip_200, zero_page_3, change_a_word], ids=lambda change: change.__name__)
def test_no_command_starts_on_a_damaged_journal(
    whole: Path, tmp_path: Path, change: Callable[[bytearray], None]
) -> None:
    out = damaged(whole, tmp_path / "run", change)
    for command in (
        ("sotopia", "run"), ("sotopia", "score"), ("sotopia", "report"), ("sweep", "--profile", "french", "--scenarios", "2"),
    ):  # fmt: skip
        done = run_tiller(*command, "--out", str(out))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[-3000:]
        assert done.stderr.startswith(f"error: {out / FILE}: ")
    done = run_tiller("features", "correlate", "--episodes", str(out), "--out", str(tmp_path / "found"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr[-3000:]


def test_any_changed_byte_is_found_or_changes_nothing(whole: Path, tmp_path: Path) -> None:
    """Bytes that hold nothing may change; whatever else does, nothing but the same content is ever read."""
    truth = content_of(whole)
    size = (whole / FILE).stat().st_size
    rng = random.Random(3)
    num_found = 0
    for at in [*range(100), *sorted(rng.sample(range(100, size), NUM_FLIPS))]:
        out = damaged(whole, tmp_path / str(at), lambda content, at=at: flip(content, at, rng))  # type: ignore[misc]
        try:
            assert content_of(out) == truth, f"byte {at} was changed, and other content was read"
        except InputError:
            num_found += 1
        shutil.rmtree(out)
    print(f"{num_found} of {NUM_FLIPS + 100} changed bytes were found; the others hold nothing")
    assert num_found > NUM_FLIPS / 2


def flip(content: bytearray, at: int, rng: random.Random) -> None:
    content[at] ^= rng.randrange(1, 256)


def test_what_is_damaged_before_it_reached_the_file_counts_as_never_written(tmp_path: Path) -> None:
    """SQLite checks its WAL itself and takes it up to the first frame that is wrong; no other turn is ever read."""
    given = units([UNSTEERED], num_scenes=3)
    turns = [turn(i, f"line {i}") for i in range(40)]
    rng, nums = random.Random(4), []
    with Journal(tmp_path / "run") as journal:
        journal.start({}, given)
        journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for one in turns:
            asyncio.run(journal.keep(given[0].unit_id, one))
        for number in range(20):
            out = damaged(tmp_path / "run", tmp_path / str(number), lambda content: None)
            wal = bytearray((tmp_path / "run" / f"{FILE}-wal").read_bytes())
            flip(wal, rng.randrange(len(wal)), rng)
            (out / f"{FILE}-wal").write_bytes(wal)
            with JournalReader(out) as reader:
                kept = reader.turns(given[0].unit_id)
            assert kept == turns[: len(kept)]
            nums.append(len(kept))
    assert 0 < max(nums) and min(nums) < 40


def test_a_row_of_an_other_place_is_found(whole: Path, tmp_path: Path) -> None:
    """SQLite sees no harm in what it is told to do itself."""
    for number, statement in enumerate(
        [
            "UPDATE turns SET unit = unit + 1000 WHERE unit = 3",
            "UPDATE outcomes SET body = (SELECT body FROM outcomes WHERE unit = 0) WHERE unit = 1",
            "UPDATE units SET seed = seed + 1 WHERE id = 2",
            "UPDATE units SET prompt = '' WHERE id = 2",
            "UPDATE parts SET body = replace(body, 'Mina', 'Mona')",
            "UPDATE manifest SET body = '{}'",
        ]
    ):
        out = damaged(whole, tmp_path / str(number), lambda content: None)
        with sqlite3.connect(out / FILE) as other:
            assert other.execute(statement).rowcount > 0
        other.close()
        with pytest.raises(InputError, match="not as written"):
            JournalReader(out)


def make_version_1(out: Path) -> None:
    """The journal as versions of tiller without checksums left it."""
    with sqlite3.connect(out / FILE) as old:
        for table in TABLES:
            old.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        old.execute("PRAGMA user_version = 1")
    old.close()


def test_a_journal_of_version_1_is_brought_up_to_date(whole: Path, tmp_path: Path) -> None:
    truth = content_of(whole)
    for number, kind in enumerate((Journal, JournalReader)):
        out = damaged(whole, tmp_path / str(number), lambda content: None)
        make_version_1(out)
        kind(out).close()
        assert content_of(out) == truth
        with sqlite3.connect(out / FILE) as upgraded:
            assert upgraded.execute("PRAGMA user_version").fetchone() == (2,)
            assert upgraded.execute("SELECT count(*) FROM turns WHERE length(checksum) = 16").fetchone() == (160,)
        upgraded.close()


def test_a_journal_of_version_1_that_cannot_be_written_says_so(whole: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "mounted") as mount:
        out = damaged(whole, mount.path / "run", lambda content: None)
        make_version_1(out)
        mount.make_read_only()
        with pytest.raises(InputError, match="format 1, which can't be brought up to date here .*; copy its folder"):
            JournalReader(out)


def test_what_was_damaged_before_there_were_checksums_is_named(whole: Path, tmp_path: Path) -> None:
    """A key of the JSON that nobody knows: it got its checksum as it was."""
    out = damaged(whole, tmp_path / "run", lambda content: None)
    make_version_1(out)
    with sqlite3.connect(out / FILE) as old:
        old.execute("UPDATE turns SET body = replace(body, 'argument', 'argumant') WHERE unit = 3")
    old.close()
    with JournalReader(out) as journal, pytest.raises(InputError, match="damaged .no TurnRecord: "):
        list(journal.records())
