"""`tiller bench kernels` from outside: what it writes, when it goes on, when it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    "--device",
    "cpu",
    "--features",
    "640",
    "--d-model",
    "48",
    "--k",
    "8",
    "--repeats",
    "3",
    "--bandwidth",
    "1",
    "--peak",
    "1",
]
OPERATIONS = ["TopK replacement", "threshold replacement", "TopK membership edit", "edit-only", "add", "idle rows"]
MAIN = "from tiller.bench.cli import main; main()"
INTERPRETER = {"TRITON_INTERPRET": "1", "TORCHDYNAMO_DISABLE": "1"}
UNCOMPILED = {"TORCHDYNAMO_DISABLE": "1"}


def command(out, *options, code=MAIN):
    return [sys.executable, "-c", code, "kernels", *TINY, "--out", str(out), *options]


def environment(**more):
    own = {name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "TILLER_KERNELS")}
    return {**own, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "160", **more}


def bench(out, *options, code=MAIN, **more):
    done = command(out, *options, code=code)
    return subprocess.run(done, capture_output=True, text=True, env=environment(**more), timeout=400, cwd=ROOT)


def report(out):
    (file,) = out.glob("*/kernels.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A whole run on a CPU, torch.compile and all."""
    out = tmp_path_factory.mktemp("plain")
    return out, bench(out, "--tokens", "9,2")


def test_run_on_a_cpu_says_what_it_left_out(plain):
    out, done = plain
    assert done.returncode == 0, done.stderr
    assert "Triton kernels: not run: no CUDA device" in done.stdout
    assert report(out)["triton"] == "not run: no CUDA device"
    for result in report(out)["results"]:
        assert result["notes"]["tiller"] == "not run: no CUDA device" and "tiller" not in result["contenders"]


def test_report_is_complete(plain):
    whole = report(plain[0])
    assert whole["rates"] == {"bandwidth": 1e12, "peak": 1e12, "source": "given"}
    assert whole["settings"] == {"d_model": 48, "k": 8, "dtype": "float32", "repeats": 3}
    assert (
        whole["machine"]["versions"]["torch"]
        and whole["machine"]["cpu"]
        and whole["code"]
        and "kernels" in whole["command"]
    )
    assert [(result["tokens"], result["operation"]) for result in whole["results"]] == list(product((2, 9), OPERATIONS))
    for result in whole["results"]:
        idle = result["operation"] == "idle rows"
        assert (result["d_sae"], result["d_model"], result["k"], result["itemsize"]) == (640, 48, 8, 4)
        assert set(result["contenders"]) >= ({"eager"} if idle else {"eager", "dense"})
        assert all(error <= 1 for error in result["errors"].values())
        assert result["floor_us"] == pytest.approx(sum(stage["floor_us"] for stage in result["stages"].values()))
        for entry in result["contenders"].values():
            assert len(entry["samples_us"]) == 3 and entry["q1_us"] <= entry["median_us"] <= entry["q3_us"]
            assert entry["share_of_floor"] == pytest.approx(result["floor_us"] / entry["median_us"])
            assert entry["ratio"] == pytest.approx(entry["median_us"] / result["contenders"]["eager"]["median_us"])
    first = whole["results"][0]
    assert {"compiled", "topk+gather"} <= set(first["contenders"])


def test_plot_shows_something(plain):
    (file,) = plain[0].glob("*/kernels.png")
    pixels = matplotlib.image.imread(file)[..., :3]
    height, width, _ = pixels.shape
    assert width > 600 and height > 1000
    coloured = pixels.max(-1) - pixels.min(-1) > 0.3
    for panel in np.array_split(coloured[: height * 9 // 10], len(OPERATIONS)):
        assert panel.any(axis=0).mean() > 0.5, "no curve from left to right"


def test_same_command_goes_on_and_fresh_does_not(plain):
    out, _ = plain
    first = report(out)["results"]
    assert bench(out, "--tokens", "9,2,3", **UNCOMPILED).returncode == 0
    both = report(out)["results"]
    assert both[: len(first)] == first and [r["tokens"] for r in both[len(first) :]] == [3] * len(OPERATIONS)
    assert bench(out, "--tokens", "2", "--fresh", **UNCOMPILED).returncode == 0
    again = report(out)["results"]
    assert [r["tokens"] for r in again] == [2] * len(OPERATIONS)
    assert (
        "compiled" not in again[0]["contenders"]
        and again[0]["notes"]["compiled"] == "not run: torch.compile is switched off"
    )


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    options = ("--tokens", "1,2,3,4,5,6,7,9")
    child = subprocess.Popen(command(tmp_path, *options), env=environment(**UNCOMPILED), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not any(tmp_path.glob("*/kernels.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = report(tmp_path)["results"]
    assert 0 < len(before) < 8 * len(OPERATIONS)
    assert bench(tmp_path, *options, **UNCOMPILED).returncode == 0
    after = report(tmp_path)["results"]
    assert after[: len(before)] == before
    assert len({(r["operation"], r["tokens"]) for r in after}) == len(after) == 8 * len(OPERATIONS)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_kernels_are_checked_in_the_interpreter(tmp_path, dtype):
    done = bench(tmp_path, "--tokens", "9", "--dtype", dtype, **INTERPRETER)
    assert done.returncode == 0, done.stdout + done.stderr
    results = report(tmp_path)["results"]
    assert len(results) == len(OPERATIONS)
    for result in results:
        assert result["errors"]["tiller"] <= 1 and "tiller" not in result["contenders"]
        assert result["notes"]["tiller"].startswith("checked in Triton's interpreter, not timed")


def test_stages_one_after_the_other_are_the_op():
    """And the launches that are timed alone are those of the op; torch.topk behind our encoder answers the same."""
    script = [sys.executable, str(Path(__file__).parent / "parts.py")]
    done = subprocess.run(script, capture_output=True, text=True, env=environment(**INTERPRETER), timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(f"{name}, edit:" in done.stdout for name in OPERATIONS)
    assert "TopK membership edit, edit:1, encode:1, select:1, gather:1, finish:1" in done.stdout


BROKEN = f"""
from tiller.bench import contenders
from tiller.kernels.steerer import Steerer

class Broken(Steerer):
    def __call__(self, hidden, residual):
        super().__call__(hidden, residual)
        DAMAGE

contenders.Steerer = Broken
{MAIN}
"""


def test_a_wrong_answer_is_refused(tmp_path):
    damage = "residual[3, 5] += 0.25"
    done = bench(tmp_path, "--tokens", "9", code=BROKEN.replace("DAMAGE", damage), **INTERPRETER)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert (
        "refused to report: tiller differs from the reference at TopK replacement, T=9 F=640 d=48 k=8, float32" in said
    )
    assert "at token 3, column 5" in said and "1 tokens are wrong" in said
    assert not list(tmp_path.rglob("*"))


def test_a_write_to_an_idle_token_is_refused_even_where_the_sum_stays(tmp_path):
    damage = "\n        if not self.workspace.rows.any():\n            residual += hidden\n            hidden.zero_()"
    done = bench(tmp_path, "--tokens", "9", code=BROKEN.replace("DAMAGE", damage), **INTERPRETER)
    assert done.returncode == 1 and "tokens without a program were written" in " ".join(done.stdout.split())
    assert [result["operation"] for result in report(tmp_path)["results"]] == OPERATIONS[:-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "cuda"], "error: --device: this machine has no CUDA device"),
        (["--tokens", "1,x"], "error: --tokens: '1,x' given; write positive whole numbers"),
        (["--tokens", "0"], "error: --tokens: '0' given"),
        (["--k", "640"], "error: --k: 640 given; it must be below the smallest dictionary, 640"),
    ],
)
def test_mistakes_are_one_line(tmp_path, options, message):
    done = bench(tmp_path, *options)
    assert done.returncode == 2 and done.stderr.startswith(message) and len(done.stderr.splitlines()) == 1


def test_script_needs_neither_vllm_nor_an_installed_package(tmp_path):
    """With vLLM and what else a machine for measuring may lack out of reach."""
    blocker = tmp_path / "python"
    guard = "import sys; sys.modules.update(vllm=None, transformers=None)"
    blocker.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -c "{guard}; {MAIN}" "$@"\n')
    blocker.chmod(0o755)
    own = environment(PYTHON=str(blocker), **UNCOMPILED)
    script = [str(ROOT / "bench/gpu.sh"), "kernels", *TINY, "--tokens", "2", "--out", str(tmp_path / "out")]
    done = subprocess.run(script, capture_output=True, text=True, env=own, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(report(tmp_path / "out")["results"]) == len(OPERATIONS)
