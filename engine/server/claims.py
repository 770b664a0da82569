"""Receipts fetched from the workers: whatever became due during one call goes with the next."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tiller.engine.receipt import Receipt, merge_receipts

logger = logging.getLogger(__name__)
Ask = tuple[str, int, int]  # the request's id, index of the completion, tokens fed to the model


class Claims:
    """`rpc(method, args)` calls a method of every worker and returns their answers."""

    def __init__(self, rpc: Callable[[str, tuple], Awaitable[list]]) -> None:
        self._rpc = rpc
        self._due: list[tuple[Ask, asyncio.Future[Receipt]]] = []
        self._dropped: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def claim(self, name: str, index: int, num_fed: int) -> Receipt:
        """The receipt of a completion that has ended.

        Raises UnsteeredError where it was not steered as asked.
        """
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._due.append(((name, index, num_fed), future))
        self._wake()
        return await future

    def drop(self, name: str) -> None:
        """Lets the workers forget a request that was aborted."""
        self._dropped.append(name)
        self._wake()

    def _wake(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._due or self._dropped:
            due, self._due = self._due, []
            dropped, self._dropped = self._dropped, []
            if dropped:
                await self._forget(dropped)
            try:
                if due:
                    await self._settle(due)
            except Exception as error:  # whoever waits for a receipt raises it in the place of an answer
                for _, future in due:
                    if not future.done():
                        future.set_exception(error)

    async def _forget(self, names: list[str]) -> None:
        """Nobody waits for this: a failure is logged, and the workers drop what is left once too much is unclaimed."""
        try:
            await self._rpc("tiller_drop", (names,))
        except Exception:
            logger.exception("%d aborted requests could not be dropped", len(names))

    async def _settle(self, due: list[tuple[Ask, "asyncio.Future[Receipt]"]]) -> None:
        workers = await self._rpc("tiller_claim", ([ask for ask, _ in due],))
        for (_, future), column in zip(due, zip(*workers, strict=True), strict=True):
            if future.done():  # its request was cancelled meanwhile
                continue
            try:
                future.set_result(merge_receipts(column))
            except Exception as error:  # as above, of one request
                future.set_exception(error)
