"""Runs on the demo engine in this process: equal runs, arms that must equal the unsteered one, receipts that add up."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tiller.engine.config import load_config
from tiller.evaluation.sotopia.export import EPISODES, ArmTotals, export_run
from tiller.evaluation.sotopia.journal import Journal
from tiller.evaluation.sotopia.local import LocalSpeaker
from tiller.evaluation.sotopia.manifest import make_manifest, open_run
from tiller.evaluation.sotopia.plan import arms_of, make_units
from tiller.evaluation.sotopia.progress import Progress
from tiller.evaluation.sotopia.runner import run_units
from tiller.evaluation.sotopia.settings import settings_of
from tiller.evaluation.sotopia.unit import Arm
from tiller.evaluation.sotopia.world import load_world

CONFIG = load_config("demo")
ZERO = {"features": [{"id": 63, "value": 0.0}, {"id": 81, "op": "scale", "value": 1.0}], "skip_first": 1}
ARMS = [*arms_of(CONFIG), Arm(name="zero", steering=ZERO, target="french", alpha=0.0)]
PROTOCOL = settings_of(CONFIG).protocol.model_copy(update={"max_turns": 3, "max_tokens": 48})
UNITS = make_units(load_world(None).scenes(2), ARMS, PROTOCOL, ("first", "both"), models=("demo", "demo"))


def play(out: Path, llm: Any, in_flight: int) -> list[ArmTotals]:
    speaker = LocalSpeaker(llm)
    with open_run(out, make_manifest("sotopia run", CONFIG, UNITS, ("demo", "demo")), UNITS) as journal:
        ending = asyncio.run(run_units(journal, (speaker, speaker), in_flight, Progress(len(UNITS))))
        assert ending.state == "done"
        return export_run(journal)


@pytest.fixture(scope="module")
def played(demo_llm: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, ArmTotals]]:
    out = tmp_path_factory.mktemp("played")
    return out, {totals.arm: totals for totals in play(out, demo_llm, 256)}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / EPISODES).read_text("utf-8").splitlines()]


def test_equal_runs_write_equal_files_however_many_are_in_flight(played: Any, demo_llm: Any, tmp_path: Path) -> None:
    out, _ = played
    play(tmp_path, demo_llm, 9)
    assert lines(tmp_path) == lines(out)


def test_an_arm_at_alpha_0_equals_the_unsteered_one(played: Any) -> None:
    out, totals = played
    said = {(line["pair_id"], line["arm"]): [turn["text"] for turn in line["turns"]] for line in lines(out)}
    pairs = {pair_id for pair_id, _ in said}
    assert all(said[pair_id, "zero"] == said[pair_id, "unsteered"] for pair_id in pairs)
    assert totals["zero"].tokens_in_scope > 0, "it was steered, by nothing"
    assert any(said[pair_id, "french"] != said[pair_id, "unsteered"] for pair_id in pairs)


def test_every_episode_is_complete_and_every_steered_token_accounted_for(played: Any) -> None:
    out, totals = played
    assert {line["outcome"] for line in lines(out)} == {"complete"}
    assert len(lines(out)) == len(UNITS) == 2 * len(ARMS) * 2
    for name, arm in totals.items():
        assert arm.tokens_steered + arm.tokens_cached == arm.tokens_in_scope
        assert (arm.tokens_in_scope > 0) == (name != "unsteered")


def test_what_is_written_has_no_clock_and_no_cache(played: Any) -> None:
    """Receipts say how many tokens were in scope; how many of these came from the prefix cache stays in the journal."""
    out, _ = played
    steered = [turn for line in lines(out) for turn in line["turns"] if turn["receipt"] is not None]
    assert {key for turn in steered for key in turn["receipt"]} == {"spec_hash", "tokens_in_scope"}
    with Journal(out) as journal:
        kept = [turn.receipt for record in journal.records() for turn in record.turns if turn.receipt is not None]
    assert len(kept) == len(steered)
    assert all(receipt.keys() > {"tokens_steered", "tokens_cached", "mean_delta_norm"} for receipt in kept)


def test_who_is_steered_follows_the_seat(played: Any) -> None:
    out, _ = played
    for line in lines(out):
        for turn in line["turns"]:
            steered = line["arm"] != "unsteered" and (line["seat"] == "both" or turn["seat"] == 0)
            assert (turn["receipt"] is not None) == steered
