"""A server under test: vLLM's own or Tiller's, in a process of its own on the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import httpx
import psutil

from tiller.engine import load_config

Kind = Literal["plain", "steered"]
NAME = "bench"  # under which both serve the model
START_SECONDS, END_SECONDS = 600, 60


class ServeProcess:
    """Ready when made; `close` ends it.

    Raises RuntimeError, with the end of its log, where it doesn't start.
    """

    def __init__(self, kind: Kind, config: str, flags: list[str]) -> None:
        self.kind = kind
        self.url = f"http://127.0.0.1:{_free_port()}"
        self._log = tempfile.NamedTemporaryFile(prefix="tiller-bench-", suffix=".log")
        own = [*flags, "--host", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1], "--served-model-name", NAME]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *_command(kind, config), *own],
            env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "TILLER_DISABLE": "1" if kind == "plain" else "0"},
            stdout=self._log,
            stderr=self._log,
        )
        self._wait_ready()

    def cpu_seconds(self) -> float:
        """Processor time of the front end so far: HTTP, tokenising, submission, receipts; not the engine's."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def steered_tokens(self) -> float:
        """The server's own count; 0 where it has none."""
        lines = httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("tiller_steered_tokens_total"))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=END_SECONDS)
        self._log.close()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.3)
        log = Path(self._log.name).read_text(errors="replace")[-3000:]
        self.close()
        raise RuntimeError(f"the {self.kind} server did not start:\n{log}")


def _command(kind: Kind, config: str) -> list[str]:
    if kind == "steered":
        return ["tiller.evaluation.cli", "serve", "--config", config]
    arguments = load_config(config).vllm_arguments()
    flags = [flag for name, value in arguments.items() for flag in _flag(name, value)]
    return ["vllm.entrypoints.openai.api_server", *flags]


def _flag(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
