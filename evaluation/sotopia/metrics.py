"""What is known of a metric by its name: how it is written, its range, and what it stands for in a comparison."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["behaviour", "fluency", "social", "form"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Metric(NamedTuple):
    """low, high: the range that its judge allows, None where there is no bound."""

    name: str
    label: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @property
    def axis(self) -> str:
        """Label of an axis: what, in what."""
        ends = f"{self.low:g} to {self.high:g}" if self.low is not None and self.high is not None else ""
        return f"{self.label}, {self.unit or ends}" if self.unit or ends else self.label

    def scaled(self, values: NDArray) -> NDArray:
        """On 0 to 1, for products and harmonic means: by the range; a mean log-probability as a probability; else by the
        narrowest of 0 to 1, -1 to 1 and what there is that holds all values."""
        if self == LOGPROB:
            return np.exp(values)
        low, high = self.low, self.high
        if low is None or high is None:
            there = values[~np.isnan(values)]
            least, most = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
            low, high = next(((a, b) for a, b in ((0.0, 1.0), (-1.0, 1.0)) if a <= least and most <= b), (least, most))
        return (values - low) / (high - low)

    def fitting(self, values: NDArray) -> "Metric":
        """Without its range where a value lies outside: then another judge means something else by the same name."""
        there = values[~np.isnan(values)]
        inside = (self.low is None or (there >= self.low).all()) and (self.high is None or (there <= self.high).all())
        return self if inside else Metric(self.name, self.name.replace("_", " "), self.kind)


def _social(name: str, low: float, high: float, label: str = "") -> Metric:
    return Metric(name, label or name.replace("_", " "), "social", low, high)


KNOWN = {
    metric.name: metric
    for metric in (
        _social("believability", 0, 10),
        _social("relationship", -5, 5),
        _social("knowledge", 0, 10),
        _social("secret", -10, 0),
        _social("social_rules", -10, 0),
        _social("financial_and_material_benefits", -5, 5, "financial and material benefits"),
        _social("goal", 0, 10),
        _social("overall_score", -30 / 7, 40 / 7, "overall score"),
        Metric("behaviour", "behaviour", "behaviour", 0, 1),
        Metric("concept", "concept", "behaviour", 0, 2),
        Metric("coherence", "coherence", "fluency", 0, 1),
        Metric("fluency", "fluency", "fluency", 0, 2),
        Metric("behaviour_coherence", "behaviour x coherence", "behaviour", 0, 1),
        Metric("axbench", "AxBench score", "behaviour", 0, 2),
        Metric("position_bias", "gain of being named first", "form"),
        Metric("instruct", "instruction", "form", 0, 2),
        Metric("french", "French lines", "behaviour", 0, 1, "share"),
        Metric("tone", "tone", "behaviour", -1, 1, "-1 hostile, +1 warm"),
        Metric("distinct_1", "distinct words", "form", 0, 1, "share"),
        Metric("distinct_2", "distinct word pairs", "form", 0, 1, "share"),
        Metric("distinct_3", "distinct word triples", "form", 0, 1, "share"),
        Metric("repeated_lines", "repeated lines", "form", 0, 1, "share"),
        Metric("words_per_line", "length of lines", "form", 0, None, "words"),
        Metric("valid_share", "valid actions", "form", 0, 1, "share of turns"),
        Metric("cut_share", "cut actions", "form", 0, 1, "share of turns"),
        Metric("turns", "turns", "form", 0, None, "turns"),
        Metric("stopped_left", "ended by leaving", "form", 0, 1, "share of episodes"),
        Metric("stopped_max_turns", "ended at the last turn", "form", 0, 1, "share of episodes"),
        Metric("stopped_stale", "ended in silence", "form", 0, 1, "share of episodes"),
    )
}
LOGPROB = Metric("mean_logprob", "fluency", "fluency", None, 0, "mean log-probability, nats per token")
KNOWN[LOGPROB.name] = LOGPROB


def metric_of(name: str) -> Metric:
    """What is known of `name`; an unknown one has no range and counts as a behaviour."""
    return KNOWN.get(name, Metric(name, name.replace("_", " "), "behaviour"))
