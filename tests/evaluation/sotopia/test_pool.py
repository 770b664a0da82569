"""Pool over stub endpoints: who is asked, and what happens when one of them is killed."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence

from tiller.evaluation.sotopia.ask import Ask, AskError, EndpointError, Reply
from tiller.evaluation.sotopia.pool import MAX_LOSSES, Pool, endpoint_speaker

from .stub_process import Stub, ask_all, asks, start, stubbed, within_a_minute


class Counted:
    """A replica that answers after a while, and is lost when told."""

    next_try = 0.0

    def __init__(self, name: str, fails: bool = False) -> None:
        self.name, self.fails = name, fails
        self.ready = True
        self.asked: list[Ask] = []

    async def ask(self, ask: Ask) -> Reply:
        self.asked.append(ask)
        await asyncio.sleep(0.001)
        if self.fails:
            self.ready = False
            asyncio.get_running_loop().call_later(0.01, setattr, self, "ready", True)
            raise AskError("lost_replica", "gone")
        return Reply(text=self.name, finish_reason="stop")

    async def close(self) -> None: ...


def pool_of(stubs: Sequence[Stub], **settings: float) -> Pool:
    speaker = endpoint_speaker({f"stub-{i}": stub.endpoint(**settings) for i, stub in enumerate(stubs)})
    assert isinstance(speaker, Pool)
    return speaker


def test_sessions_stay_and_loads_are_even() -> None:
    replicas = [Counted("a"), Counted("b"), Counted("c")]

    async def scenario() -> None:
        pool = Pool(replicas)
        for _ in range(5):
            await ask_all(pool, asks(10), close=False)  # one of each of ten sessions

    within_a_minute(scenario())
    homes = [{ask.session for ask in replica.asked} for replica in replicas]
    assert sum(map(len, homes)) == len(set.union(*homes)) == 10
    assert sorted(map(len, homes)) == [3, 3, 4]


def test_a_session_leaves_a_replica_that_is_far_busier() -> None:
    replicas = [Counted("a"), Counted("b")]

    async def scenario() -> None:
        pool = Pool(replicas)
        replicas[1].ready = False
        await ask_all(pool, asks(60), close=False)  # all sessions are at home with the first
        replicas[1].ready = True
        await ask_all(pool, asks(60), close=False)

    within_a_minute(scenario())
    assert len(replicas[1].asked) > 15


def test_an_ask_that_brings_replicas_down_ends_as_lost() -> None:
    replicas = [Counted("a", fails=True), Counted("b", fails=True)]
    (error,) = within_a_minute(ask_all(Pool(replicas), asks(1)))
    assert isinstance(error, AskError) and error.cause == "lost_replica"
    assert len(replicas[0].asked) + len(replicas[1].asked) == MAX_LOSSES


def test_a_killed_endpoint_costs_only_its_unfinished_asks() -> None:
    given = asks(200, session="")
    with stubbed() as calm:
        expected = within_a_minute(ask_all(endpoint_speaker({"calm": calm.endpoint()}), given))
    with stubbed("--delay", "0.02") as lost, stubbed("--delay", "0.02") as kept:
        pool = pool_of([lost, kept], max_in_flight=8)
        threading.Thread(target=_kill_after, args=(lost, 20)).start()
        assert within_a_minute(ask_all(pool, given)) == expected
        assert kept.counts()["answers"] > 100


def _kill_after(stub: Stub, num_answers: int) -> None:
    while stub.counts().get("answers", 0) < num_answers:
        pass
    stub.kill()


def test_a_lost_endpoint_is_asked_again_when_it_is_back() -> None:
    async def scenario() -> None:
        with stubbed() as kept:
            lost = start()
            pool = pool_of([lost, kept])
            lost.kill()
            replies = await ask_all(pool, asks(50, session=""), close=False)
            assert all(isinstance(reply, Reply) for reply in replies)
            assert "endpoint stub-0" in pool.notice
            again = start(port=lost.port)
            while not again.counts().get("answers"):
                await ask_all(pool, asks(4, session=""), close=False)
            assert not pool.notice
            again.kill()
            await pool.close()

    within_a_minute(scenario())


def test_all_down_waits_for_whichever_is_back_first() -> None:
    async def scenario() -> None:
        stubs = [start(), start()]
        pool = pool_of(stubs)
        for stub in stubs:
            stub.kill()
        answers = asyncio.create_task(ask_all(pool, asks(40), close=False))
        while not all(f"endpoint stub-{i}" in pool.notice for i in range(2)):
            await asyncio.sleep(0.001)
        again = start(port=stubs[1].port)
        assert all(isinstance(reply, Reply) for reply in await answers)
        again.kill()
        await pool.close()

    within_a_minute(scenario())


def test_all_gone_ends_the_run() -> None:
    with stubbed() as one, stubbed() as other:
        pool = pool_of([one, other], give_up_after=0.5)
    errors = within_a_minute(ask_all(pool, asks(20)))
    assert Counter(map(type, errors)) == {EndpointError: 20}
