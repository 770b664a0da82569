"""Choosing the features to steer a trait with: markers of the trait in labelled text, then a trial of what they do.

A feature that marks a trait need not cause it (Arad, Mueller and Belinkov 2025, arXiv:2505.20063), hence the trial.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tiller.engine import SteeredLLM, SteeringSpec

from .answers import Answer, Request, answer_all
from .features import Separation
from .inputs import InputError, Messages

NUM_SINGLES = 6
GROUP_SIZES = (2, 3)
TRIAL_ALPHAS = (4.0, 8.0, 12.0)
FLUENCY_WEIGHT = 0.1  # trait points that one nat of lost fluency costs


@dataclass(frozen=True)
class Push:
    """Features added together; alpha 1 is about as long a step as one of them makes when it is active."""

    name: str
    features: tuple[Separation, ...]

    def spec(self, alpha: float) -> SteeringSpec:
        """Adds alpha * (mean activation where active) / sqrt(number of features) to each; spares the first token, a
        sink."""
        share = alpha / len(self.features) ** 0.5
        edits = [{"id": f.id, "op": "add", "value": share * f.active_mean_positive} for f in self.features]
        return SteeringSpec.model_validate({"features": edits, "skip_first": 1})


@dataclass(frozen=True)
class Goal:
    """One side of a trait: what marks it in text, best first, and how far an answer shows it, 0 to 1."""

    name: str
    markers: Sequence[Separation]
    score: Callable[[str], float]


def candidates(goal: Goal) -> list[Push]:
    """Each of the best markers alone, and the very best together.

    Raises InputError where the dictionary has no marker.
    """
    usable = [marker for marker in goal.markers if marker.auroc > 0.5 and marker.active_mean_positive > 0]
    if not usable:
        raise InputError(f"no feature of this SAE is more active on {goal.name} lines than on others; take another SAE")
    groups = [tuple(usable[:size]) for size in GROUP_SIZES if len(usable) >= size]
    return [Push(goal.name, features) for features in [*((marker,) for marker in usable[:NUM_SINGLES]), *groups]]


def choose(llm: SteeredLLM, goals: Sequence[Goal], prompts: Sequence[Messages], seed: int) -> list[Push]:
    """For each goal the candidate that does most for it on `prompts`, all tried in one batch.

    What it does is `gain_of` its answers at its best alpha.
    """
    arms: list[tuple[int, Push | None, float]] = [(-1, None, 0.0)]
    for index, goal in enumerate(goals):
        arms += [(index, push, alpha) for push in candidates(goal) for alpha in TRIAL_ALPHAS]
    requests = [
        Request(messages=messages, spec=None if push is None else push.spec(alpha), seed=seed + i)
        for _, push, alpha in arms
        for i, messages in enumerate(prompts)
    ]
    answers = answer_all(llm, requests)
    per_arm = [answers[i : i + len(prompts)] for i in range(0, len(answers), len(prompts))]
    plain = mean_fluency(per_arm[0])
    best: dict[int, tuple[float, Push]] = {}
    for (index, push, _), own in zip(arms[1:], per_arm[1:], strict=True):
        assert push is not None
        gain = gain_of(goals[index], own, plain)
        if index not in best or gain > best[index][0]:
            best[index] = (gain, push)
    return [best[index][1] for index in range(len(goals))]


def gain_of(goal: Goal, answers: Sequence[Answer], unsteered_fluency: float) -> float:
    """The goal's mean score, each answer's times its share of distinct token pairs (or `no, no, no` would win), less
    FLUENCY_WEIGHT for every nat of fluency lost."""
    shown = np.mean([goal.score(answer.text) * (answer.distinct_2 or 0.0) for answer in answers])
    return float(shown) + FLUENCY_WEIGHT * (mean_fluency(answers) - unsteered_fluency)


def mean_fluency(answers: Sequence[Answer]) -> float:
    return float(np.mean([answer.fluency for answer in answers]))
