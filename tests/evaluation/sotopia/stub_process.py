"""The stub endpoint in a process of its own, and speakers that ask it."""

import asyncio
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tiller.evaluation.sotopia.ask import Ask, AskError, Reply, Speaker
from tiller.evaluation.sotopia.settings import EndpointConfig

T = TypeVar("T")
STUB = Path(__file__).with_name("stub.py")
ACTION = {
    "type": "object",
    "properties": {"action_type": {"enum": ["speak", "none"]}, "argument": {"type": "string", "maxLength": 80}},
    "required": ["action_type", "argument"],
    "additionalProperties": False,
}


@dataclass
class Stub:
    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def endpoint(self, **settings: Any) -> EndpointConfig:
        return EndpointConfig(**{"url": f"{self.url}/v1", "model": "stub", **settings})

    def change(self, **settings: Any) -> None:
        httpx.post(f"{self.url}/stub", json=settings, trust_env=False).raise_for_status()

    def seen(self) -> dict[str, Any]:
        return httpx.get(f"{self.url}/stub", trust_env=False).json()

    def counts(self) -> dict[str, int]:
        return self.seen()["counts"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def start(*flags: str, port: int = 0) -> Stub:
    command = [sys.executable, str(STUB), "--port", str(port), *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Stub(process, int(process.stdout.readline()))


@contextmanager
def stubbed(*flags: str) -> Iterator[Stub]:
    stub = start(*flags)
    try:
        yield stub
    finally:
        stub.kill()


def asks(num: int, **fields: Any) -> list[Ask]:
    """Different ones, every other one for an action."""
    return [
        Ask(
            **{
                "messages": [{"role": "user", "content": f"Would you take {index} dollars?"}],
                "seed": index,
                "schema": ACTION if index % 2 else None,
                "session": f"session {index % 10}",
                **fields,
            }
        )
        for index in range(num)
    ]


async def ask_all(speaker: Speaker, given: Sequence[Ask], close: bool = True) -> list[Reply | BaseException]:
    """All at once; what failed comes back as its error."""
    try:
        return list(await asyncio.gather(*map(speaker.ask, given), return_exceptions=True))
    finally:
        if close:
            await speaker.close()


def within_a_minute(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs it; what waits for something that never comes fails instead of hanging."""
    return asyncio.run(asyncio.wait_for(scenario, 60))


def causes(replies: Sequence[Reply | BaseException]) -> set[str]:
    assert all(isinstance(reply, AskError) for reply in replies), replies
    return {reply.cause for reply in replies if isinstance(reply, AskError)}
