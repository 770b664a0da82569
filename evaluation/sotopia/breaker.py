"""A circuit breaker: while an endpoint is down its asks wait, and one at a time looks whether it is back."""

import asyncio
import time
from contextlib import suppress
from typing import Literal

from .ask import EndpointError

State = Literal["closed", "open", "half-open"]
THRESHOLD = 8  # failures in a row, of whichever asks
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds between two probes; doubles from one to the next


class Breaker:
    """closed -> (failures in a row) open -> (after a wait) half-open: one probe -> closed, or open for twice as long.

    `give_up`: seconds without any answer after which the endpoint counts as gone.
    """

    def __init__(self, name: str, give_up: float, threshold: int = THRESHOLD, first_wait: float = FIRST_WAIT) -> None:
        self.name = name
        self.give_up = give_up
        self._threshold = threshold
        self._first_wait = self._wait = first_wait
        self._failures = 0
        self._down_since: float | None = None
        self._next_try: float | None = None  # None: closed
        self._probing = False
        self._last = ""
        self._gone: EndpointError | None = None
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        if self._next_try is None:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def wait_left(self) -> float:
        """Seconds until the next probe may go out; 0 where asks go through or a probe is under way."""
        return 0.0 if self._next_try is None else max(0.0, self._next_try - time.monotonic())

    @property
    def passable(self) -> bool:
        """Whether an ask would not have to wait here: it would go out, be it as the probe, or learn that all is over."""
        return self._gone is not None or self._next_try is None or not (self._probing or self.wait_left)

    @property
    def last_failure(self) -> str:
        return self._last

    async def enter(self) -> bool:
        """Waits until an ask may go out; True where it is the probe, which must end in one of the calls below.

        Raises EndpointError once the endpoint is given up.
        """
        while True:
            if self._gone is not None:
                raise self._gone
            if self._next_try is None:
                return False
            if self.passable:
                self._probing = True
                return True
            with suppress(TimeoutError):
                async with asyncio.timeout(None if self._probing else self.wait_left):
                    await self._changed.wait()

    def answered(self) -> None:
        """The endpoint works, even if it refused."""
        self._failures = 0
        self._down_since = None
        if self._next_try is not None:
            self._next_try = None
            self._probing = False
            self._wait = self._first_wait
            self._wake()

    def failed(self, why: str, probe: bool, unreachable: bool) -> None:
        """No answer. One failed connection is enough to open it; other failures may be those of a single ask."""
        now = time.monotonic()
        probe = probe and self._next_try is not None  # an answer that was still on its way may have closed it
        self._last = why
        self._failures += 1
        self._down_since = now if self._down_since is None else self._down_since
        if probe or (self._next_try is None and (unreachable or self._failures >= self._threshold)):
            self._probing = False
            self._next_try = now + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            if now - self._down_since >= self.give_up:
                self.end(f"no answer for {self.give_up:.0f} s, last: {why}")
            self._wake()

    def abandoned(self) -> None:
        """The probe was cancelled: the next ask is it."""
        self._probing = False
        self._wake()

    def end(self, why: str) -> EndpointError:
        """The endpoint is gone for good; whoever waits or comes raises what this returns."""
        if self._gone is None:
            self._gone = EndpointError(f"{why}; the same command goes on from here", f"endpoint {self.name}")
            self._wake()
        return self._gone

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
