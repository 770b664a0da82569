"""One `generate` or `chat` call of the offline engine: requests enter as others finish, and receipts are claimed meanwhile.

The front end adds requests faster than the workers answer them. Without a bound, a call of 100,000 prompts would leave
100,000 receipts with the workers until its end.
"""

from collections.abc import Callable, Sequence
from typing import Any

from .receipt import Receipt, UnsteeredError
from .spec import ID_KEY, ONLY_COMPLETION

MIN_OPEN = 4096  # requests in the engine at most, unless it runs more than a quarter of that at once
CLAIM_EVERY = 1024  # completions
Ask = tuple[str, int, int]  # the request's steering id, index of the completion, tokens fed to the model
Claimed = Receipt | UnsteeredError


class PacedCall:
    """Stands between vLLM's LLM and its engine while one call runs; `compat.paced` puts it there.

    claim: fetches what the workers hold for a list of asks, in order. max_open: requests in the engine at most.
    """

    def __init__(self, claim: Callable[[list[Ask]], Sequence[Claimed]], max_open: int) -> None:
        self._claim, self._max_open = claim, max_open
        self._ids: dict[str, str] = {}  # steering id of each steered request in the engine, by vLLM's request id
        self._num_open = 0
        self._early: list[Any] = []  # outputs of steps that ran while requests were added
        self._due: list[Ask] = []
        self.receipts: dict[tuple[str, int], Claimed] = {}

    @property
    def num_early(self) -> int:
        """Outputs that the next `step` returns without running the engine."""
        return len(self._early)

    def add(self, original: Callable[..., Any], step: Callable[[], list[Any]], request_id: str, params: Any) -> Any:
        """Runs `original`, which adds the request, once fewer than `max_open` requests are in the engine."""
        while self._num_open >= self._max_open:
            self._early += self._finished(step())
        added = original()
        self._num_open += 1
        if is_steered(params):
            self._ids[request_id] = params.extra_args[ID_KEY]
        return added

    def step(self, original: Callable[[], list[Any]]) -> list[Any]:
        """The outputs of steps that ran early, else of one more step."""
        if self._early:
            early, self._early = self._early, []
            return early
        return self._finished(original())

    def settle(self) -> None:
        """Claims what has finished since the last claim."""
        due, self._due = self._due, []
        if due:
            keys = [(name, index) for name, index, _ in due]
            self.receipts.update(zip(keys, self._claim(due), strict=True))

    def unanswered(self) -> list[str]:
        """Steering ids of the requests whose receipts have not been claimed."""
        return [*dict.fromkeys([*self._ids.values(), *(name for name, _, _ in self._due)])]

    def _finished(self, outputs: list[Any]) -> list[Any]:
        for output in outputs:
            if output.finished:
                self._num_open -= 1
                name = self._ids.pop(output.request_id, None)
                self._due += [] if name is None else asks_of(output, name)
        if len(self._due) >= CLAIM_EVERY:
            self.settle()
        return outputs


def asks_of(output: Any, name: str) -> list[Ask]:
    """What to ask the workers for: one receipt a completion of a finished RequestOutput whose steering id is `name`."""
    only = len(output.outputs) == 1
    prompt_len = len(output.prompt_token_ids)
    return [
        (name, ONLY_COMPLETION if only else completion.index, prompt_len + len(completion.token_ids) - 1)
        for completion in output.outputs
    ]


def is_steered(params: Any) -> bool:
    """True for SamplingParams that carry a steering id, so that a receipt can be claimed."""
    return bool(getattr(params, "extra_args", None)) and ID_KEY in params.extra_args
