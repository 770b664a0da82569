"""Speakers whose answers are written down: an implementation of the interface, with no model behind it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from tiller.evaluation.sotopia.ask import Ask, AskError, Reply


def action(action_type: str, argument: str = "") -> str:
    return json.dumps({"action_type": action_type, "argument": argument})


@dataclass
class Scripted:
    """Answers the asks it gets by `script(ask)`; an AskError that the script returns is raised."""

    script: Callable[[Ask], str | Reply | AskError]
    asks: list[Ask] = field(default_factory=list)

    async def ask(self, ask: Ask) -> Reply:
        self.asks.append(ask)
        answer = self.script(ask)
        if isinstance(answer, AskError):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(text=answer, finish_reason="stop")

    async def close(self) -> None: ...


def in_order(*answers: str | Reply | AskError) -> Scripted:
    """Gives one answer after the other."""
    rest = iter(answers)
    return Scripted(lambda ask: next(rest))
