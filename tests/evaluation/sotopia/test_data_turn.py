"""`tiller sotopia turn`: many records, features and strengths out of one engine call."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from tiller.engine.config import load_config
from tiller.engine.errors import TillerError
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.episode_record import ActionType
from tiller.evaluation.sotopia.listing import shipped_records
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.records import read_records
from tiller.evaluation.sotopia.turn import moments_of
from tiller.evaluation.sotopia.turn_cli import ways_of
from tiller.evaluation.sotopia.world import load_world

from .test_data_records import read, toolkit_line

Results = list[dict[str, Any]]
WAYS = ["french", "add 63=0", "add 63=20", "add 63=300", "add 81=40"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Of the command itself: two records, two turns, a profile, three strengths of a feature and one of another."""
    out = tmp_path_factory.mktemp("turn") / "deep" / "out.json"
    command = [
        sys.executable, "-m", "tiller.evaluation.cli", "sotopia", "turn", "--record-idx", "3", "--record-idx", "0",
        "--turn-idx", "0", "--turn-idx", "3", "--feature", "63=0,20,300", "--feature", "81=40", "--profile", "french",
        "--output-file", str(out),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert "record 3, turn 0, business_deal" in done.stdout and "add 63=20: receipt: " in done.stdout
    return json.loads(out.read_text())


def test_every_moment_is_tried_in_every_way(results: Results) -> None:
    moments = [(3, 0), (3, 3), (0, 0), (0, 3)]
    assert [(r["record_idx"], r["turn_idx"], r["way"]) for r in results] == [
        (*moment, way) for moment in moments for way in WAYS
    ]
    for result in results:
        assert list(result)[:8] == [
            "feature_idx", "steering_strength", "layer", "prompt", "baseline_output", "steered_output",
            "baseline_feature_value", "config",
        ]  # fmt: skip


def test_strength_zero_is_the_unsteered_answer(results: Results) -> None:
    zero = [result for result in results if result["way"] == "add 63=0"]
    assert [r["steered_output"] for r in zero] == [r["baseline_output"] for r in zero]


def test_every_action_is_valid_at_every_strength(results: Results) -> None:
    for result in results:
        for key in ("baseline_action", "steered_action"):
            assert result[key]["action_type"] in get_args(ActionType), result["way"]


def test_receipts_add_up(results: Results) -> None:
    for receipt in (result["receipt"] for result in results):
        assert receipt["tokens_steered"] + receipt["tokens_cached"] == receipt["tokens_in_scope"] > 0


def test_steering_changes_what_is_said(results: Results) -> None:
    strong = [result for result in results if result["way"] == "add 63=300"]
    assert all(result["steered_output"] != result["baseline_output"] for result in strong)


def test_feature_values_are_those_of_the_unsteered_run(results: Results) -> None:
    for start in range(0, len(results), len(WAYS)):
        by_way = dict(zip(WAYS, results[start : start + len(WAYS)], strict=True))
        values = {by_way[way]["baseline_feature_value"] for way in WAYS[1:4]}
        assert len(values) == 1
        assert by_way["add 63=20"]["baseline_feature_values"].keys() == {"63"}
        assert by_way["french"]["baseline_feature_values"].keys() == {"63", "81", "116"}
        assert by_way["french"]["baseline_feature_values"]["81"] == by_way["add 81=40"]["baseline_feature_value"]


def test_the_prompt_goes_on_where_the_record_is(results: Results) -> None:
    records = read_records(shipped_records())
    for result in results:
        record, turn = records[result["record_idx"]], result["turn_idx"]
        assert result["prompt"].endswith(f"Turn {turn + 1} {record.names[turn % 2]}:")
        assert result["agent"] == record.names[turn % 2]
        assert result["recorded_action"]["argument"] == record.turns[turn].argument
        assert (result["last_turn"] is None) == (turn == 0)


@pytest.mark.parametrize(
    ("records", "turns", "message"),
    [
        ([24], [0], "--record-idx: 24 given; there are records 0 to 23"),
        ([0], [13], "--turn-idx: 13 given; record 0 has 11 turns, so 0"),
        ([0, 1], [-1], "--turn-idx: -1 given"),
        ([1], [12], "--turn-idx: 12 given; in record 1 Sofia left at turn 11"),
    ],
)
def test_moments_that_are_not_there(records: list[int], turns: list[int], message: str) -> None:
    with pytest.raises(InputError) as error:
        moments_of(read_records(shipped_records()), records, turns, load_world())
    assert message in str(error.value)


def test_after_the_last_turn_the_other_one_acts() -> None:
    record = read(toolkit_line())
    shorter = record.model_copy(update={"turns": record.turns[:2]})
    (moment,) = moments_of([shorter], [0], [2], None)
    assert (moment.seat, moment.said) == (0, None)


def test_a_foreign_record_gives_the_full_prompt_without_its_profiles() -> None:
    (moment,) = moments_of([read(toolkit_line())], [0], [1], load_world())
    text = moment.prompt(Protocol())[0]["content"]
    assert moment.name == "Bea Lund"
    assert "Stay\nfirst" in text and "Bea Lund sings." in text and 'Ada Ng said: "May I? "Please"."' in text
    assert "Get ahead" not in text and "Never voted" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to steer with"),
        ({"steering": ["{}"]}, "nothing to steer with"),
        ({"features": ["63=1,x"]}, "--feature 63=x: 'x' is no number"),
        ({"features": ["63"]}, "--feature 63: --op add needs a value"),
        ({"profiles": ["cold"]}, "unknown profile 'cold'"),
    ],
)
def test_ways_that_can_not_be(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"features": [], "profiles": [], "vectors": [], "steering": [], **options}
    with pytest.raises(TillerError) as error:
        ways_of(load_config("demo"), op="add", unit="raw", sae="default", where=None, error_term=None, **given)
    assert message in str(error.value)


def test_a_shipped_record_has_everything(tmp_path: Path) -> None:
    records, world = read_records(shipped_records()), load_world()
    assert [record.environment_id for record in records] == list(world.environments)
    assert all(record.turns and record.goals and record.rewards == (None, None) for record in records)
