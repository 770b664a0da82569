"""Word lists of traits: a JSON file {trait: {positive: [...], negative: [...]}}, and how often a text has their words."""

import re
from functools import cached_property
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from tiller.evaluation.inputs import InputError


class Trait(BaseModel):
    """Words and phrases for and against a trait, whatever their case; `warm*` stands for all words that begin so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for entry in (*self.positive, *self.negative):
            if not re.fullmatch(r"\w[^*]*\*?", entry.strip()):
                raise ValueError(f"{entry!r} is no word or phrase (`*` may stand at its end only)")
        both = {e.lower() for e in self.positive} & {e.lower() for e in self.negative}
        if both:
            raise ValueError(f"on both sides: {', '.join(sorted(both))}")
        return self

    def count(self, text: str) -> tuple[int, int]:
        """How many words or phrases of `text` are positive and negative."""
        return tuple(len(side.findall(text)) if side else 0 for side in self._patterns)  # type: ignore[return-value]

    @cached_property
    def _patterns(self) -> list[re.Pattern[str] | None]:
        return [_pattern(self.positive), _pattern(self.negative)]


def _pattern(entries: tuple[str, ...]) -> re.Pattern[str] | None:
    """Any of the entries between word borders, longer ones first."""
    if not entries:
        return None
    longest_first = sorted((entry.strip() for entry in entries), key=len, reverse=True)
    branches = "|".join(_branch(entry) for entry in longest_first)
    return re.compile(rf"(?<!\w)(?:{branches})(?!\w)", re.IGNORECASE)


def _branch(entry: str) -> str:
    plain = r"\s+".join(re.escape(part) for part in entry.rstrip("*").split())
    return plain + r"\w*" if entry.endswith("*") else plain


def read_lexicon(path: Path) -> dict[str, Trait]:
    """Raises InputError naming the file and the field that is wrong."""
    try:
        traits = TypeAdapter(dict[str, Trait]).validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"can't be read: {error}", str(path)) from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where + ': ' if where else ''}{first['msg']}", str(path)) from None
    if not traits:
        raise InputError("it has no trait; write {trait: {positive: [...], negative: [...]}}", str(path))
    return traits
