"""Results on disk, and the processes that they come from."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tiller.bench.arms import ARMS, chosen
from tiller.bench.child import Child, ChildError
from tiller.bench.prompts import Lengths
from tiller.bench.record import Failure, Record, Sample
from tiller.bench.throughput import Run, Settings, fill, lacks
from tiller.engine.errors import TillerError

ANSWERING = str(Path(__file__).parent / "answering.py")


def child(**job):
    return Child([sys.executable, ANSWERING, json.dumps(job)], dict(os.environ), 60)


CUT_OFF = """
import os, sys
from tiller.bench import child
child.END_SECONDS = 3600
busy = "import os, time; print('READY', '{\\"pid\\": %d}' % os.getpid(), flush=True); time.sleep(3600)"
with child.Child([sys.executable, "-c", busy], dict(os.environ)) as own:
    print(own.facts["pid"], flush=True)
    sys.exit(143)
"""


def test_a_benchmark_that_is_cut_off_takes_its_engines_along():
    """Without waiting for one that is at work, and so doesn't see that nobody asks any more."""
    done = subprocess.run([sys.executable, "-c", CUT_OFF], capture_output=True, text=True, timeout=60)
    assert done.returncode == 143 and not psutil.pid_exists(int(done.stdout)), done.stderr


def record(**settings):
    own = Record.begin("throughput", {"model": "demo", "rounds": 2, **settings})
    own.arms = [arm.entry(False) for arm in ARMS]
    return own


def sample(arm, number, rate, batch=4):
    return Sample(round=number, arm=arm, batch=batch, seconds=1.0, tokens=rate)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 10**6), st.integers(1, 10**6)), unique_by=lambda t: t[0]))
def test_a_share_is_taken_within_a_round(triples):
    own = RECORD.model_copy(update={"samples": []})
    for number, ours, theirs in reversed(triples):
        own.samples += [
            sample("add", number, ours),
            sample("plain", number, theirs),
            sample("plain", number, 1, batch=8),
        ]
    own.samples += [sample("plain", 10, 7)]  # a round that was cut short
    assert own.shares("add", "plain", 4) == [ours / theirs for _, ours, theirs in sorted(triples)]


RECORD = record()


def test_what_is_written_is_read(tmp_path):
    own = record()
    own.samples.append(sample("add", 1, 5))
    own.failures.append(Failure(arm="toolkit-1", batch=4, error="OutOfMemoryError"))
    own.write(tmp_path / "deep" / "a.json")
    assert Record.read(tmp_path / "deep" / "a.json") == own
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.json"]


@pytest.mark.parametrize("text", ["", "{}", '{"kind": "serve"}', "[1]"])
def test_another_file_is_refused(tmp_path, text):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(TillerError, match="is no throughput result"):
        Record.read(file)


def test_only_a_run_of_the_same_kind_goes_on(tmp_path):
    file, own = tmp_path / "a.json", record()
    own.samples.append(sample("add", 1, 5))
    own.write(file)
    assert record(rounds=7).go_on_from(file).samples == own.samples
    assert record(model="other").go_on_from(file).samples == []
    assert record().model_copy(update={"code": "changed"}).go_on_from(file).samples == []


def test_a_child_answers_and_says_why_not():
    with child(fail="no room\nfor it") as own:
        assert own.facts == {"name": "answering"}
        order = {"prompts": [[1], [2]], "rows": [None, None], "max_tokens": 3}
        assert own.ask(order)["tokens"] == 6
        with pytest.raises(ChildError, match="^ValueError: no room$"):
            own.ask({**order, "rows": [0, None]})
        assert own.ask(order)["texts"] == ["0", "1"]


def test_a_child_that_does_not_start_is_an_error_with_its_last_words():
    with pytest.raises(ChildError, match="RuntimeError: no such device"):
        child(start="no such device")


def test_a_child_that_hangs_is_ended():
    own = child(slow=600)
    with pytest.raises(ChildError, match="no answer within 0 s"):
        own.ask({"prompts": [[1]], "max_tokens": 1}, 0.2)
    own.close()


ORDERLY = Settings("demo", None, None, None, [8, 1], Lengths(4, 2), 2, True)


def run_of(file, own, engines):
    return Run(ORDERLY, chosen("add,distinct-8,toolkit"), engines, 100, own.go_on_from(file), file)


def test_rounds_are_written_as_they_come_and_gone_on_with(tmp_path):
    file, own = tmp_path / "a.json", record()
    with child() as plain, child() as steered, child(fail="out of memory") as toolkit:
        engines = {"plain": plain, "steered": steered, "toolkit": toolkit}
        run = run_of(file, own, engines)
        fill(run, Console())
        done = Record.read(file)
        assert done.samples == run.record.samples and not lacks(run, 8, 0)
        assert {(s.arm, s.batch) for s in done.samples if s.round == 2} == {
            (arm, 8) for arm in ("plain", "add", "replace", "distinct-1", "distinct-8")
        } | {(arm, 1) for arm in ("plain", "add", "replace", "distinct-1")}
        assert (
            done.failed(1)
            == done.failed(8)
            == dict.fromkeys(["toolkit-1", "toolkit-batch"], "ValueError: out of memory")
        )
        cut = done.model_copy(update={"samples": [s for s in done.samples if (s.batch, s.round) != (1, 2)]})
        cut.write(file)
        again = run_of(file, own, engines)
        fill(again, Console())
    kept = [s for s in again.record.samples if (s.batch, s.round) != (1, 2)]
    assert kept == cut.samples and len(again.record.samples) == len(done.samples)


def test_an_arm_that_is_not_what_it_says_stops_the_run(tmp_path):
    with child() as plain, child(deaf=True) as steered:
        engines = {"plain": plain, "steered": steered}
        run = Run(ORDERLY, chosen("add"), engines, 100, record(), tmp_path / "a.json")
        with pytest.raises(ChildError, match="arm 'add of one feature' had 0 steered tokens"):
            fill(run, Console())
