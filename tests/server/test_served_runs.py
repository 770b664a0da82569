"""Episodes on two servers of the demo model, one of them killed in mid-run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from .conftest import GRAMMAR, TILLER
from .process import ServerProcess, command_environment, serving

LONGEST = 180.0  # seconds for a run of 12 short episodes
PLAN = "--config demo --scenarios 3 --max-turns 4 --in-flight 8"
ANSWERED = '"POST /v1/chat/completions HTTP/1.1" 200'


def start(out: Path, *servers: ServerProcess) -> "subprocess.Popen[bytes]":
    plan = [*PLAN.split(), "--endpoints", ",".join(f"{server.url}/v1" for server in servers), "--out", str(out)]
    command = [sys.executable, "-m", TILLER, "sotopia", "run", *plan]
    with (out.parent / f"{out.name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=command_environment())


def exported(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]


def kill(server: ServerProcess) -> None:
    for pid in (server.engine_pid(), server.process.pid):
        os.kill(pid, signal.SIGKILL)
    server.process.wait()


def wait_for_answers(server: ServerProcess, num: int, run: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + LONGEST
    while server.log.count(ANSWERED) < num:
        assert time.monotonic() < deadline and run.poll() is None, "the run ended, or gave this server nothing to do"
        time.sleep(0.05)


def test_a_server_killed_in_mid_run_changes_nothing(demo: ServerProcess, tmp_path: Path) -> None:
    assert start(tmp_path / "one", demo).wait(LONGEST) == 0, (tmp_path / "one.log").read_text()
    with serving(tmp_path, TILLER, "serve", "--config", "demo", "--block-size", "32", *GRAMMAR) as other:
        run = start(tmp_path / "two", demo, other)
        wait_for_answers(other, 5, run)
        kill(other)
        assert run.wait(LONGEST) == 0, (tmp_path / "two.log").read_text()
    episodes = exported(tmp_path / "two")
    assert len(episodes) == 12 and episodes == exported(tmp_path / "one")
    assert all(episode["outcome"] == "complete" for episode in episodes)
