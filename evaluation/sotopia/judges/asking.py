"""What judges that ask a language model share: the asking, and the reading of answers that may be wrong."""

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tiller.engine.errors import TillerError
from tiller.evaluation.sotopia.ask import Ask, AskError, EndpointError, Speaker
from tiller.evaluation.sotopia.episode_record import EpisodeRecord
from tiller.evaluation.sotopia.judge_settings import AskingConfig
from tiller.evaluation.sotopia.score_record import Score
from tiller.evaluation.sotopia.whole_text import whole_text

from .judge import Judge, Missing

FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)
NOTE_CHARS = 200  # of a wrong answer that the missing score shows

Schema = dict[str, Any]


class AskingJudge(Judge):
    """Asks `speaker`, which is made when first needed; `model` names what answers, `prompts` are all texts that it reads."""

    noisy = True

    def __init__(
        self, name: str, config: AskingConfig, speaker: Callable[[], Speaker], model: str, prompts: Any
    ) -> None:
        self._speaker = speaker
        self.in_flight = config.in_flight
        self._sampling = {"temperature": config.temperature, "max_tokens": config.max_tokens}
        self._max_reasoning_chars = config.max_reasoning_chars
        settings = config.model_dump(mode="json", exclude={"endpoint", "in_flight", "kind"})
        super().__init__(name, {"model": model, "settings": settings, "prompts": prompts})

    async def judge_batch(self, records: Sequence[EpisodeRecord]) -> list[list[Score]]:
        return list(await asyncio.gather(*map(self.judge, records)))

    async def _ask(self, record: EpisodeRecord, system: str, question: str, schema: Schema) -> dict[str, Any]:
        """The JSON object that the model answers. Raises Missing where there is none."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        ask = Ask(
            messages=messages, schema=schema, seed=self.repeat, session=record.unit.unit_id, **self._sampling  # type: ignore[arg-type]
        )  # fmt: skip
        try:
            reply = await self._speaker().ask(ask)
        except AskError as error:
            raise Missing(error.cause, error.message) from None
        except EndpointError:
            raise
        except TillerError as error:  # such as a transcript that is longer than this model's context
            raise Missing("refused", str(error)) from None
        return read_object(reply.text, cut=reply.finish_reason == "length")

    def reasoning(self) -> Schema:
        """Schema of the reasons that stand before a score."""
        bound = {} if self._max_reasoning_chars is None else {"maxLength": self._max_reasoning_chars}
        return {"type": "string", **bound}


def whole_number(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def an_object(properties: Schema) -> Schema:
    """All of the properties, in their order, and no others."""
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def read_object(text: str, cut: bool = False) -> dict[str, Any]:
    """The JSON object in an answer: all of it, what a code fence holds, or what stands between the outermost braces.

    Raises Missing: `truncated` where max_tokens cut it, else `unparsable`.
    """
    fenced = [found[1] for found in FENCE.finditer(text)]
    braced = [text[text.find("{") : text.rfind("}") + 1]]
    for candidate in (text, *fenced, *braced):
        try:
            found = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(found, dict):
            return json.loads(whole_text(json.dumps(found, ensure_ascii=False)))
    raise Missing("truncated" if cut else "unparsable", text[:NOTE_CHARS])


def read_number(given: Any, low: int, high: int, what: str) -> int:
    """A whole number in [low, high]. Raises Missing: `unparsable` for another type, `out_of_range`."""
    if isinstance(given, bool) or not isinstance(given, int | float) or not float(given).is_integer():
        raise Missing("unparsable", f"{what}: {given!r:.80} is no whole number")
    if not low <= given <= high:
        raise Missing("out_of_range", f"{what}: {given:g} is not in {low} to {high}")
    return int(given)
