"""Word-level scorers of a line's language, tone and length, read off the corpus' own vocabulary."""

import re
from functools import cache

from .phrases import PHRASES, TIMES, TONE_WORDS
from .scenarios import SCENARIOS

WORD = re.compile(r"[a-zà-öø-ÿœ]+")
FUNCTION_WORDS = (
    frozenset(
        "the and is are was were you your we they he she it its this that these those of to for with without from in "
        "at by be been have has had do does did not but what who why how when where will would can could should must "
        "my me him her them our their there here if or so because as an i am just very too then than".split()
    ),
    frozenset(
        "le la les un une des du de et est sont suis es je tu il elle nous vous ils elles ce cet cette ces ça qui que "
        "quoi dont où ne pas mais pour dans sur avec sans par au aux se te mon ma mes ton ta tes sa ses notre votre "
        "leur être avoir avait était fait faire peut veux veut dois doit très trop bien oui non comme quand si y en "
        "l d j n c s t qu m".split()
    ),
)


def words(text: str) -> list[str]:
    """Lower-case words; an apostrophe separates, so `j'ai` gives `j` and `ai`."""
    return WORD.findall(text.lower())


@cache
def vocabulary() -> tuple[frozenset[str], frozenset[str]]:
    """The words that only the English and only the French half of the corpus' sentences has, with function words."""
    pairs = [pair for tones in PHRASES.values() for phrases in tones.values() for pair in phrases] + list(TIMES)
    for scenario in SCENARIOS:
        pairs += [*scenario.things, *scenario.deeds, *scenario.reasons, scenario.setting]
    english, french = (
        FUNCTION_WORDS[i] | {w for pair in pairs for w in words(re.sub(r"{\w+}", " ", pair[i]))} for i in (0, 1)
    )
    contractions = {"t", "s", "m", "d"}
    return frozenset(english - french), frozenset(french - english - contractions)


def is_french(text: str) -> bool:
    """Whether more words of `text` belong to French than to English; accented letters count as French words.

    A text without a known word, an empty one included, is not French.
    """
    english, french = vocabulary()
    found = words(text)
    num_french = sum(w in french or bool(re.search(r"[à-öø-ÿœ]", w)) for w in found)
    return num_french > sum(w in english for w in found)


def tone_score(text: str) -> float:
    """(warm words - hostile words) / (warm words + hostile words), in [-1, 1]; 0 where there is neither."""
    found = words(text)
    warm, hostile = (sum(w in TONE_WORDS[tone] for w in found) for tone in ("warm", "hostile"))
    return (warm - hostile) / max(1, warm + hostile)


def elaboration(text: str) -> float:
    """How long a line is, from 0 (up to 5 words) to 1 (30 words and more)."""
    return min(1.0, max(0.0, (len(words(text)) - 5) / 25))
