"""A run's files for others: one line for each finished unit, in plan order, the same for equal runs."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tiller.evaluation.atomic import atomic_writer
from tiller.evaluation.jsonl import rounded

from .episode_log import episode_line, episode_log, write_episode_logs
from .episode_record import EpisodeRecord, TurnRecord
from .journal_reader import JournalReader
from .unit import Arm

EPISODES = "episodes.jsonl"
KEPT_OF_RECEIPTS = ("spec_hash", "tokens_in_scope")  # the rest depends on what was in the prefix cache


@dataclass
class ArmTotals:
    """What became of the units of one arm."""

    arm: str
    units: int = 0
    failed: int = 0
    turns: int = 0
    cut: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    completion_tokens: int = 0
    tokens_steered: int = 0
    tokens_cached: int = 0
    tokens_in_scope: int = 0

    def add(self, record: EpisodeRecord) -> None:
        self.units += 1
        self.failed += record.outcome.status == "failed"
        self.causes[record.outcome.cause] += 1
        self.turns += len(record.turns)
        for turn in record.turns:
            self.cut += turn.cut
            self.completion_tokens += turn.completion_tokens
            receipt = turn.receipt or {}
            self.tokens_steered += receipt.get("tokens_steered", 0)
            self.tokens_cached += receipt.get("tokens_cached", 0)
            self.tokens_in_scope += receipt.get("tokens_in_scope", 0)


def export_run(journal: JournalReader, logs: bool = False) -> list[ArmTotals]:
    """Writes DIR/episodes.jsonl, with `logs` also DIR/EpisodeLog/*.json, and sums up each arm.

    The old file stays until the new one is whole.
    """
    totals: dict[str, ArmTotals] = {}
    with atomic_writer(journal.folder / EPISODES) as file:
        for record in journal.records():
            file.write(json.dumps(rounded(line_of(record)), ensure_ascii=False) + "\n")
            name = record.unit.arm.name
            totals.setdefault(name, ArmTotals(name)).add(record)
    if logs:
        episodes = (record for record in journal.records() if record.unit.scene is not None)
        write_episode_logs((episode_log(record) for record in episodes), journal.folder)
    return list(totals.values())


def line_of(record: EpisodeRecord) -> dict[str, Any]:
    """An episode with the keys of Sotopia's published ones, or a prompt; then how it came about and its turns."""
    unit = record.unit
    published = {"episode_id": unit.unit_id, "prompt": unit.prompt} if unit.scene is None else episode_line(record)
    return {
        **published,
        "unit_id": unit.unit_id,
        "pair_id": unit.pair_id,
        **_arm(unit.arm),
        "seat": unit.seat,
        "seed": unit.seed,
        "outcome": record.outcome.status,
        "cause": record.outcome.cause,
        "turns": [_turn(turn) for turn in record.turns],
    }


def _arm(arm: Arm) -> dict[str, Any]:
    return {"arm": arm.name, "target": arm.target, "alpha": arm.alpha, "steering": arm.steering}


def _turn(turn: TurnRecord) -> dict[str, Any]:
    plain = dict(turn)
    if turn.receipt is not None:
        plain["receipt"] = {key: turn.receipt[key] for key in KEPT_OF_RECEIPTS if key in turn.receipt}
    return plain
