"""`tiller bench throughput` end to end on real engines, small; and `tiller bench report` on what it wrote."""

import json
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

from tiller.bench.record import Record

ROOT = Path(__file__).parents[2]
OPTIONS = ["--arms", "add,shared,toolkit-1", "--rounds", "1", "--num-requests", "2,1", "--prompt-len", "4"]


def bench(*arguments):
    command = [sys.executable, "-m", "tiller.evaluation.cli", "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The record's file and what the command said."""
    out = tmp_path_factory.mktemp("bench")
    arguments = ["throughput", "--eager", *OPTIONS, "--max-tokens", "3", "--out", str(out)]
    done = bench(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.rglob("*.json")
    return file, done.stdout, arguments


def test_every_arm_answers_and_is_what_it_says(run):
    record = Record.read(run[0])
    assert run[0].name == "throughput-demo-eager.json" and not record.failures
    assert (
        {sample.arm for sample in record.samples} == {arm.id for arm in record.arms} >= {"plain", "add", "shared-all"}
    )
    for sample in record.samples:
        num, answer = (sample.batch, 3)
        assert sample.tokens == num * answer and sample.seconds > 0
        assert (sample.steered_tokens > 0) == (sample.arm not in ("plain", "shared-plain", "shared-idle"))
    assert record.facts["steered"]["active_features"] == 16, "the demo's k"
    assert record.settings["engine"]["enable_prefix_caching"] and record.machine.versions["torch"]


def test_answers_that_are_steered_leave_the_prompt_to_all(run):
    """Two requests with two specs: the second finds the long prompt, unless it is steered itself."""
    record = Record.read(run[0])
    cached = {arm: record.of(arm, 2)[1].cached_tokens for arm in ("shared-plain", "shared-generated", "shared-all")}
    assert cached["shared-all"] == 0 < cached["shared-plain"] == cached["shared-generated"]


def test_a_whole_run_is_not_run_again(run):
    file, _, arguments = run
    before = file.read_bytes()
    done = bench(*arguments)
    assert done.returncode == 0 and "starting" not in done.stdout and file.read_bytes() == before
    assert "add of one feature" in done.stdout


def test_report_of_results_old_and_new(run, tmp_path):
    done = bench("report", str(run[0]), str(ROOT / "bench/results"), "--out", str(tmp_path), "--format", "svg")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "report.md").read_text()
    for word in ("## Throughput", "## Serving", "## Kernels", "add of one feature", "long shared prompt, all steered"):
        assert word in page and (word.startswith("#") or word in done.stdout)
    pictures = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == len(set(pictures)) >= 3
    assert all("<svg" in (tmp_path / name).read_text()[:2000] for name in pictures)


def test_the_picture_is_drawn(run):
    pixels = matplotlib.image.imread(run[0].with_suffix(".png"))
    assert pixels.shape[1] > 800 and pixels[..., :3].std() > 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["throughput", "--arms", "nope"], "error: --arms: no arm 'nope'; there are plain, idle"),
        (["throughput", "--num-requests", "0"], "error: --num-requests: '0' given; write positive whole numbers"),
        (["throughput", "--model", "nope"], "error: no config 'nope'; give a YAML file or one of: demo, or a shape: "),
        (
            ["throughput", "--features", "9"],
            "error: --features: 'demo' has its own SAE; one can be made for: qwen2.5-0.5b",
        ),
        (["throughput", "--prompt-len", "2000"], "error: --max-tokens: 2032 tokens in a request"),
        (["rivals", "--only", "x"], "error: --only: no rival 'x'; there are interp-engine"),
        (["report", "nowhere"], "error: PATH: nowhere is not there; give JSON files, or folders with some"),
        (["report", "docs"], "error: PATH: docs holds no result of `tiller bench`"),
    ],
)
def test_mistakes_are_one_line(arguments, message, monkeypatch, capsys):
    from tiller.bench import cli

    monkeypatch.setattr(sys, "argv", ["tiller bench", *arguments])
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(message) and len(said.splitlines()) == 1


def test_committed_results_are_what_the_code_reads():
    for file in (ROOT / "bench/results").rglob("*.json"):
        body = json.loads(file.read_text())
        if body.get("kind") in ("throughput", "rivals"):
            assert Record.read(file).samples
