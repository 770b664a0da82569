"""The journal keeps what it says it has kept, for one writer at a time, on a full disk too."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.episode_record import Outcome, TurnRecord
from tiller.evaluation.sotopia.journal import DiskFullError, Journal, JournalError
from tiller.evaluation.sotopia.journal_reader import FILE, JournalReader
from tiller.evaluation.sotopia.plan import make_units
from tiller.evaluation.sotopia.profiles import Scene
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.sotopia.unit import UNSTEERED, Arm, Unit

HOLD = "import sys, pathlib, time; from tiller.evaluation.sotopia.journal import Journal; Journal(pathlib.Path(sys.argv[1]))"
DONE = Outcome(status="complete", cause="max_turns")


@pytest.fixture
def units(scene: Scene) -> list[Unit]:
    arms = [UNSTEERED, Arm(name="warm", steering={"features": [{"id": 3, "value": 2.5}]}, target="warm", alpha=2.5)]
    prompt = Unit(prompt=[{"role": "user", "content": "Hello?"}], protocol=Protocol(), arm=arms[1], models=("a", "b"))
    return [*make_units([scene], arms, Protocol(max_turns=4), ("first", "second"), range(3), ("a", "b")), prompt]


@pytest.fixture
def journal(tmp_path: Path, units: list[Unit]) -> Any:
    with Journal(tmp_path) as journal:
        journal.start({"run": 1}, units)
        yield journal


def turn(index: int, text: str = "Good morning, \u00e9t\u00e9 \U0001f600") -> TurnRecord:
    receipt = {"spec_hash": "ab", "tokens_in_scope": 3, "mean_delta_norm": 0.1 + 0.2}
    return TurnRecord(
        index=index, seat=index % 2, name="Mina Keller", action_type="speak", argument=text, text=text, seed=2**63 - 1,
        receipt=receipt,
    )  # fmt: skip


async def keep_all(journal: Journal, units: list[Unit], num_turns: int) -> None:
    async def one(unit: Unit) -> None:
        for index in range(num_turns):
            await journal.keep(unit.unit_id, turn(index, f"{unit.unit_id} {index}"))
        await journal.finish(unit.unit_id, DONE)

    await asyncio.gather(*map(one, units))


def test_everything_comes_back_as_it_was(journal: Journal, units: list[Unit]) -> None:
    asyncio.run(keep_all(journal, units, 3))
    with JournalReader(journal.folder) as reader:
        assert reader.manifest() == {"run": 1}
        assert reader.units == units
        assert [unit.unit_id for unit in reader.units] == [unit.unit_id for unit in units]
        records = list(reader.records())
        assert [record.unit for record in records] == units
        for record in records:
            assert record.turns == [turn(i, f"{record.unit.unit_id} {i}") for i in range(3)]
            assert record.turns == reader.turns(record.unit.unit_id)
            assert record.outcome == DONE


def test_records_are_those_of_finished_units_in_plan_order(journal: Journal, units: list[Unit]) -> None:
    async def write() -> None:
        for unit in reversed(units[::2]):
            await journal.finish(unit.unit_id, Outcome(status="failed", cause="timeout", detail="late"))
        await journal.keep(units[1].unit_id, turn(0))
        await journal.keep(units[2].unit_id, turn(0))

    asyncio.run(write())
    records = list(journal.records())
    assert [record.unit for record in records] == units[::2]
    assert [len(record.turns) for record in records] == [0, 1, *[0] * (len(records) - 2)]
    assert list(journal.outcomes()) == [unit.unit_id for unit in units[::2]]


def test_a_kept_turn_is_on_disk_when_the_await_returns(journal: Journal, units: list[Unit]) -> None:
    """Another connection, which sees what is committed and nothing else, has it."""

    async def write() -> None:
        for index in range(4):
            await journal.keep(units[0].unit_id, turn(index))
            with sqlite3.connect(journal.folder / FILE) as other:
                assert other.execute("SELECT count(*) FROM turns").fetchone() == (index + 1,)
            other.close()

    asyncio.run(write())


def test_a_turn_is_kept_once(journal: Journal, units: list[Unit]) -> None:
    async def write() -> None:
        await journal.keep(units[0].unit_id, turn(0))
        with pytest.raises(JournalError, match="UNIQUE"):
            await journal.keep(units[0].unit_id, turn(0))

    asyncio.run(write())


def test_a_second_process_is_refused_and_a_dead_one_is_not(journal: Journal) -> None:
    hold = [sys.executable, "-c", f"{HOLD}; print('open', flush=True); time.sleep(60)"]
    second = subprocess.run([*hold, str(journal.folder)], capture_output=True, text=True)
    assert second.returncode == 1
    assert "is writing there" in second.stderr
    with pytest.raises(InputError, match="this process is writing there"):
        Journal(journal.folder)
    journal.close()
    holder = subprocess.Popen([*hold, str(journal.folder)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"open\n"
    with pytest.raises(InputError, match=f"process {holder.pid} on .* is writing there"):
        Journal(journal.folder)
    holder.kill()
    holder.wait()
    Journal(journal.folder)


def test_a_full_disk_is_a_clear_stop_after_which_nothing_is_half(journal: Journal, units: list[Unit]) -> None:
    """SQLite's own page limit is met as a full disk is: SQLITE_FULL in the middle of a transaction."""
    kept = []

    async def fill() -> None:
        for unit in units:
            await journal.keep(unit.unit_id, turn(0, "x" * 1500))
            kept.append(unit.unit_id)

    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(DiskFullError, match="free space and run the same command again"):
        asyncio.run(fill())
    assert 0 < len(kept) < len(units)
    with pytest.raises(DiskFullError):  # nor does a later one pass as if nothing had been lost
        asyncio.run(journal.finish(units[0].unit_id, DONE))
    journal.close()
    with Journal(journal.folder) as again:
        assert [unit.unit_id for unit in units if again.turns(unit.unit_id)] == kept
        assert again._connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rest = [unit for unit in units if unit.unit_id not in kept]
        asyncio.run(keep_all(again, rest, 2))
        assert len(again.outcomes()) == len(rest)


def test_all_that_waits_when_the_disk_is_full_is_told(journal: Journal, units: list[Unit]) -> None:
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 3}")

    async def fill() -> list[Any]:
        keeps = [journal.keep(units[i % len(units)].unit_id, turn(i, "x" * 1500)) for i in range(100)]
        return await asyncio.gather(*keeps, return_exceptions=True)

    assert all(isinstance(result, DiskFullError) for result in asyncio.run(fill()))
    assert not list(journal.records())


def test_scores_are_kept_by_judge_and_replaced(journal: Journal, units: list[Unit]) -> None:
    def score(value: float | None, seat: int | None = 0, judge: str = "j1") -> Score:
        missing = {} if value is not None else {"status": "missing", "cause": "bad_reply"}
        return Score(
            unit_id=units[3].unit_id, judge_id=judge, judge=judge, seat=seat, metric="goal", value=value, **missing
        )  # type: ignore[arg-type]

    asyncio.run(journal.put_scores([score(1.0), score(None, seat=None), score(5.0, judge="j2")]))
    asyncio.run(journal.put_scores([score(2.0)]))
    assert journal.scores("j1") == [score(None, seat=None), score(2.0)]
    assert journal.scores() == [*journal.scores("j1"), score(5.0, judge="j2")]
    assert journal.judged() == {"j1": {units[3].unit_id}, "j2": {units[3].unit_id}}


def test_a_reopened_unit_keeps_its_turns_and_loses_its_scores(journal: Journal, units: list[Unit]) -> None:
    async def write() -> None:
        await keep_all(journal, units, 1)
        await journal.put_scores(
            [Score(unit_id=u.unit_id, judge_id="j", judge="j", metric="m", value=1.0) for u in units]
        )

    asyncio.run(write())
    journal.reopen([units[0].unit_id])
    assert list(journal.outcomes()) == [unit.unit_id for unit in units[1:]]
    assert journal.judged()["j"] == {unit.unit_id for unit in units[1:]}
    assert journal.turns(units[0].unit_id) == [turn(0, f"{units[0].unit_id} 0")]


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        JournalReader(tmp_path)
    (tmp_path / FILE).write_text("something else, and long enough to have a header of a hundred bytes" * 10)
    with pytest.raises(InputError, match="file is not a database"):
        Journal(tmp_path)
    (tmp_path / FILE).unlink()
    Journal(tmp_path).close()
    with sqlite3.connect(tmp_path / FILE) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    for kind in (Journal, JournalReader):
        with pytest.raises(InputError, match="a journal of format 99"):
            kind(tmp_path)
