"""Several replicas of one model as one speaker: sessions stay where their prefix is cached, and a lost replica is left out."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import Protocol

from .ask import Ask, AskError, EndpointError, Reply, Speaker
from .endpoint import EndpointSpeaker
from .settings import EndpointConfig

MAX_SESSIONS = 100_000  # remembered; the longest unused are forgotten first
SLACK = 4  # asks that a session's replica may have more than another one before loads are compared
MAX_LOSSES = 5  # replicas that may be lost under an ask before it counts as what brings them down
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 1.0  # seconds between two looks whether a replica is back

log = logging.getLogger(__name__)


class Replica(Speaker, Protocol):
    """A speaker that may be away for a while; it gives asks back (AskError, not ready) instead of letting them wait.

    It raises EndpointError where it is gone for good.
    """

    name: str

    @property
    def ready(self) -> bool: ...

    @property
    def next_try(self) -> float:
        """Seconds until it may be ready; 0 where nobody knows."""
        ...


class _Member:
    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.load = 0  # asks that it has now


class Pool:
    """Asks the replica of an ask's session while that is ready and not twice as busy, else the one with the fewest asks.

    An ask is with one replica at a time: it goes to another one only after the first has given it back. While none is
    ready asks wait. Raises EndpointError from `ask` when all replicas are gone for good.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        assert replicas
        self._replicas = list(replicas)
        self._members = [_Member(replica) for replica in replicas]
        self._homes: OrderedDict[str, _Member] = OrderedDict()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watch: asyncio.Task[None] | None = None
        self._gone: EndpointError | None = None

    @property
    def notice(self) -> str:
        """What is amiss with which replica, for the progress display."""
        return "; ".join(filter(None, (getattr(replica, "notice", "") for replica in self._replicas)))

    @property
    def loads(self) -> dict[str, int]:
        """Asks that each replica has now."""
        return {member.replica.name: member.load for member in self._members}

    async def ask(self, ask: Ask) -> Reply:
        losses = 0
        while True:
            member = await self._choose(ask.session)
            member.load += 1
            try:
                reply = await member.replica.ask(ask)
            except AskError as error:
                losses += error.reached
                if error.cause == "refused" or member.replica.ready or losses >= MAX_LOSSES:
                    raise
            except EndpointError as error:
                self._drop(member, error)
            else:
                self._release(len(self._waiting))
                return reply
            finally:
                member.load -= 1

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.gather(*(replica.close() for replica in self._replicas))

    async def _choose(self, session: str) -> _Member:
        while True:
            if not self._members:
                assert self._gone is not None
                raise self._gone
            ready = [member for member in self._members if member.replica.ready]
            if ready:
                return self._of_session(session, ready)
            await self._wait()

    def _of_session(self, session: str, ready: list[_Member]) -> _Member:
        least = min(ready, key=lambda member: member.load)
        home = self._homes.get(session)
        if home not in ready or home.load > 2 * (least.load + SLACK):
            home = least
        if session:
            self._homes[session] = home
            self._homes.move_to_end(session)
            if len(self._homes) > MAX_SESSIONS:
                self._homes.popitem(last=False)
        return home

    def _drop(self, member: _Member, error: EndpointError) -> None:
        """Goes on without a replica that is gone for good."""
        if member in self._members:
            self._members.remove(member)
            self._gone = error
            log.warning("%s; going on with %d of the replicas", error, len(self._members))
        if not self._members:
            self._release(len(self._waiting))

    async def _wait(self) -> None:
        """Until a replica may be ready: one ask at a time, so that one looks for all."""
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look())
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def _look(self) -> None:
        while self._waiting:
            soonest = min((member.replica.next_try for member in self._members), default=0.0)
            await asyncio.sleep(min(max(soonest, SHORTEST_WAIT), LONGEST_WAIT))
            self._release(sum(member.replica.ready for member in self._members))

    def _release(self, num: int) -> None:
        while self._waiting and num > 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                num -= 1


def endpoint_speaker(endpoints: Mapping[str, EndpointConfig]) -> Speaker:
    """One speaker over these endpoints, by name: a pool where there are several, which should serve the same model."""
    if len(endpoints) == 1:
        ((name, config),) = endpoints.items()
        return EndpointSpeaker(config, name)
    return Pool([EndpointSpeaker(config, name, alone=False) for name, config in endpoints.items()])
