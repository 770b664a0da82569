"""Rivals: what is asked of them, and what becomes of one that can't be installed, does not start or does not steer."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from tiller.bench.child import last_error
from tiller.bench.prompts import Lengths
from tiller.bench.record import ArmEntry, Failure, Record
from tiller.bench.rival_run import STRENGTH, Bench, Settings, rounds, rows_of, spec_of
from tiller.bench.rivals import environment
from tiller.bench.rivals.environment import Environment, SetupError
from tiller.bench.rivals.protocol import EVERYTHING, Rival
from tiller.bench.rivals.registry import MODULES, module_name, rivals
from tiller.engine import load_config, parse_spec
from tiller.engine.errors import TillerError

from .test_record import child

LOCAL = Rival("local", "Local", "how", "limits", ("unsteered", "add"), {"cpu": ("--no-index", "no-such-package-here")})


def test_workloads_are_the_same_for_all():
    assert rows_of("unsteered", 3) == [None] * 3 and rows_of("add", 3) == [0] * 3
    assert rows_of("mixed", 4) == [None, 0, None, 0] and rows_of("distinct", 3) == [0, 1, 2]
    edit = parse_spec(spec_of(5)).features[0]
    assert (edit.id, edit.op, edit.value, edit.unit) == (5, "add", STRENGTH, "raw") and spec_of(None) is None


@pytest.mark.parametrize("name", MODULES)
def test_every_rival_is_described(name):
    rival = rivals(name)[0]
    assert rival.id == name and rival.how and rival.limits and set(rival.workloads) <= set(EVERYTHING)
    assert {"cpu", "cuda"} == set(rival.packages)


def test_an_adapter_needs_nothing_of_ours(tmp_path):
    """It is imported where there is no Tiller, and only names its rival's packages when it loads."""
    for rival in rivals(None):
        own = Environment(rival, tmp_path / rival.id)
        own.folder.mkdir()
        code = f"import sys; sys.modules.update(tiller=None, vllm=None, torch=None); import {own.command('', '')[2]}"
        code += module_name(rival)
        done = subprocess.run([sys.executable, "-c", code], env=own.variables(), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_an_unknown_rival():
    with pytest.raises(TillerError, match="--only: no rival 'x'; there are interp-engine"):
        rivals("x")


def test_an_environment_that_cant_be_made_says_what_failed(tmp_path):
    own = Environment(LOCAL, tmp_path / "local")
    with pytest.raises(SetupError, match="no-such-package-here.*: ERROR: No matching distribution found"):
        own.make("cpu", 120)
    assert own.python.exists() and not (own.folder / "made.txt").exists()


def test_what_the_index_lacks_comes_from_pytorchs_own(tmp_path, monkeypatch):
    """As torch's CPU builds do."""
    (tmp_path / "usual").mkdir()
    (tmp_path / "other" / "lone").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "other" / "lone" / "lone-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("lone.py", "")
        wheel.writestr("lone-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("lone-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: lone\nVersion: 1.0\n")
        wheel.writestr("lone-1.0.dist-info/RECORD", "")
    link = '<a href="lone-1.0-py3-none-any.whl">lone-1.0-py3-none-any.whl</a>'
    (tmp_path / "other" / "lone" / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (tmp_path / "usual").as_uri())
    monkeypatch.setattr(environment, "PYTORCH_CPU", (tmp_path / "other").as_uri())
    own = Environment(LOCAL._replace(packages={"cpu": ("lone==1.0",)}), tmp_path / "local")
    own.make("cpu", 120)
    assert subprocess.run([own.python, "-c", "import lone"]).returncode == 0


def test_a_source_that_cant_be_had_fails_before_anything_is_installed(tmp_path):
    rival = LOCAL._replace(sources={"source": (str(tmp_path / "nowhere"), "main", ".")})
    own = Environment(rival, tmp_path / "local")
    with pytest.raises(SetupError, match="git clone.*: fatal: repository .* does not exist"):
        own.make("cpu", 60)
    assert not own.python.exists()


def test_an_environment_is_made_once(tmp_path):
    rival = LOCAL._replace(packages={"cpu": ("pip",)}, setup=(("sh", "-c", "echo made >> {root}/count"),))
    for _ in range(2):
        Environment(rival, tmp_path / "local").make("cpu", 120)
    assert (tmp_path / "local" / "count").read_text() == "made\n"
    Environment(rival._replace(setup=(("sh", "-c", "echo again >> {root}/count"),)), tmp_path / "local").make(
        "cpu", 120
    )
    assert (tmp_path / "local" / "count").read_text() == "made\nagain\n"


def bench(tmp_path):
    record = Record.begin("rivals", {"model": "demo", "rounds": 2, "batch": 2, "lengths": {"prompt": 4, "answer": 3}})
    settings = Settings("demo", 2, 2, Lengths(4, 3))
    return Bench(
        settings, load_config("demo"), 15, np.zeros((2, 4)), [[1], [2]], {}, tmp_path, record, tmp_path / "r.json"
    )


def test_a_rival_that_does_not_steer_is_a_failure(tmp_path):
    own = bench(tmp_path)
    arms = {workload: f"deaf:{workload}" for workload in ("unsteered", "add", "mixed")}
    with child() as plain, child() as ours, child(deaf=True) as deaf:
        rounds(own, "deaf", arms, deaf, {"plain": plain, "tiller": ours})
    assert own.record.failed(2) == dict.fromkeys(
        ["deaf:add", "deaf:mixed"], "its steered answers are the unsteered ones"
    )
    assert own.record.of("deaf:unsteered", 2)[2].like_ours == 1
    assert own.record.of("deaf:mixed", 2)[2].like_ours == 0.5
    assert Record.read(own.file).samples == own.record.samples


def test_a_workload_that_a_rival_fails_at_leaves_the_others(tmp_path):
    own = bench(tmp_path)
    arms = {workload: f"weak:{workload}" for workload in ("unsteered", "add")}
    with child() as plain, child() as ours, child(fail="not on this device") as weak:
        rounds(own, "weak", arms, weak, {"plain": plain, "tiller": ours})
    assert own.record.failed(2) == {"weak:add": "ValueError: not on this device"}
    assert len(own.record.shares("weak:unsteered", "weak:plain", 2)) == 2


def test_a_log_is_told_by_the_error_that_came_first_of_vllms_two() -> None:
    log = (
        "INFO up\nRuntimeError: Unsupported device type: cpu\n\nRuntimeError: Engine failed. See root cause above. {}\n"
    )
    assert last_error(log) == "RuntimeError: Unsupported device type: cpu"
    assert last_error("one\ntwo\n") == "two"


def test_rivals_measured_earlier_are_kept(tmp_path):
    """Their arms are added one rival after the other, so a run that is gone on with has none yet."""
    done = bench(tmp_path).record
    done.arms.append(ArmEntry(id="local:add", name="Local", against="local:plain"))
    done.failures.append(Failure(arm="local:add", batch=2, error="no room"))
    done.write(tmp_path / "rivals.json")
    again = bench(tmp_path).record.go_on_from(tmp_path / "rivals.json")
    assert (again.arms, again.failures) == (done.arms, done.failures)
