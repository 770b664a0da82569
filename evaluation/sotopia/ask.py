"""One model call of an episode or a judge, whoever answers it: an engine in this process, a replica or an endpoint."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from tiller.engine.errors import TillerError
from tiller.evaluation.inputs import Messages

Cause = Literal["refused", "bad_reply", "server_error", "rate_limited", "timeout", "connection", "lost_replica"]


@dataclass(frozen=True, kw_only=True)
class Ask:
    """What is asked; everything that can change the answer, and who should rather get it."""

    messages: Messages
    steering: dict[str, Any] | None = None  # the `steering` object; None: nothing is edited or read
    seed: int | None = None
    temperature: float = 0.7
    top_p: float = 1.0
    max_tokens: int = 256
    schema: dict[str, Any] | None = None  # JSON schema that the answer follows
    session: str = ""  # asks of one session share a prefix, so a pool sends them to one replica while it can


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back."""

    text: str
    finish_reason: str  # "stop", or "length" where max_tokens cut it
    prompt_tokens: int = 0
    completion_tokens: int = 0
    receipt: dict[str, Any] | None = None  # None where the ask had no edit and no read
    logprobs: list[float] | None = field(default=None, repr=False)


class AskError(Exception):
    """A call that got no usable answer after all its attempts; `cause` says why.

    reached: whether any attempt got as far as a model, so that the ask itself may be what brings it down.
    """

    def __init__(self, cause: Cause, message: str, reached: bool = True) -> None:
        self.cause = cause
        self.message = message
        self.reached = reached
        super().__init__(f"{cause}: {message}")


class EndpointError(TillerError):
    """An endpoint that answers nobody: it is down for too long, or takes neither the key nor the model. It ends the run,
    since every further ask would fail alike; the same command goes on from there."""


class Speaker(Protocol):
    """Anything that answers asks, many at a time."""

    async def ask(self, ask: Ask) -> Reply:
        """Raises AskError where there is no answer, TillerError where the ask itself is wrong, EndpointError where
        asking on is pointless."""
        ...

    async def close(self) -> None: ...
