"""`kill -9` at random moments of `tiller sotopia run` on the demo engine: nothing is lost, repeated or different.

TILLER_KILLS=20 TILLER_KILL_SCENARIOS=24 TILLER_KILL_SEEDS=2 make it the full size (192 episodes): about half an hour.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tiller.engine.config import load_config
from tiller.evaluation.sotopia.export import EPISODES
from tiller.evaluation.sotopia.journal_reader import FILE

NUM_KILLS = int(os.environ.get("TILLER_KILLS", 2))
SCENARIOS, SEEDS = os.environ.get("TILLER_KILL_SCENARIOS", "4"), os.environ.get("TILLER_KILL_SEEDS", "1")
CONFIG = os.environ.get("TILLER_KILL_CONFIG", "demo")
EARLY = 0.15  # share of kills while the engine boots
BOOT_SECONDS = 8.0


def start(out: Path, config: str = CONFIG) -> "subprocess.Popen[bytes]":
    """The run as a user starts it; few at a time, so that it takes long enough to be killed."""
    plan = f"--config {config} --scenarios {SCENARIOS} --seeds {SEEDS} --max-turns 6 --in-flight 16"
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tiller.evaluation.cli", "sotopia", "run", "--out", str(out), *plan.split()],
            env={**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}, stdout=log, stderr=log,
        )  # fmt: skip


def kept_turns(out: Path) -> list[tuple[int, int, int, str]]:
    """All rows of the journal's turns; none before there is a journal."""
    if not (out / FILE).exists():
        return []
    journal = sqlite3.connect(out / FILE)
    try:
        return journal.execute("SELECT unit, idx, seat, body FROM turns ORDER BY unit, idx, seat").fetchall()
    except sqlite3.OperationalError:  # its tables are not made yet
        return []
    finally:
        journal.close()


def wait_for_turns(process: "subprocess.Popen[bytes]", out: Path, num: int) -> None:
    while process.poll() is None and len(kept_turns(out)) < num:
        time.sleep(0.05)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kills") / "whole"
    assert start(out).wait() == 0, (out.parent / "whole.log").read_text()[-3000:]
    return out


def test_killed_runs_end_as_uninterrupted_ones(uninterrupted: Path) -> None:
    out = uninterrupted.parent / "killed"
    rng = random.Random(5)
    num_turns = len(kept_turns(uninterrupted))
    moments = sorted(rng.randrange(1, num_turns) for _ in range(NUM_KILLS))
    reached = []
    for moment in moments:
        before = kept_turns(out)
        process = start(out)
        if rng.random() < EARLY:
            time.sleep(rng.uniform(0, BOOT_SECONDS))
        else:
            wait_for_turns(process, out, max(moment, len(before) + 1))
            time.sleep(rng.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = kept_turns(out)
        assert set(before) <= set(after), "a kept turn was lost or changed"
        reached.append(len(after))
    assert start(out).wait() == 0, (out.parent / "killed.log").read_text()[-3000:]
    lines = (out / EPISODES).read_bytes().splitlines()
    assert lines == (uninterrupted / EPISODES).read_bytes().splitlines()
    print(f"killed after {reached} of {num_turns} turns of {len(lines)} episodes")
    assert any(0 < turns < num_turns for turns in reached), "no kill hit a run between its first and its last turn"


def test_a_killed_run_goes_on_under_another_spelling_of_its_paths(uninterrupted: Path, tmp_path: Path) -> None:
    """From a copy of the config elsewhere, its model by its absolute path and its SAE through a link."""
    config, out = load_config(CONFIG), tmp_path / "run"
    assert config.base is not None
    (tmp_path / "link").symlink_to(config.base)
    body = config.model_dump(mode="json", exclude_defaults=True)
    body["model"] = str(Path(config.resolve(body["model"])).resolve())
    body["engine"]["tokenizer"] = f"./link/{body['engine']['tokenizer']}"
    for entry in [*body.get("saes", {}).values(), *body.get("vectors", {}).values()]:
        entry["path"] = f"link/{entry['path']}"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(body))
    process = start(out)
    wait_for_turns(process, out, len(kept_turns(uninterrupted)) // 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept_turns(out)
    assert 0 < len(before) < len(kept_turns(uninterrupted))
    assert start(out, str(tmp_path / "other.yaml")).wait() == 0, (tmp_path / "run.log").read_text()[-3000:]
    assert set(before) <= set(kept_turns(out))
    assert (out / EPISODES).read_bytes() == (uninterrupted / EPISODES).read_bytes()


def test_a_finished_run_is_left_as_it_is(uninterrupted: Path) -> None:
    """Without an engine: the same command only writes its files again."""
    before, turns = (uninterrupted / EPISODES).read_bytes(), kept_turns(uninterrupted)
    assert start(uninterrupted).wait() == 0
    assert (uninterrupted / EPISODES).read_bytes() == before
    assert kept_turns(uninterrupted) == turns


def test_another_run_is_refused_in_the_same_folder(uninterrupted: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tiller.evaluation.cli", "sotopia", "run", "--config", CONFIG, "--out", str(uninterrupted),
         "--scenarios", SCENARIOS, "--seeds", SEEDS, "--max-turns", "7"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--max-turns 6 was begun, 7 given. Give" in done.stderr
