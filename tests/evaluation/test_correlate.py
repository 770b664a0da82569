"""Features against scores: pooling by hand, planted correlations found by their true ids, files read."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.sparse import csc_array

from tiller.evaluation.correlate import Sample, correlate, pool, samples_of
from tiller.evaluation.correlate_report import by_score, write_correlates
from tiller.evaluation.features import Activations, read_activations
from tiller.evaluation.inputs import InputError

from .conftest import PLANTED
from .sotopia.made_run import sweep_run


def activations() -> Activations:
    mean = np.array([[1.0, 0.0, 0.0], [3.0, 2.0, 0.0], [0.0, 4.0, 0.0]])
    return Activations(
        mean=csc_array(mean), peak=csc_array(2 * mean), num_active=csc_array((mean > 0) * 1.0),
        num_tokens=np.array([10, 30, 5]),
    )  # fmt: skip


def test_texts_are_pooled_over_their_tokens_and_by_their_largest() -> None:
    group = np.array([1, 1, 0])
    assert pool(activations(), group, 2, "mean").toarray().tolist() == [[0, 4, 0], [(10 + 90) / 40, 60 / 40, 0]]
    assert pool(activations(), group, 2, "max").toarray().tolist() == [[0, 8, 0], [6, 4, 0]]


def made(num: int = 90, num_features: int = 400, planted: int = 321) -> tuple[csc_array, list[Sample]]:
    """Sparse activations of which one, and its score, go together; another column is active in one scenario alone."""
    rng = np.random.default_rng(0)
    columns = rng.exponential(size=(num, num_features)) * (rng.random((num, num_features)) < 0.3)
    columns[:, 7] = 0
    columns[:3, 7] = 50.0
    score = columns[:, planted] + rng.normal(0, 0.3, num)
    score[:3] += 1.5
    samples = [
        Sample(cluster=f"env{i // 3}", texts=["x"], scores={"goal": float(s), "flat": 1.0}) for i, s in enumerate(score)
    ]
    return csc_array(columns), samples


def test_the_planted_feature_comes_first_by_its_true_id() -> None:
    columns, samples = made()
    found = correlate(columns, samples)
    assert found[0].feature == 321 and found[0].rho_q < 0.005 and min(found[0].r_low, found[0].rho_low) > 0.3
    assert found[0].num_active == int((columns.toarray()[:, 321] != 0).sum()) and found[0].num == 90
    assert sum(c.rho_q < 0.05 for c in found) <= 3
    assert {c.score for c in found} == {"goal"}  # a score that never varies is none


def test_a_feature_of_one_scenario_has_no_support() -> None:
    columns, samples = made()
    assert 7 not in {c.feature for c in correlate(columns, samples, min_support=2)}
    assert 7 in {c.feature for c in correlate(columns, samples, min_support=2, min_clusters=1)}


def test_agents_without_a_score_are_left_out_of_it_alone() -> None:
    columns, samples = made()
    samples = [
        Sample(cluster=s.cluster, texts=s.texts, scores={**s.scores, **({"late": float(i)} if i > 40 else {})})
        for i, s in enumerate(samples)
    ]
    nums = {c.score: c.num for c in correlate(columns, samples)}
    assert nums == {"goal": 90, "late": 49}


def test_too_few_scenarios_are_refused() -> None:
    columns, samples = made(6)
    with pytest.raises(InputError, match="at least 3 scenarios"):
        correlate(columns, samples)


def test_samples_of_a_run_are_its_judged_agents(tmp_path: Path) -> None:
    sweep_run(tmp_path)
    samples = samples_of(tmp_path, ["unsteered"])
    assert len(samples) == 48 and len({s.cluster for s in samples}) == 12
    assert set(samples[0].scores) == {"words.tone", "fluency.mean_logprob", "sotopia.goal"}
    assert samples[0].texts == ["<i>line 0</i> at 0", "<i>line 2</i> at 0"]
    with pytest.raises(InputError, match="--arm: no arm 'cool'; this run has: unsteered, warm -2"):
        samples_of(tmp_path, ["cool"])


def test_files_and_the_page(tmp_path: Path) -> None:
    columns, samples = made()
    found = correlate(columns, samples)
    write_correlates(tmp_path, found, {321: "lines about <bikes>"}, [("agents", "90")])
    table = pq.read_table(tmp_path / "correlations.parquet")
    assert table.num_rows == len(found) and table["feature"][0].as_py() == 321
    html = (tmp_path / "report.html").read_text()
    assert "lines about &lt;bikes&gt;" in html and html.count("<svg") == len(by_score(found)) == 1
    assert (tmp_path / "figures" / "volcano-goal.png").exists()


def test_the_engine_finds_its_planted_feature(llm: Any) -> None:
    """The score counts a token; the feature that fires at it is found through the engine's own reads."""
    rng = np.random.default_rng(1)
    texts, samples = [], []
    for i in range(36):
        count = int(rng.integers(0, 4))
        words = [f"t{j}" for j in rng.integers(20, 400, 12)]
        words[1 : 1 + count] = ["t7"] * count
        texts.append(" ".join(words))
        samples.append(Sample(cluster=f"env{i // 3}", texts=[texts[-1]], scores={"sevens": float(count)}))
    pooled = pool(read_activations(llm, texts), np.arange(36), 36, "mean")
    best = correlate(pooled, samples)[0]
    assert best.feature == PLANTED and best.r > 0.95
