"""Sotopia's seven dimensions with their ranges (Zhou et al. 2024, arXiv:2310.11667), and what a judge is told of each."""

from typing import NamedTuple


class Dimension(NamedTuple):
    """Whole numbers from `low` to `high`, and how to find the right one."""

    low: int
    high: int
    rubric: str


DIMENSIONS = {
    "believability": Dimension(
        0, 10,
        "Could this have been a living person, and this very one? Look for slips first: taking the other's part or name, "
        "saying again what was said already, courtesies that nobody would exchange, going on when all is over. Then hold what "
        "this person did against the background given above: character, values, occupation, knowledge. 0 means plainly "
        "artificial or somebody else; 10 means nothing gives it away.",
    ),
    "relationship": Dimension(
        -5, 5,
        "Say what the two were to each other before and what they are now. Did this person make the tie stronger or weaker, "
        "and gain or lose the respect of others? -5 means that the tie or the good name is destroyed, 0 that nothing has "
        "changed, 5 that it has become much better.",
    ),
    "knowledge": Dimension(
        0, 10,
        "What did this person find out here that was new to them, and how much does it matter to them? 0 means nothing "
        "new; 10 means much that is new and important.",
    ),
    "secret": Dimension(
        -10, 0,
        "Name what this person had to keep to themselves: a secret in the background, or an aim that the other must not "
        "learn. How much of it came out, in words or by what they did? 0 means that it was kept, or that there was none; "
        "-10 means that all of it is known now.",
    ),
    "social_rules": Dimension(
        -10, 0,
        "Did this person break the law, or what decent people expect of each other? Say which rule and how badly. 0 means "
        "none was broken; -10 means a grave offence.",
    ),
    "financial_and_material_benefits": Dimension(
        -5, 5,
        "What did this person win or lose in money, goods, or anything else that has a price, at once and in the long "
        "run? -5 means a heavy loss, 0 neither, 5 a large gain.",
    ),
    "goal": Dimension(
        0, 10,
        "Put this person's goal in your own words, all parts of it. How far was it reached by the end? 0 means not at all, "
        "or that it is farther away than before; 10 means entirely.",
    ),
}  # fmt: skip
OVERALL = "overall_score"  # plain mean of the seven, from -30/7 to 40/7
METRICS = (*DIMENSIONS, OVERALL)
