"""A known name that looks like an unknown one, for error messages. Needs neither torch nor vLLM."""

from collections.abc import Iterable
from difflib import get_close_matches

CUTOFF = 0.7  # difflib's 0.6 takes --nonsense-flag for --no-enable-lora


def suggestion(given: object, known: Iterable[str]) -> str:
    """The end of a message, as in "; did you mean 'value'?"; empty where nothing known looks like `given`."""
    close = get_close_matches(str(given), list(known), n=1, cutoff=CUTOFF)
    return f"; did you mean {close[0]!r}?" if close else ""
