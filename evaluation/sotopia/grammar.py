"""The grammar that an engine in this process samples JSON by."""

import json
import re
from functools import lru_cache
from typing import Any

MAX_ESCAPES = 16  # in one bounded string
BOUNDED = re.compile(r'^(\w+) ::= \(\("\\"" \1_characters\{0, (\d+)\} "\\""\)\)\n', re.MULTILINE)
WITH_ESCAPES = r"""\1 ::= (("\\"" \1_characters{0, \2} \1_rest{0, MAX} "\\""))
\1_rest ::= (("\\\\" basic_escape \1_characters{0, \2}))
""".replace("MAX", str(MAX_ESCAPES))
PLAIN, NO_CONTROLS = r"_characters ::= (([^\"\\\r\n]))", r"_characters ::= (([^\0-\x1f\"\\\r\n]))"


def json_grammar(schema: dict[str, Any]) -> str:
    """EBNF of the JSON that follows `schema`, spaced as json.dumps does and no further, whatever the engine is set to.

    Free whitespace would let a strongly steered model write nothing else. xgrammar's bounded strings know no escapes, so
    that nobody could quote; here they hold up to MAX_ESCAPES, and the bound is of the runs between them. One repetition of
    (character or escape) would bound the whole string, and cost a thousand times as much at every token.
    """
    return _grammar(json.dumps(schema))


@lru_cache(maxsize=64)
def _grammar(schema: str) -> str:
    import xgrammar

    made = str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, separators=(", ", ": ")))
    return BOUNDED.sub(WITH_ESCAPES, made).replace(PLAIN, NO_CONTROLS)
