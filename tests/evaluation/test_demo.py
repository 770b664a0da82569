"""What the demo makes of its answers, and the demo itself, small."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiller.engine import load_config
from tiller.evaluation.answers import Answer
from tiller.evaluation.demo import Row, Trait, failures, summarise
from tiller.evaluation.demo_report import draw, terminal_cells
from tiller.evaluation.features import Separation
from tiller.evaluation.inputs import InputError
from tiller.evaluation.jsonl import rounded
from tiller.evaluation.profiles import best_profiles, write_profiles
from tiller.evaluation.selection import FLUENCY_WEIGHT, REFINED, TRIAL_ALPHAS, Goal, Part, Push, _extended, gain_of
from tiller.evaluation.sotopia.demo_run import ALPHAS, SWEPT

from .test_cli import run_tiller

FRENCH, ENGLISH = "je ne veux pas le prix de la maison", "I do not want the price of the house"


def marker(feature: int, auroc: float = 0.9, active_mean: float = 2.0) -> Separation:
    return Separation(
        id=feature, auroc=auroc, auroc_low=0.8, auroc_high=0.95, text_density=0.5, token_density=0.1,
        mean_positive=0.2, mean_negative=0.0, active_mean_positive=active_mean,
    )  # fmt: skip


def row(alpha: float, text: str, index: int = 0, steered: int = 9, fluency: float = -1.0, trait: str = "french") -> Row:
    receipt: dict[str, Any] = {
        "mean_delta_norm": abs(alpha) / 3, "tokens_in_scope": 10, "tokens_steered": steered, "tokens_cached": 1,
    }  # fmt: skip
    answer = Answer(text=text, num_tokens=9, fluency=fluency, distinct_2=1.0, receipt=receipt if alpha else None)
    steering = {"features": []} if alpha else None
    return Row(trait=trait, alpha=alpha, prompt_index=index, prompt=[], steering=steering, answer=answer)


def push(name: str, *ids: int, best_alpha: float = 1.0) -> Push:
    return Push(name, tuple(Part(marker(i), 1) for i in ids), best_alpha)


def test_a_push_is_shared_among_its_features() -> None:
    parts = [Part(marker(i, active_mean=float(i)), sign) for i, sign in ((1, 1), (2, -1), (3, 1), (4, -1))]
    edits = Push("french", tuple(parts)).spec(6.0).features
    assert [(edit.id, edit.value) for edit in edits] == [(1, 3.0), (2, -6.0), (3, 9.0), (4, -12.0)]


def test_a_trait_has_two_sides() -> None:
    warm, hostile = push("warm", 1, best_alpha=2.0), push("hostile", 2, best_alpha=10.0)
    tone, french = Trait("tone", warm, hostile), Trait("french", warm)
    assert tone.spec(0) is french.spec(0) is None
    assert tone.spec(-3) == hostile.spec(3) and tone.spec(3) == warm.spec(3)
    assert french.spec(-3) == warm.spec(-3)
    assert (tone.alphas[0], tone.alphas[-1]) == (-15.0, 4.0) and 0.0 in tone.alphas and len(tone.alphas) == 11


def test_pushes_grow_by_one_feature() -> None:
    markers = [marker(i) for i in range(9)] + [marker(10, auroc=0.5)]
    goal = Goal("french", markers, [marker(20 + i) for i in range(4)], len)
    first = list(_extended(goal, None))
    assert {p.parts[0].feature.id for p in first} == set(range(8)) and all(p.parts[0].sign == 1 for p in first)
    assert [p.best_alpha for p in first[: len(TRIAL_ALPHAS)]] == list(TRIAL_ALPHAS)
    second = list(_extended(goal, (0.5, push("french", 3, best_alpha=2.0))))
    added = [(p.parts[1].feature.id, p.parts[1].sign) for p in second[:: len(REFINED)]]
    assert added == [(i, 1) for i in range(8) if i != 3] + [(20 + i, -1) for i in range(3)]
    assert [p.best_alpha for p in second[: len(REFINED)]] == [2.0 * factor for factor in REFINED]


def test_a_goal_without_a_marker_is_refused() -> None:
    useless = [marker(8, auroc=0.5), marker(9, active_mean=0.0)]
    with pytest.raises(InputError, match="no feature of this SAE is more active on french lines"):
        list(_extended(Goal("french", useless, [], len), None))


def test_gain_counts_repetition_and_lost_fluency() -> None:
    answers = [Answer(text="", num_tokens=5, fluency=-3.0, distinct_2=d, receipt=None) for d in (1.0, 0.5, None)]
    assert gain_of(lambda text: 1.0, answers, -1.0) == pytest.approx(0.5 - FLUENCY_WEIGHT * 2.0)


def test_summary_and_verdict() -> None:
    rows = [row(0, ENGLISH, i) for i in range(10)] + [row(4, FRENCH if i else ENGLISH, i) for i in range(10)]
    plain, steered = summarise(rows)
    assert (plain.french.value, plain.tokens_in_scope, plain.mean_delta_norm) == (0.0, 0, 0.0)
    assert (steered.french.value, steered.num_answers, steered.tokens_steered) == (0.9, 10, 90)
    assert steered.tokens_cached == 10 and steered.mean_delta_norm == pytest.approx(4 / 3)
    assert failures([plain, steered]) == []
    assert terminal_cells(steered)[:2] == ["4", "90% [60%, 98%]"]
    assert len(draw([plain, steered]).axes) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, FRENCH), row(4, FRENCH)], "100% of unsteered answers are French"),
        ([row(0, ENGLISH), row(4, ENGLISH)], "at best 0% of answers are French"),
        ([row(0, ENGLISH), row(4, FRENCH, steered=8)], "receipts of french at alpha 4 do not add up"),
    ],
)
def test_what_is_not_shown_is_said(rows: list[Row], message: str) -> None:
    assert [text for text in failures(summarise(rows)) if message in text]


def test_profiles_are_the_best_points(tmp_path: Path) -> None:
    trait = Trait("french", push("french", 7))
    rows = [row(0, ENGLISH), row(-4, ENGLISH), row(4, FRENCH), row(8, FRENCH, fluency=-4.0)]
    profiles = best_profiles([trait], rows)
    assert profiles == {"french": {"features": [{"id": 7, "value": 8.0}], "skip_first": 1}}
    write_profiles(profiles, tmp_path / "profiles.yaml")
    assert yaml.safe_load((tmp_path / "profiles.yaml").read_text()) == {"profiles": profiles}


def test_rows_are_plain_and_rounded() -> None:
    plain = rounded(row(4, FRENCH, fluency=-1.23456789).to_dict())
    assert plain["fluency"] == -1.23457 and plain["french"] is True and plain["text"] == FRENCH
    assert json.loads(json.dumps(plain)) == plain
    assert rounded({"a": [1, 1.00000049, True, None]}) == {"a": [1, 1.0, True, None]}


def _arms(run: Path) -> Counter[str]:
    """Episodes of each arm of a run that has a report."""
    assert (run / "report.html").stat().st_size > 10_000
    return Counter(json.loads(line)["arm"] for line in (run / "episodes.jsonl").read_text().splitlines())


def test_a_small_demo(tmp_path: Path) -> None:
    done = run_tiller(
        "demo", "--out", str(tmp_path), "--prompts", "4", "--alphas", "-4,6", "--scenarios", "2", "--allow-weak"
    )
    assert done.returncode == 0, done.stderr
    assert _arms(tmp_path / "episodes") == {"unsteered": 2, "french": 2, "hostile": 2, "warm": 2}
    assert set(_arms(tmp_path / "sweep").values()) == {2} and len(_arms(tmp_path / "sweep")) == 1 + len(SWEPT) * len(
        ALPHAS
    )
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    cells = [(r["trait"], r["alpha"], r["prompt_index"]) for r in rows]
    assert cells == [(t, a, i) for t in ("french", "tone") for a in (-4.0, 0.0, 6.0) for i in range(4)]
    for r in rows:
        assert (r["receipt"] is None) == (r["alpha"] == 0)
        if r["receipt"]:
            assert r["receipt"]["tokens_steered"] + r["receipt"]["tokens_cached"] == r["receipt"]["tokens_in_scope"] > 0
    unsteered = [[r["text"] for r in rows if r["alpha"] == 0 and r["trait"] == trait] for trait in ("french", "tone")]
    assert unsteered[0] == unsteered[1]
    assert (tmp_path / "report.html").read_text().count("<svg") == 1
    assert (tmp_path / "steering.png").stat().st_size > 10_000
    profiles = yaml.safe_load((tmp_path / "profiles.yaml").read_text())["profiles"]
    assert set(profiles) == {"french", "warm", "hostile"}
    assert load_config("demo").model_copy(update={"profiles": profiles}).profile("french").features
