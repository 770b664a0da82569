"""Which features go with which scores: activations on what agents said, pooled per episode and agent, against judgements.

A correlation only nominates a feature; whether it causes anything is what `tiller sweep` is for.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csc_array, csr_array

from .bootstrap import indices_of
from .correlation import pearson, spearman, supported
from .features import COLUMNS_PER_CHUNK, Activations
from .inputs import InputError
from .multiple_tests import benjamini_hochberg

Pool = Literal["mean", "max"]
MIN_CLUSTERS = 3  # that a feature must be active in, and that a score must be known in


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One agent in one episode: what it said, and its scores by name."""

    cluster: str
    texts: list[str]
    scores: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Correlate:
    """One feature, a row of the dictionary, and one score. q: false discovery rate over the features of this score."""

    feature: int
    score: str
    r: float
    r_low: float  # 95%, leaving out one scenario at a time
    r_high: float
    p: float
    q: float
    rho: float  # Spearman's
    rho_low: float
    rho_high: float
    rho_p: float
    rho_q: float
    num: int  # agents with this score
    num_active: int  # of these, those on whose words the feature is active
    num_clusters: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def samples_of(path: Path, arms: Sequence[str]) -> list[Sample]:
    """The agents of a run's folder (of these arms) or of a file of recorded episodes with rewards.

    Raises InputError where there is neither, or where nobody has both words and scores.
    """
    found = list(_of_run(path, arms) if (path / "journal.sqlite").is_file() else _of_records(path))
    samples = [sample for sample in found if sample.texts and sample.scores]
    if not samples:
        raise InputError("no agent there has both words and scores; judge the run first", str(path))
    return samples


def pool(activations: Activations, group: NDArray, num_groups: int, how: Pool) -> csc_array:
    """Mean over all tokens, or largest activation, of the texts of each group: [num_groups, d_sae].

    group [num_texts]: which group each text is of.
    """
    if how == "max":
        return _group_max(activations.peak, group, num_groups)
    num_texts = len(group)
    member = csr_array((activations.num_tokens.astype(float), (group, np.arange(num_texts))), (num_groups, num_texts))
    tokens = np.maximum(1.0, np.asarray(member.sum(1)).ravel())
    share = csr_array((1 / tokens, (np.arange(num_groups), np.arange(num_groups))), (num_groups, num_groups))
    return csc_array(share @ member @ activations.mean)


def correlate(
    pooled: csc_array, samples: Sequence[Sample], min_support: int = 5, min_clusters: int = MIN_CLUSTERS
) -> list[Correlate]:
    """Every feature that enough agents activate with every score that varies, the surest first, score by score.

    Raises InputError where no score is known of agents in enough scenarios.
    """
    names = list(dict.fromkeys(name for sample in samples for name in sample.scores))
    found = [_with_score(pooled, samples, name, min_support, min_clusters) for name in names]
    known = [own for own in found if own is not None]
    if not known:
        raise InputError(f"no score varies over agents in at least {min_clusters} scenarios")
    return [correlate for own in known for correlate in own]


def _with_score(
    pooled: csc_array, samples: Sequence[Sample], name: str, min_support: int, min_clusters: int
) -> list[Correlate] | None:
    rows = np.array([i for i, sample in enumerate(samples) if name in sample.scores])
    score = np.array([samples[i].scores[name] for i in rows])
    clusters = indices_of([samples[i].cluster for i in rows])
    if clusters.max() + 1 < min_clusters or np.ptp(score) == 0:
        return None
    own = csc_array(csr_array(pooled)[rows])
    ids = np.flatnonzero(np.diff(own.indptr) >= min_support)
    chunks = [ids[i : i + COLUMNS_PER_CHUNK] for i in range(0, len(ids), COLUMNS_PER_CHUNK)]
    found = [entry for chunk in chunks for entry in _chunk(own, chunk, score, clusters, min_support, min_clusters)]
    return _ordered(found, name, len(rows))


def _chunk(
    pooled: csc_array, ids: NDArray, score: NDArray, clusters: NDArray, min_support: int, min_clusters: int
) -> Iterator[dict[str, Any]]:
    columns = pooled[:, ids].toarray()
    kept = supported(columns, clusters, min_support, min_clusters)
    columns, ids = columns[:, kept], ids[kept]
    if not len(ids):
        return
    line, rank = pearson(columns, score, clusters), spearman(columns, score, clusters)
    for j, feature in enumerate(ids):
        yield {
            "feature": int(feature),
            "r": float(line.r[j]), "r_low": float(line.low[j]), "r_high": float(line.high[j]), "p": float(line.p[j]),
            "rho": float(rank.r[j]), "rho_low": float(rank.low[j]), "rho_high": float(rank.high[j]),
            "rho_p": float(rank.p[j]), "num_active": int((columns[:, j] != 0).sum()),
            "num_clusters": len(np.unique(clusters[columns[:, j] != 0])),
        }  # fmt: skip


def _ordered(found: list[dict[str, Any]], score: str, num: int) -> list[Correlate]:
    q = benjamini_hochberg([entry["p"] for entry in found])
    rho_q = benjamini_hochberg([entry["rho_p"] for entry in found])
    made = [
        Correlate(**entry, score=score, num=num, q=float(q[i]), rho_q=float(rho_q[i])) for i, entry in enumerate(found)
    ]
    # By ranks: one outlying scenario can make or break Pearson's.
    return sorted(made, key=lambda c: (np.isnan(c.rho_p), c.rho_p, -abs(c.rho), c.feature))


def _group_max(peak: csc_array, group: NDArray, num_groups: int) -> csc_array:
    entries = coo_array(peak)
    texts, ids = entries.coords
    d_sae = peak.shape[1]
    key, slot = np.unique(group[texts].astype(np.int64) * d_sae + ids, return_inverse=True)
    largest = np.full(len(key), -np.inf)
    np.maximum.at(largest, slot, entries.data)
    return csc_array((largest, (key // d_sae, key % d_sae)), shape=(num_groups, d_sae))


def _of_run(out: Path, arms: Sequence[str]) -> Iterator[Sample]:
    from .sotopia.journal_reader import JournalReader
    from .sotopia.judges.judge import lines, seats

    with JournalReader(out) as journal:
        known = dict.fromkeys(unit.arm.name for unit in journal.units)
        for arm in arms:
            if arm not in known:
                raise InputError(f"no arm {arm!r}; this run has: {', '.join(known)}", "--arm")
        scores: defaultdict[tuple[str, int], defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for score in journal.scores():
            if score.seat is not None and score.value is not None:
                scores[score.unit_id, score.seat][f"{score.judge}.{score.metric}"].append(score.value)
        for record in journal.records():
            if record.outcome.status != "complete" or record.unit.arm.name not in arms:
                continue
            for seat in seats(record):
                means = {name: float(np.mean(own)) for name, own in scores[record.unit.unit_id, seat].items()}
                yield Sample(cluster=record.unit.cluster, texts=lines(record, seat), scores=means)


def _of_records(path: Path) -> Iterator[Sample]:
    from .sotopia.records import iter_records

    for record in iter_records(path):
        for seat in (0, 1):
            said = [turn.argument.strip() for turn in record.turns if turn.seat == seat and turn.argument.strip()]
            scores = {name: float(value) for name, value in (record.rewards[seat] or {}).items()}
            yield Sample(cluster=record.environment_id, texts=said, scores=scores)
