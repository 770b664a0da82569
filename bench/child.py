"""A process that does one round of a benchmark for each line that it is sent, and is idle in between."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

END_SECONDS = 30
ELSEWHERE = "See root cause above"  # how vLLM ends after an error in another of its processes


class ChildError(RuntimeError):
    """The process ended, failed or took too long; the message is the end of what it wrote."""


class Child:
    """Ready when made. The process says READY {...}, then ROUND {...} or FAILED "why" for each order on its standard input.

    facts: what it said of itself. Raises ChildError where it isn't ready within `start_seconds`.
    """

    def __init__(self, command: list[str], environment: dict[str, str], start_seconds: float = 900) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="tiller-bench-", suffix=".log")
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            start_new_session=True,  # vLLM's engine is a child of its own, and has to end with it
        )  # fmt: skip
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        try:
            self.facts: dict[str, Any] = self._answer("READY", start_seconds)
        except BaseException:
            self.close(0)
            raise

    def ask(self, order: dict[str, Any], seconds: float = 600) -> dict[str, Any]:
        """The process's answer to `order`; raises ChildError where there is none in time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._answer("ROUND", seconds)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _answer(self, word: str, seconds: float) -> dict[str, Any]:
        try:
            while (line := self._lines.get(timeout=seconds)) is not None:
                if line.startswith("FAILED "):
                    raise ChildError(json.loads(line.removeprefix("FAILED ")))
                if line.startswith(f"{word} "):
                    return json.loads(line.removeprefix(f"{word} "))
        except queue.Empty:
            raise ChildError(f"no answer within {seconds:.0f} s") from None
        raise ChildError(f"it ended: {self._last_words()}")

    def _last_words(self) -> str:
        return last_error(Path(self._log.name).read_text(errors="replace"))

    def close(self, patience: float = END_SECONDS) -> None:
        """Ends the process and its children; those that have not ended by themselves after `patience` seconds are killed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(timeout=patience)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(END_SECONDS if kind is None else 0)


def last_error(text: str) -> str:
    """The last line that names an error, or else the last one, of a log."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if ("Error" in line or "ERROR:" in line) and ELSEWHERE not in line]
    return (named or lines or ["it said nothing"])[-1][-400:]
