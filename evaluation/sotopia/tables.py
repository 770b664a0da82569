"""A run as tidy tables, Parquet and CSV: episodes, turns, scores, and the summary of every arm in every measure."""

import csv
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tiller.evaluation.stats import Interval

from .effects import Effect
from .episode_record import EpisodeRecord
from .measures import Measure
from .results import Results, score_rows, turn_rows

TEXT, WHOLE, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TYPES = {
    TEXT: "unit_id pair_id cluster arm target steered_seat codename agent_1 agent_2 status cause transcript role name "
    "action_type argument text finish_reason judge judge_id metric note",
    WHOLE: "seed num_turns num_cut prompt_tokens completion_tokens num_receipts num_receipts_adding_up index seat "
    "tokens_in_scope tokens_steered tokens_cached",
    REAL: "alpha mean_delta_norm value",
    FLAG: "cut",
}
UNIT = "unit_id pair_id cluster arm target alpha steered_seat seed"


def _schema(columns: str) -> pa.Schema:
    """Columns by name, each of its type in TYPES."""
    types = {name: kind for kind, names in TYPES.items() for name in names.split()}
    return pa.schema([(name, types[name]) for name in columns.split()])


EPISODES = _schema(
    f"{UNIT} codename agent_1 agent_2 status cause num_turns num_cut prompt_tokens completion_tokens num_receipts "
    "num_receipts_adding_up tokens_in_scope tokens_steered tokens_cached mean_delta_norm transcript"
)
TURNS = _schema(
    f"{UNIT} index seat role name action_type argument text cut finish_reason prompt_tokens completion_tokens "
    "tokens_in_scope tokens_steered tokens_cached"
)
SCORES = _schema(f"{UNIT} seat role judge judge_id metric value status cause note")
BATCH = 2048


def write_tables(out: Path, results: Results, records: Iterable[EpisodeRecord]) -> None:
    """`out`/episodes.parquet, turns.parquet and scores.parquet; `records` are read one at a time."""
    write_parquet(out / "episodes.parquet", EPISODES, results.episodes.values())
    write_parquet(out / "turns.parquet", TURNS, (row for record in records for row in turn_rows(record)))
    write_parquet(out / "scores.parquet", SCORES, score_rows(results))


def write_parquet(path: Path, schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Rows of exactly the schema's keys, in groups of BATCH."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waiting = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(waiting, BATCH)):
            assert set(batch[0]) == set(schema.names), set(batch[0]) ^ set(schema.names)
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def summary_rows(measures: Sequence[Measure], effects: Sequence[Sequence[Effect]]) -> list[dict[str, Any]]:
    """One row a measure and arm; empty cells where a figure can't be had."""
    return [
        {
            "judge": measure.judge, "metric": measure.metric.name, "role": measure.role, "arm": effect.arm.name,
            "target": effect.arm.target, "alpha": effect.arm.alpha, "num": effect.num,
            "num_missing": effect.num_missing, "nonzero": effect.nonzero, **_interval("mean", effect.mean),
            **_interval("delta", effect.delta), "student_low": effect.student.low, "student_high": effect.student.high,
            "p": effect.p, "p_holm": effect.p_holm, **_interval("delta_zero", effect.delta_zero),
            "worst_low": None if effect.worst is None else effect.worst.low,
            "worst_high": None if effect.worst is None else effect.worst.high,
        }
        for measure, own in zip(measures, effects, strict=True)
        for effect in own
    ]  # fmt: skip


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Floats to 6 significant digits; None and NaN are empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return "" if value is None else value


def _interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
