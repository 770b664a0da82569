"""`tiller bench serve` end to end on two real servers, small; and what it makes of its samples."""

import json
import subprocess
import sys

import matplotlib.image
import pytest

from tiller.bench.serve import PLAIN, SERVE_ARMS, ServeArm, check_steered, loads
from tiller.bench.serve_report import shares

ARMS = [arm.name for arm in SERVE_ARMS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench")
    options = ["--rounds", "1", "--scale", "0.05", "--max-tokens", "4", "--rate", "8", "--out", str(out)]
    command = [sys.executable, "-m", "tiller.evaluation.cli", "bench", "serve", *options, "--max-num-seqs", "32"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*/serve.json")
    return json.loads(file.read_text()), file.with_name("serve.png"), done.stdout


def test_every_arm_meets_every_load(run):
    report, _, _ = run
    assert sorted((s["load"], s["arm"]) for s in report["samples"]) == sorted(
        (load.name, arm) for load in loads(8.0) for arm in ARMS
    )
    for sample in report["samples"]:
        assert sample["completed"] >= 1 and sample["output_throughput"] > 0
        assert 0 < sample["p50_ttft_ms"] <= sample["p99_ttft_ms"]
        fed = sample["completed"] * (32 + 4 - 1)
        assert sample["steered_tokens"] == (0 if sample["arm"] in (PLAIN, "plugin idle") else fed)
    assert report["settings"]["flags"] == ["--max-num-seqs", "32"]
    assert report["machine"]["versions"]["torch"]
    assert all(cost["fresh"] > 0 and cost["seen"] > 0 for cost in report["submission_ms"].values())


def test_tables_and_picture(run):
    _, picture, text = run
    for word in ("1 at once", "64 at once", "8 a second", "named-feature edit", "front end"):
        assert word in text
    pixels = matplotlib.image.imread(picture)
    assert pixels.shape[1] > 800 and pixels[..., :3].std() > 0.05


def test_shares_are_taken_within_a_round():
    rates = {PLAIN: [100.0, 50.0], "add": [90.0, 55.0]}
    samples = [{"load": "a", "arm": arm, "output_throughput": r} for arm, own in rates.items() for r in own]
    assert shares({"samples": samples}, "a", "add", PLAIN) == [0.9, 1.1]


@pytest.mark.parametrize(("steered", "asked"), [(0, True), (5, False)])
def test_an_arm_that_is_not_what_it_says_stops_the_run(steered, asked):
    arm = ServeArm("odd", "steered", lambda i: {"features": []} if asked else None)
    with pytest.raises(RuntimeError, match="'odd'"):
        check_steered(arm, {"steered_tokens": steered})
