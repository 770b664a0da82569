"""Many requests, each awaited by itself, in one continuous batch of an engine in this process. No threads."""

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

from . import compat

if TYPE_CHECKING:
    from .llm import SteeredLLM, Steering


YIELDS = 5  # turns of the loop between two steps: an answer passes through a few futures before its reader asks on


class StoppedError(RuntimeError):
    """The engine failed in the middle of its work; it answers nothing any more."""


class RefusedError(ValueError):
    """vLLM can't answer this request: its prompt is too long, say."""


class Stepping:
    """Runs the engine of a SteeredLLM inside the event loop while somebody waits for it.

    Between two steps the loop gets its turn, so that a request joins the batch as soon as it is made. Requests enter in
    the order in which they are made. While some wait, nothing else may run this engine.
    """

    def __init__(self, llm: "SteeredLLM") -> None:
        self.llm = llm
        self.engine = llm.llm.llm_engine
        self.ids = (f"stepping-{number}" for number in count())
        self.waiting: dict[str, tuple[asyncio.Future[Any], Any]] = {}  # request id -> its future and its params
        self.task: asyncio.Task[None] | None = None
        self.error: Exception | None = None

    async def answer(self, prompt: Any, params: Any, steering: "Steering" = None) -> Any:
        """vLLM's RequestOutput of one prompt, with `.steering` as of SteeredLLM.generate.

        Who is cancelled takes its request out of the engine. Raises SpecError for a wrong spec, RefusedError for another
        request that can't be answered, StoppedError once the engine has failed.
        """
        if self.error is not None:
            raise self._stopped()
        own = self.llm.steered_params(params, steering)
        request_id = next(self.ids)
        try:
            self.engine.add_request(request_id, prompt, own)
        except compat.refusals() as error:
            raise RefusedError(str(error)) from error
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting[request_id] = (future, own)
        if self.task is None:
            self.task = asyncio.create_task(self._run())
        try:
            return await future
        except asyncio.CancelledError:
            self._abort(request_id)
            raise

    def _abort(self, request_id: str) -> None:
        found = self.waiting.pop(request_id, None)
        if found is not None and self.error is None:
            self.engine.abort_request([request_id])
            self.llm.drop_receipts([found[1]])

    async def _run(self) -> None:
        try:
            while self.waiting:
                for _ in range(YIELDS):
                    await asyncio.sleep(0)
                self._step()
        except Exception as error:
            self.error = error
            for future, _ in self.waiting.values():
                if not future.done():
                    future.set_exception(self._stopped())
            self.waiting.clear()
        finally:
            self.task = None

    def _step(self) -> None:
        done = [output for output in self.engine.step() if output.finished and output.request_id in self.waiting]
        for output in self.llm.claim_for(done, [self.waiting[output.request_id][1] for output in done]):
            future, _ = self.waiting.pop(output.request_id)
            if not future.done():
                future.set_result(output)

    def _stopped(self) -> StoppedError:
        stopped = StoppedError(f"the engine has failed: {self.error!r}")
        stopped.__cause__ = self.error
        return stopped
