"""The demo: find French and tone features by themselves, sweep their strength, and measure what the answers become."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from tiller.engine import SteeredLLM, SteeringSpec

from .answers import Answer, Request, answer_all
from .demo_model.corpus import demo_prompts, is_french, labelled_lines, tone_score
from .features import Separation, read_activations, separate
from .inputs import Messages
from .jsonl import write_jsonl
from .selection import Goal, Push, choose
from .stats import Interval, mean_interval, wilson_interval

STEPS = (-1.5, -1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the alpha that the trials found best
MARKED = {
    "french": ("language", "french", "english"),
    "warm": ("tone", "warm", "hostile"),
    "hostile": ("tone", "hostile", "warm"),
}
SCORES: dict[str, Callable[[str], float]] = {
    "french": lambda text: float(is_french(text)),
    "warm": lambda text: max(0.0, tone_score(text)),
    "hostile": lambda text: max(0.0, -tone_score(text)),
}
NUM_LINES = 600
NUM_TRIAL_PROMPTS = 8
MAX_UNSTEERED = 0.10  # share of French answers at alpha 0
MIN_STEERED = 0.80  # share of French answers at the best alpha


@dataclass(frozen=True)
class Trait:
    """A signed axis: alpha > 0 adds `positive`; alpha < 0 adds `negative`, or takes `positive` away without one."""

    name: str
    positive: Push
    negative: Push | None = None

    @property
    def pushes(self) -> list[Push]:
        return [self.positive] if self.negative is None else [self.positive, self.negative]

    @property
    def alphas(self) -> list[float]:
        """The default sweep."""
        return [step * self.push(step).best_alpha for step in STEPS]

    def push(self, alpha: float) -> Push:
        return self.negative if alpha < 0 and self.negative is not None else self.positive

    def spec(self, alpha: float) -> SteeringSpec | None:
        """None at alpha 0, where nothing is steered."""
        if alpha == 0:
            return None
        push = self.push(alpha)
        return push.spec(-alpha if push is self.negative else alpha)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One answer of the sweep."""

    trait: str
    alpha: float
    prompt_index: int
    prompt: Messages
    steering: dict[str, Any] | None
    answer: Answer

    @property
    def french(self) -> bool:
        return is_french(self.answer.text)

    @property
    def tone(self) -> float:
        return tone_score(self.answer.text)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without a time, so that equal runs are equal."""
        own = {**asdict(self), "french": self.french, "tone": self.tone}
        answer = own.pop("answer")
        return {**own, **answer}


@dataclass(frozen=True, kw_only=True)
class Point:
    """All answers at one alpha of one trait."""

    trait: str
    alpha: float
    num_answers: int
    french: Interval  # share of answers in French, Wilson 95%
    tone: Interval  # mean of (warm - hostile) / (warm + hostile) words, Student 95%
    fluency: Interval  # nats per token, Student 95%
    distinct_2: float
    mean_delta_norm: float
    tokens_in_scope: int
    tokens_steered: int
    tokens_cached: int
    sample: str


def find_traits(llm: SteeredLLM, num_prompts: int, seed: int) -> list[Trait]:
    """The French and the tone axis, from labelled lines and trials on prompts that the sweep doesn't use."""
    lines = labelled_lines(NUM_LINES, seed)
    activations = read_activations(llm, [line["text"] for line in lines])

    def markers(key: str, value: str) -> list[Separation]:
        return separate(activations, [line[key] == value for line in lines])

    goals = [
        Goal(name, markers(key, value), markers(key, opposite), SCORES[name])
        for name, (key, value, opposite) in MARKED.items()
    ]
    french, warm, hostile = choose(llm, goals, demo_prompts(num_prompts, seed + 1), seed)
    return [Trait("french", french), Trait("tone", warm, hostile)]


def sweep(
    llm: SteeredLLM, traits: Sequence[Trait], alphas: Sequence[float] | None, prompts: Sequence[Messages], seed: int
) -> list[Row]:
    """Every trait at every alpha (None: its own) on every prompt, steered and unsteered in one continuous batch."""
    cells = [(t, alpha, i) for t in traits for alpha in alphas or t.alphas for i in range(len(prompts))]
    specs = [trait.spec(alpha) for trait, alpha, _ in cells]
    requests = [
        Request(messages=prompts[i], spec=spec, seed=seed + i) for (_, _, i), spec in zip(cells, specs, strict=True)
    ]
    return [
        Row(
            trait=trait.name,
            alpha=alpha,
            prompt_index=i,
            prompt=prompts[i],
            steering=None if spec is None else spec.model_dump(exclude_defaults=True),
            answer=answer,
        )
        for (trait, alpha, i), spec, answer in zip(cells, specs, answer_all(llm, requests), strict=True)
    ]


def summarise(rows: Sequence[Row]) -> list[Point]:
    """One Point per trait and alpha, in the rows' order."""
    return [_point(*key, own) for key, own in by_cell(rows).items()]


def by_cell(rows: Sequence[Row]) -> dict[tuple[str, float], list[Row]]:
    """Rows by trait and alpha, in their order."""
    cells: dict[tuple[str, float], list[Row]] = {}
    for row in rows:
        cells.setdefault((row.trait, row.alpha), []).append(row)
    return cells


def _point(trait: str, alpha: float, rows: list[Row]) -> Point:
    receipts = [row.answer.receipt for row in rows if row.answer.receipt is not None]
    repetition = [row.answer.distinct_2 for row in rows if row.answer.distinct_2 is not None]
    return Point(
        trait=trait,
        alpha=alpha,
        num_answers=len(rows),
        french=wilson_interval(sum(row.french for row in rows), len(rows)),
        tone=mean_interval([row.tone for row in rows]),
        fluency=mean_interval([row.answer.fluency for row in rows]),
        distinct_2=float(np.mean(repetition)) if repetition else float("nan"),
        mean_delta_norm=float(np.mean([r["mean_delta_norm"] for r in receipts])) if receipts else 0.0,
        tokens_in_scope=sum(r["tokens_in_scope"] for r in receipts),
        tokens_steered=sum(r["tokens_steered"] for r in receipts),
        tokens_cached=sum(r["tokens_cached"] for r in receipts),
        sample=rows[0].answer.text,
    )


def failures(points: Sequence[Point]) -> list[str]:
    """What the demo promises and these points don't show; empty where all is well."""
    found = []
    french = [point for point in points if point.trait == "french"]
    unsteered = next(point.french.value for point in french if point.alpha == 0)
    best = max(french, key=lambda point: point.french.value)
    if unsteered >= MAX_UNSTEERED:
        found.append(f"{unsteered:.0%} of unsteered answers are French, below {MAX_UNSTEERED:.0%} are expected")
    if best.french.value <= MIN_STEERED:
        found.append(
            f"at best {best.french.value:.0%} of answers are French (alpha {best.alpha:g}), "
            f"above {MIN_STEERED:.0%} are expected"
        )
    odd = [p for p in points if p.tokens_steered + p.tokens_cached != p.tokens_in_scope]
    found += [f"receipts of {p.trait} at alpha {p.alpha:g} do not add up" for p in odd]
    return found


def signed_ids(push: Push) -> list[str]:
    """Its features, with a minus where they are taken away."""
    return [f"{'-' if part.sign < 0 else '+'}{part.feature.id}" for part in push.parts]


def run_demo(
    llm: SteeredLLM, console: Console, out: Path, alphas: Sequence[float] | None, num_prompts: int, seed: int
) -> list[str]:
    """The whole demo, its files written to `out`; gives what it failed to show, empty where all is well."""
    from .demo_report import terminal_table, write_report
    from .profiles import best_profiles, write_profiles

    console.print("finding features that mark French, warm and hostile lines")
    traits = find_traits(llm, min(num_prompts, NUM_TRIAL_PROMPTS), seed)
    for push in (push for trait in traits for push in trait.pushes):
        console.print(
            f"  {push.name}: {', '.join(signed_ids(push))}, best near alpha {push.best_alpha:g}", highlight=False
        )
    console.print("sweeping alpha over both of them in one batch")
    rows = sweep(llm, traits, alphas, demo_prompts(num_prompts, seed), seed)
    points = summarise(rows)
    write_jsonl([row.to_dict() for row in rows], out / "results.jsonl")
    write_profiles(best_profiles(traits, rows), out / "profiles.yaml")
    write_report(out, traits, rows, points, _facts(llm, num_prompts, seed))
    for trait in traits:
        console.print(terminal_table(trait.name, [point for point in points if point.trait == trait.name]))
    problems = failures(points)
    for problem in problems:
        console.print(f"not shown: {problem}", style="red", highlight=False)
    files = "report.html, steering.png, results.jsonl and profiles.yaml"
    console.print(f"wrote {files} to {out}", highlight=False, soft_wrap=True)
    return problems


def _facts(llm: SteeredLLM, num_prompts: int, seed: int) -> dict[str, str]:
    entry = llm.plan.saes["default"]
    return {
        "model": llm.config.model,
        "SAE": f"{entry.d_sae} features after layer {entry.layer}",
        "prompts per alpha": str(num_prompts),
        "temperature": "0.7",
        "seed": str(seed),
        "vLLM-Tiller": version("vllm-tiller"),
    }
