"""The grammar that an engine in this process samples JSON by."""

import json
from functools import lru_cache
from typing import Any

PLAIN = r"(([^\"\\\r\n]))"
WITH_ESCAPES = r'(([^\0-\x1f\"\\\r\n]) | ("\\" basic_escape))'


def json_grammar(schema: dict[str, Any]) -> str:
    """EBNF of the JSON that follows `schema`, spaced as json.dumps does and no further, whatever the engine is set to.

    Free whitespace would let a strongly steered model write nothing else. xgrammar's bounded strings know no escapes, so
    that nobody could quote; here they do, and an escape counts as one character.
    """
    return _grammar(json.dumps(schema))


@lru_cache(maxsize=64)
def _grammar(schema: str) -> str:
    import xgrammar

    made = str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, separators=(", ", ": ")))
    return made.replace(f"_characters ::= {PLAIN}\n", f"_characters ::= {WITH_ESCAPES}\n")
