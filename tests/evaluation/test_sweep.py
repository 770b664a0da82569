"""What a sweep consists of, and a small one from the shell, killed by nobody and run twice."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tiller.engine.config import Config, load_config
from tiller.engine.errors import TillerError
from tiller.engine.spec import parse_spec
from tiller.evaluation.inputs import InputError
from tiller.evaluation.sotopia.protocol import Protocol
from tiller.evaluation.sotopia.unit import UNSTEERED
from tiller.evaluation.sweep import prompt_units
from tiller.evaluation.sweep_targets import arms_of, parse_alphas, targets_of

from .test_cli import run_tiller

CONFIG = Config(
    model="m",
    profiles={
        "warm": {"features": [{"id": 5, "value": 2.0}, {"id": 6, "value": -1.0}], "skip_first": 1},
        "gone": {"features": [{"id": 5, "op": "ablate"}]},
        "still": {"where": "prompt"},
    },
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", [0, 1]),
        ("-2,4,4", [-2, 0, 4]),
        ("-1:1:0.5", [-1, -0.5, 0, 0.5, 1]),
        ("0.1:0.3:0.1,5", [0, 0.1, 0.2, 0.3, 5]),
        ("-300:300:200", [-300, -100, 0, 100, 300]),
        ("2:3:2", [0, 2]),
        ("-0", [0]),
    ],
)
def test_alphas_are_lists_and_ranges_and_hold_zero(text: str, expected: list[float]) -> None:
    assert parse_alphas(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1:2", "1:2:0", "2:1:1", "nan", "inf", "0:1e9:1e-3", "1,,2", "1:2:3:4"])
def test_other_alphas_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--alphas"):
        parse_alphas(text)


@given(alpha=some.floats(-50, 50))
def test_alpha_multiplies_every_value_and_touches_nothing_else(alpha: float) -> None:
    (target,) = targets_of(CONFIG, profiles=["warm"])
    body = target.at(alpha)
    assert [edit["value"] for edit in body["features"]] == [2.0 * alpha, -1.0 * alpha]
    assert body["skip_first"] == 1 and target.body["features"][0]["value"] == 2.0
    assert parse_spec(body) == parse_spec(target.arm(alpha).steering)


def test_features_vectors_profiles_units_and_norms_make_targets() -> None:
    found = targets_of(
        CONFIG, ["7", "7=2,8=-1"], ["v"], ["warm"], units="raw,norm", norms="free,preserve", where="generated"
    )
    assert len(found) == 16 and len({t.name for t in found}) == 16
    assert found[3].name == "feature 7, unit norm, norm preserve"
    assert found[3].body == {
        "features": [{"id": 7, "value": 1.0, "sae": "default", "unit": "norm"}], "norm": "preserve", "where": "generated",
    }  # fmt: skip
    (one,) = targets_of(CONFIG, ["7"], norms="preserve")
    assert one.name == "feature 7" and one.body["norm"] == "preserve"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to sweep"),
        ({"features": ["x"]}, "a feature is named by its number"),
        ({"features": ["3=y"]}, "'y' is no number"),
        ({"features": ["3,3"]}, "edited twice"),
        ({"features": ["3"], "units": "raw,big"}, "--unit: 'big' given"),
        ({"features": ["3"], "norms": "big"}, "--norm: 'big' given"),
        ({"features": ["3"], "where": "nowhere"}, "where"),
        ({"profiles": ["cold"]}, "unknown profile"),
        ({"profiles": ["gone"]}, "--profile gone: feature 5 is ablated"),
        ({"profiles": ["still"]}, "--profile still: it edits nothing"),
        ({"profiles": ["warm", "warm"]}, "given twice"),
    ],
)
def test_wrong_targets_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(TillerError, match=message):
        targets_of(CONFIG, **options)  # type: ignore[arg-type]


def test_arms_begin_with_the_unsteered_one_and_units_pair_by_prompt_and_seed() -> None:
    arms = arms_of(targets_of(CONFIG, profiles=["warm"]), [-1.0, 0.0, 1.0])
    assert arms[0] == UNSTEERED and [arm.name for arm in arms[1:]] == ["warm at -1", "warm at 0", "warm at 1"]
    units = prompt_units(["a", [{"role": "user", "content": "b"}]], arms, Protocol(), range(2), "m")
    assert len({u.unit_id for u in units}) == 16 and len({u.pair_id for u in units}) == 4
    assert [u.pair_id for u in units[:4]] == [units[0].pair_id] * 4 and len({u.cluster for u in units}) == 2


def test_a_sweep_from_the_shell(tmp_path: Path) -> None:
    """Prompts x seeds x arms, judged and reported; again, nothing is played or judged twice."""
    prompts, out = tmp_path / "prompts.txt", tmp_path / "sweep"
    prompts.write_text("How was the concert?\nMay I have the bike?\nWhere is the key?\nWho pays for dinner?\n")
    command = ("sweep", "--profile", "french", "--alphas", "0.5,1", "--prompts", str(prompts), "--out", str(out))
    done = run_tiller(*command)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert len(rows) == 16 and "wrote report.html" in done.stdout
    by_pair = {(row["pair_id"], row["arm"]): row["turns"][0]["text"] for row in rows}
    pairs = {pair for pair, _ in by_pair}
    assert all(by_pair[pair, "unsteered"] == by_pair[pair, "french at 0"] for pair in pairs)
    assert any(by_pair[pair, "unsteered"] != by_pair[pair, "french at 1"] for pair in pairs)
    scores = pq.read_table(out / "scores.parquet").to_pylist()
    french = {arm: [s["value"] for s in scores if s["metric"] == "french" and s["arm"] == arm] for arm in
              ("unsteered", "french at 1")}  # fmt: skip
    assert sum(french["french at 1"]) > sum(french["unsteered"])
    files = {path: path.read_bytes() for path in (out / "summary.csv", out / "report.html", out / "scores.jsonl")}
    assert run_tiller(*command).returncode == 0
    assert files == {path: path.read_bytes() for path in files}


def test_a_dry_run_tells_the_plan_and_its_tokens_and_starts_nothing(tmp_path: Path) -> None:
    prompts, out = tmp_path / "prompts.txt", tmp_path / "sweep"
    prompts.write_text("How was the concert?\nMay I have the bike?\n")
    common = ("sweep", "--profile", "french", "--alphas", "0.5,1", "--out", str(out), "--dry-run")
    answers = run_tiller(*common, "--prompts", str(prompts), "--seeds", "3")
    assert answers.returncode == 0, answers.stderr
    assert "24: 2 prompts x 4 arms x 1 seat x 3 seeds" in answers.stdout
    assert "at most 24, " in answers.stdout and "partner" not in answers.stdout
    episodes = run_tiller(*common, "--scenarios", "5", "--max-turns", "6")
    assert "20: 5 scenes x 4 arms x 1 seat x 1 seed" in episodes.stdout
    assert "at most 120, " in episodes.stdout and not out.exists()


def test_a_sweep_needs_prompts_or_scenarios() -> None:
    assert set(load_config("demo").profiles) >= {"french"}
    for more in ((), ("--prompts", "x.txt", "--scenarios", "2")):
        done = run_tiller("sweep", "--profile", "french", "--out", "never", *more)
        assert done.returncode == 2 and "give either prompts to answer" in done.stderr
