"""Runs with a speaker that answers at once: what is played, resumed, stopped, refused and written."""

import asyncio
import gc
import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tiller.engine.config import load_config
from tiller.engine.errors import TillerError
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.ask import Ask, AskError, EndpointError, Reply
from tiller.evaluation.sotopia.begun import differences
from tiller.evaluation.sotopia.export import EPISODES, export_run
from tiller.evaluation.sotopia.journal import DiskFullError, Journal
from tiller.evaluation.sotopia.manifest import Manifest, identity, make_manifest, open_run
from tiller.evaluation.sotopia.plan import SEATS, arms_of, make_units
from tiller.evaluation.sotopia.progress import Progress
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.runner import FAILURES_IN_A_ROW, STATUS, Ending, run_units
from tiller.evaluation.sotopia.unit import Arm, Unit
from tiller.evaluation.sotopia.world import load_world

from .seeded_speaker import SeededSpeaker

CONFIG = load_config("demo")
SCENES = load_world(None).scenes(6)
PROTOCOL = Protocol(template="compact", window=4, max_turns=5)
UNITS = make_units(SCENES, arms_of(CONFIG), PROTOCOL, SEATS["each"], range(2), ("a", "b"))
MANIFEST = make_manifest("sotopia run", CONFIG, UNITS, ("a", "b"))


def sit(out: Path, speaker: Any, units: list[Unit] = UNITS, in_flight: int = 16, retry: bool = False) -> Ending:
    """One sitting, exported."""
    with open_run(out, make_manifest("sotopia run", CONFIG, units, ("a", "b")), units) as journal:
        if retry:
            journal.reopen([unit_id for unit_id, o in journal.outcomes().items() if o.status == "failed"])
        progress = Progress(len(units))
        ending = asyncio.run(run_units(journal, (speaker, speaker), in_flight, progress))
        totals = export_run(journal)
        assert sum(arm.units for arm in totals) == progress.done == len(journal.outcomes())
    return ending


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / EPISODES).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert sit(out, SeededSpeaker(leaves=7)).state == "done"
    return out


class Cut(SeededSpeaker):
    """Ends the process's run after so many answers, as an error that nobody expected would."""

    def __init__(self, after: int) -> None:
        super().__init__(leaves=7)
        self.after = after

    async def ask(self, ask: Ask) -> Reply:
        if len(self.asked) >= self.after:
            raise RuntimeError("the process fell over")
        return await super().ask(ask)


class Signalled(SeededSpeaker):
    """Sends this process a signal with its answer number `after`."""

    def __init__(self, after: int, number: signal.Signals) -> None:
        super().__init__(leaves=7)
        self.after, self.number, self.answered = after, number, 0

    async def ask(self, ask: Ask) -> Reply:
        reply = await super().ask(ask)
        self.answered += 1
        if self.answered == self.after:
            os.kill(os.getpid(), self.number)
        return reply


def test_every_unit_is_played_in_plan_order(whole: Path) -> None:
    written = lines(whole)
    assert [line["unit_id"] for line in written] == [unit.unit_id for unit in UNITS]
    assert len({line["unit_id"] for line in written}) == len(UNITS) == 6 * 4 * 2 * 2
    for line, unit in zip(written, UNITS, strict=True):
        assert (line["arm"], line["seat"], line["seed"]) == (unit.arm.name, unit.seat, unit.seed)
        assert line["outcome"] == "complete"
        assert (line["cause"] == "left") == any(turn["action_type"] == "leave" for turn in line["turns"])
        assert len(line["turns"]) == 5 or line["cause"] == "left"
        for turn in line["turns"]:
            steered = unit.steering_of(turn["seat"]) is not None
            assert turn["receipt"] == ({"spec_hash": "a1", "tokens_in_scope": 8} if steered else None)


def test_equal_runs_write_equal_files(whole: Path, tmp_path: Path) -> None:
    sit(tmp_path, SeededSpeaker(leaves=7), in_flight=3)
    assert (tmp_path / EPISODES).read_bytes() == (whole / EPISODES).read_bytes()


def test_a_broken_run_goes_on_as_if_it_had_not_been_broken(whole: Path, tmp_path: Path) -> None:
    asked: list[int | None] = []
    for after in (1, 40, 90):
        speaker = Cut(after)
        with pytest.raises(RuntimeError, match="the process fell over"):
            sit(tmp_path, speaker)
        assert json.loads((tmp_path / STATUS).read_text())["state"] == "broken"
        asked += speaker.asked
    last = SeededSpeaker(leaves=7)
    assert sit(tmp_path, last).state == "done"
    assert (tmp_path / EPISODES).read_bytes() == (whole / EPISODES).read_bytes()
    assert len([*asked, *last.asked]) == sum(len(line["turns"]) for line in lines(whole)), "a kept turn was asked again"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_the_turns_under_way_and_stops(whole: Path, tmp_path: Path, number: signal.Signals) -> None:
    speaker = Signalled(60, number)
    assert sit(tmp_path, speaker).state == "interrupted"
    with Journal(tmp_path) as journal:
        assert sum(len(journal.turns(unit.unit_id)) for unit in UNITS) == len(speaker.asked)
    assert json.loads((tmp_path / STATUS).read_text())["state"] == "interrupted"
    rest = SeededSpeaker(leaves=7)
    assert sit(tmp_path, rest).state == "done"
    assert (tmp_path / EPISODES).read_bytes() == (whole / EPISODES).read_bytes()
    assert len(speaker.asked) + len(rest.asked) == sum(len(line["turns"]) for line in lines(whole))


def test_a_second_signal_does_not_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(SeededSpeaker):
        async def ask(self, ask: Ask) -> Reply:
            self.asked.append(ask.seed)
            if len(self.asked) == 4:
                os.kill(os.getpid(), signal.SIGINT)
                asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
            raise AssertionError

    assert sit(tmp_path, Hanging(), in_flight=4).state == "interrupted"
    assert not lines(tmp_path)
    gc.collect()
    assert not caplog.records, "asyncio has found an exception that nobody asked for"


@pytest.mark.parametrize("in_flight", [1, 5])
def test_no_more_units_at_a_time_than_asked_for(tmp_path: Path, in_flight: int) -> None:
    speaker = SeededSpeaker()
    sit(tmp_path, speaker, UNITS[:12], in_flight)
    assert speaker.most_in_flight == in_flight


def test_failed_units_are_typed_counted_and_played_on(whole: Path, tmp_path: Path) -> None:
    assert sit(tmp_path, SeededSpeaker(fail=9, leaves=7)).state == "done"
    failed = [line for line in lines(tmp_path) if line["outcome"] == "failed"]
    assert failed
    assert {line["cause"] for line in failed} == {"server_error"}
    assert len(lines(tmp_path)) == len(UNITS)
    status = json.loads((tmp_path / STATUS).read_text())
    assert (status["failed"], status["causes"]["server_error"]) == (len(failed), len(failed))
    untouched = SeededSpeaker()
    assert sit(tmp_path, untouched).state == "done"
    assert not untouched.asked, "a failed unit is played again without being asked for"
    again = SeededSpeaker(leaves=7)
    assert sit(tmp_path, again, retry=True).state == "done"
    assert (tmp_path / EPISODES).read_bytes() == (whole / EPISODES).read_bytes()
    assert len(again.asked) < sum(len(line["turns"]) for line in lines(whole)) / 2


def test_a_run_in_which_all_fails_stops_early(tmp_path: Path) -> None:
    speaker = SeededSpeaker(fail=1)
    ending = sit(tmp_path, speaker, in_flight=4)
    assert ending.state == "failing"
    assert f"{FAILURES_IN_A_ROW} episodes in a row failed, the last by server_error: no answer to" in ending.reason
    assert FAILURES_IN_A_ROW <= len(lines(tmp_path)) < FAILURES_IN_A_ROW + 4
    assert sit(tmp_path, SeededSpeaker(leaves=7), retry=True).state == "done"
    assert {line["outcome"] for line in lines(tmp_path)} == {"complete"}


@pytest.mark.parametrize("error", [EndpointError("gone", "endpoint x"), TillerError("no such feature", "steering")])
def test_what_every_ask_would_meet_ends_the_run_after_the_turns_under_way(tmp_path: Path, error: TillerError) -> None:
    class Failing(SeededSpeaker):
        async def ask(self, ask: Ask) -> Reply:
            if len(self.asked) == 30:
                raise error
            return await super().ask(ask)

    speaker = Failing(leaves=7)
    with pytest.raises(type(error), match=error.message):
        sit(tmp_path, speaker)
    with Journal(tmp_path) as journal:
        assert sum(len(journal.turns(unit.unit_id)) for unit in UNITS) == len(speaker.asked) == 30
    assert sit(tmp_path, SeededSpeaker(leaves=7)).state == "done"


def test_a_full_disk_stops_the_run_which_then_goes_on(whole: Path, tmp_path: Path) -> None:
    with open_run(tmp_path, MANIFEST, UNITS) as journal:
        pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
        journal._connection.execute(f"PRAGMA max_page_count = {pages + 12}")
        with pytest.raises(DiskFullError, match="run the same command again"):
            asyncio.run(run_units(journal, (SeededSpeaker(leaves=7),) * 2, 16, Progress(len(UNITS))))  # type: ignore[arg-type]
        kept = sum(len(journal.turns(unit.unit_id)) for unit in UNITS)
    assert kept > 16
    rest = SeededSpeaker(leaves=7)
    assert sit(tmp_path, rest).state == "done"
    assert (tmp_path / EPISODES).read_bytes() == (whole / EPISODES).read_bytes()
    assert len(rest.asked) == sum(len(line["turns"]) for line in lines(whole)) - kept


def test_an_export_that_finds_no_space_leaves_the_old_file(whole: Path) -> None:
    before = (whole / EPISODES).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal(whole) as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                export_run(journal)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (whole / EPISODES).read_bytes() == before
    assert not list(whole.glob(".*"))


def test_arms_of_one_scene_seat_and_seed_are_paired_and_adjacent() -> None:
    for start in range(0, len(UNITS), 4):
        together = UNITS[start : start + 4]
        assert len({unit.pair_id for unit in together}) == 1
        assert [unit.arm.name for unit in together] == ["unsteered", "french", "hostile", "warm"]
        assert len({unit.turn_seed(3) for unit in together}) == 1
    assert len({unit.pair_id for unit in UNITS}) == len(UNITS) / 4


def test_arms_are_chosen_by_name() -> None:
    assert [arm.name for arm in arms_of(CONFIG, ["warm", "unsteered"])] == ["unsteered", "warm"]
    with pytest.raises(InputError, match="no arm 'cold'; this config has: unsteered, french, hostile, warm"):
        arms_of(CONFIG, ["cold"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol": Protocol(template="compact", window=4, max_turns=6)}, "--max-turns 5 was begun, 6 given. Give"),
        (
            {"arms": [Arm(name="unsteered"), Arm(name="french", steering={"features": []})]},
            "--arm unsteered,french,hostile,warm was begun, unsteered,french given; arm.french",
        ),
        ({"seeds": range(3)}, "--seeds 2 was begun, 3 given. Give"),
        ({"models": ("a", "c")}, "--partner or the config's model: b was begun, c given. Give"),
        (
            {"scenes": load_world(None).scenes(7)[1:]},
            "--scenarios: other scenes of --data or evaluation.data were begun. Give",
        ),
        ({"scenes": load_world(None).scenes(8)}, "--scenarios 6 was begun, 8 given. Give"),
        ({"seats": SEATS["first"]}, "--seat each was begun, first given. Give"),
        ({"protocol": PROTOCOL.model_copy(update={"window": 9})}, "evaluation.protocol.window "),
    ],
)
def test_another_run_is_refused_and_the_difference_named(whole: Path, change: dict[str, Any], said: str) -> None:
    plan: dict[str, Any] = {
        "scenes": SCENES, "arms": arms_of(CONFIG), "protocol": PROTOCOL, "seats": SEATS["each"], "seeds": range(2),
        "models": ("a", "b"), **change,
    }  # fmt: skip
    units = make_units(**plan)
    with pytest.raises(InputError) as caught:
        open_run(whole, make_manifest("sotopia run", CONFIG, units, plan["models"]), units)
    assert said in str(caught.value)
    open_run(whole, MANIFEST, UNITS).close()


def test_a_manifest_sees_capacity_as_no_change_and_numerics_as_one() -> None:
    def manifest(**engine: Any) -> Manifest:
        config = CONFIG.model_copy(update={"engine": {**CONFIG.engine, **engine}})
        return make_manifest("sotopia run", config, UNITS, (identity(config), "b"))

    assert manifest(max_num_seqs=3) == manifest()
    found = differences(manifest().model_dump(), manifest(dtype="bfloat16").model_dump(), UNITS, UNITS)
    assert found == ["engine.dtype float32 was begun, bfloat16 given"]


def test_a_models_identity_follows_its_files_and_not_its_place(tmp_path: Path) -> None:
    def config_at(folder: Path, weight: bytes) -> str:
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "weights.bin").write_bytes(weight)
        (folder / "c.yaml").write_text("model: model\n")
        return identity(load_config(folder / "c.yaml"))

    large = bytearray(5 << 20)
    first = config_at(tmp_path / "a", bytes(large))
    assert config_at(tmp_path / ".hidden" / "b", bytes(large)) == first
    large[-1] = 1
    assert config_at(tmp_path / "c", bytes(large)) != first


def test_a_refusal_is_one_episodes_failure(tmp_path: Path) -> None:
    """An ask that the endpoint refuses is final for its episode, whatever else goes on."""

    class Refusing(SeededSpeaker):
        async def ask(self, ask: Ask) -> Reply:
            if ask.seed == UNITS[0].turn_seed(0):
                raise AskError("refused", "too long")
            return await super().ask(ask)

    sit(tmp_path, Refusing(), UNITS[:8])
    found = lines(tmp_path)
    assert [line["cause"] for line in found[:4]] == ["refused"] * 4, "the four arms share their seeds"
    assert {line["cause"] for line in found[4:]} == {"max_turns"}
    assert found[0]["turns"] == []
