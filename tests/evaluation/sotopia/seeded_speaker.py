"""A speaker in this process that answers at once, from the prompt and the seed alone."""

import asyncio
import hashlib
import json

from tiller.evaluation.sotopia.ask import Ask, AskError, Reply

WORDS = "well then maybe we could meet halfway if you like the small blue one on Monday for forty".split()


class SeededSpeaker:
    """Equal asks get equal answers. `fail`: asks whose seed it divides fail; `leaves`: one answer in so many leaves."""

    def __init__(self, fail: int = 0, leaves: int = 0) -> None:
        self.fail, self.leaves = fail, leaves
        self.asked: list[int | None] = []
        self.in_flight = self.most_in_flight = 0

    async def ask(self, ask: Ask) -> Reply:
        self.asked.append(ask.seed)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        self.in_flight -= 1
        seed = ask.seed or 0
        if self.fail and seed % self.fail == 0:
            raise AskError("server_error", f"no answer to {seed}")
        draw = int(hashlib.sha256(f"{seed}{ask.messages}{ask.steering}".encode()).hexdigest()[:12], 16)
        words = " ".join(WORDS[draw // 17**i % 17] for i in range(8))
        kind = "leave" if self.leaves and draw % self.leaves == 0 else "speak"
        receipt = {"spec_hash": "a1", "tokens_in_scope": 8, "tokens_steered": 5, "tokens_cached": 3}
        return Reply(
            text=json.dumps({"action_type": kind, "argument": words}), finish_reason="stop",
            prompt_tokens=len(ask.messages[0]["content"]) // 4, completion_tokens=20,
            receipt=receipt if ask.steering is not None else None,
        )  # fmt: skip

    async def close(self) -> None: ...
