"""A requests-per-minute limit, which the endpoint itself can tighten for a while."""

import asyncio
import math
import time

CATCH_UP = 0.1  # seconds of unused limit that may be made up for, so that a late event loop costs nothing


class RateLimit:
    """Spaces requests evenly, first come first served; with `per_minute` None it only holds them back while paused."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._next = -math.inf
        self._resume = -math.inf

    @property
    def pause_left(self) -> float:
        """Seconds until requests may go out again; 0 where nothing is paused."""
        return max(0.0, self._resume - time.monotonic())

    def pause(self, seconds: float) -> None:
        """Nobody goes out for this long, as Retry-After asks."""
        self._resume = max(self._resume, time.monotonic() + seconds)
        self._next = max(self._next, self._resume)

    async def take(self) -> None:
        """Returns when one request may go out."""
        while True:
            now = time.monotonic()
            start = max(self._next, now - CATCH_UP)
            self._next = start + self._interval
            if start <= now:
                return
            await asyncio.sleep(start - now)
            if time.monotonic() >= self._resume:
                return
