"""Choosing the features to steer a trait with: markers of the trait in labelled text, then trials of what they do.

A feature that marks a trait need not cause it (Arad, Mueller and Belinkov 2025, arXiv:2505.20063), hence the trials.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tiller.engine import SteeredLLM, SteeringSpec

from .answers import Answer, Request, answer_all
from .features import Separation
from .inputs import InputError, Messages

NUM_MARKERS, NUM_OPPOSITES = 8, 3
MAX_FEATURES = 3
TRIAL_ALPHAS = (1.5, 2.5, 4.0, 6.0, 9.0)
REFINED = (0.6, 0.8, 1.0, 1.25)  # of the best alpha so far, once there is one
FLUENCY_WEIGHT = 0.15  # trait points that one nat of lost fluency costs


@dataclass(frozen=True)
class Part:
    """One feature of a push: `sign` is 1 for a marker of the trait, -1 for a marker of its opposite."""

    feature: Separation
    sign: int


@dataclass(frozen=True)
class Push:
    """Features added, or taken away, together; alpha 1 is about as long a step as one of them makes when it is active."""

    name: str
    parts: tuple[Part, ...]
    best_alpha: float = 1.0  # as the trials found

    def spec(self, alpha: float) -> SteeringSpec:
        """Adds alpha / sqrt(number of features) times its mean activation where active to each; spares the first token,
        an attention sink."""
        share = alpha / len(self.parts) ** 0.5
        edits = [
            {"id": part.feature.id, "op": "add", "value": share * part.sign * part.feature.active_mean_positive}
            for part in self.parts
        ]
        return SteeringSpec.model_validate({"features": edits, "skip_first": 1})


@dataclass(frozen=True)
class Goal:
    """One side of a trait: what marks it and its opposite in text, best first, and how far an answer shows it, 0 to 1."""

    name: str
    markers: Sequence[Separation]
    opposites: Sequence[Separation]
    score: Callable[[str], float]

    @property
    def parts(self) -> list[Part]:
        """What a push may consist of.

        Raises InputError where the dictionary has no marker.
        """
        found = [Part(m, 1) for m in self.markers if _marks(m)][:NUM_MARKERS]
        if not found:
            raise InputError(f"no feature of this SAE is more active on {self.name} lines; take another SAE")
        return found + [Part(m, -1) for m in self.opposites if _marks(m)][:NUM_OPPOSITES]


def choose(llm: SteeredLLM, goals: Sequence[Goal], prompts: Sequence[Messages], seed: int) -> list[Push]:
    """For each goal the push of up to MAX_FEATURES features that gains most on `prompts`, built up feature by feature.

    Every round tries all goals, candidates and alphas in one batch; a feature stays only if it makes the push better.
    """
    plain = _answer(llm, [None], prompts, seed)[0]
    best: list[tuple[float, Push] | None] = [None for _ in goals]
    for _ in range(MAX_FEATURES):
        tried = [(i, push) for i, goal in enumerate(goals) for push in _extended(goal, best[i])]
        answered = _answer(llm, [push.spec(push.best_alpha) for _, push in tried], prompts, seed)
        for (i, push), answers in zip(tried, answered, strict=True):
            gain = gain_of(goals[i].score, answers, mean_fluency(plain))
            found = best[i]
            if found is None or gain > found[0]:
                best[i] = (gain, push)
    return [found[1] for found in best if found is not None]


def _extended(goal: Goal, best: tuple[float, Push] | None) -> Iterator[Push]:
    """The pushes of one feature more than the best one, each at several alphas."""
    push = Push(goal.name, ()) if best is None else best[1]
    alphas = TRIAL_ALPHAS if best is None else [push.best_alpha * factor for factor in REFINED]
    for part in goal.parts:
        if part not in push.parts and (push.parts or part.sign > 0):
            yield from (replace(push, parts=(*push.parts, part), best_alpha=alpha) for alpha in alphas)


def _answer(
    llm: SteeredLLM, specs: Sequence[SteeringSpec | None], prompts: Sequence[Messages], seed: int
) -> list[list[Answer]]:
    """Answers to all prompts, for each spec."""
    requests = [
        Request(messages=messages, spec=spec, seed=seed + i) for spec in specs for i, messages in enumerate(prompts)
    ]
    answers = answer_all(llm, requests)
    return [answers[i : i + len(prompts)] for i in range(0, len(answers), len(prompts))]


def gain_of(score: Callable[[str], float], answers: Sequence[Answer], unsteered_fluency: float) -> float:
    """The mean score, each answer's times its share of distinct token pairs (or `no, no, no` would win), less
    FLUENCY_WEIGHT for every nat of fluency lost."""
    shown = np.mean([score(answer.text) * (answer.distinct_2 or 0.0) for answer in answers])
    return float(shown) + FLUENCY_WEIGHT * (mean_fluency(answers) - unsteered_fluency)


def mean_fluency(answers: Sequence[Answer]) -> float:
    return float(np.mean([answer.fluency for answer in answers]))


def _marks(marker: Separation) -> bool:
    return marker.auroc > 0.5 and marker.active_mean_positive > 0
