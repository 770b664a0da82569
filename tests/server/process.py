"""A server in a process of its own, on a free port of the loopback interface."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai

START_SECONDS, END_SECONDS = 300, 60
OWN = {
    "VLLM_LOGGING_LEVEL": "INFO",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",  # vLLM compiles a helper for log-probabilities on first use, for half a minute
}


@dataclass
class ServerProcess:
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def openai(self, key: str = "none") -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def http(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=120, headers=headers)

    def children(self) -> list[int]:
        """Processes that the server has started."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(line) for line in found.stdout.split()]

    def engine_pid(self) -> int:
        """The process that runs the model: the one that vLLM has named so."""
        for pid in self.children():
            if "EngineCore" in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        raise AssertionError(f"no engine among {self.children()}")

    def resident_bytes(self) -> int:
        """Memory of the server and its engine."""
        sizes = [Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in (self.process.pid, self.engine_pid())]
        return sum(map(int, sizes)) * os.sysconf("SC_PAGE_SIZE")

    def wait_end(self) -> int:
        return self.process.wait(timeout=END_SECONDS)


def command_environment(**extra: str) -> dict[str, str]:
    """That of the shell: what the in-process engine tests set must not reach a server."""
    own = {name: value for name, value in os.environ.items() if name != "VLLM_ENABLE_V1_MULTIPROCESSING"}
    return {**own, **OWN, **extra}


@contextmanager
def serving(folder: Path, module: str, *arguments: str, **environment: str) -> Iterator[ServerProcess]:
    """`python -m module *arguments --port ...`, ready; ended with SIGTERM if it still runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_file = folder / f"{port}.log"
    command = [sys.executable, "-m", module, *arguments, "--host", "127.0.0.1", "--port", str(port)]
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=command_environment(**environment))
    server = ServerProcess(process, port, log_file)
    try:
        _wait_ready(server)
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                server.wait_end()
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def _wait_ready(server: ServerProcess) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert server.process.poll() is None, server.log[-3000:]
        try:
            if httpx.get(f"{server.url}/health").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"not ready after {START_SECONDS} s: {server.log[-3000:]}")
