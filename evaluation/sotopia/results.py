"""What a finished or a running run holds, as its statistics need it: every planned unit, how it ended, and its scores."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .episode_record import EpisodeRecord
from .journal_reader import JournalReader
from .score_record import Score
from .unit import STEERED_SEATS, UNSTEERED, Arm, Unit, digest

Role = Literal["agent", "partner", "episode"]
COUNTS = ("tokens_in_scope", "tokens_steered", "tokens_cached")


@dataclass(frozen=True, kw_only=True)
class Results:
    """units: all that were planned; episodes: one row, as of `episode_row`, for each that is finished, by its unit_id."""

    units: list[Unit]
    episodes: dict[str, dict[str, Any]]
    scores: list[Score]
    manifest: dict[str, Any]

    @property
    def arms(self) -> list[Arm]:
        """The unsteered one first, then by target and alpha, as planned where there is no alpha."""
        found = {unit.arm.name: unit.arm for unit in self.units}
        targets = list(dict.fromkeys(arm.target for arm in found.values()))
        return sorted(
            found.values(),
            key=lambda arm: (arm.name != UNSTEERED.name, targets.index(arm.target), arm.alpha or 0.0),
        )


def collect(
    units: Sequence[Unit], records: Iterable[EpisodeRecord], scores: Sequence[Score], manifest: dict[str, Any]
) -> Results:
    """Records are looked at one at a time, so that a long run fits into memory."""
    episodes = {record.unit.unit_id: episode_row(record) for record in records}
    return Results(units=list(units), episodes=episodes, scores=list(scores), manifest=manifest)


def read_results(out: Path) -> Results:
    """Those of the run in `out`; may be called while it goes on.

    Raises InputError where there is no run.
    """
    with JournalReader(out) as journal:
        return collect(journal.units, journal.records(), journal.scores(), journal.manifest() or {})


def role_of(unit: Unit, seat: int | None) -> Role:
    """Whose figure it is: the agent's that the arm steers (or would, were it not the baseline), or its partner's."""
    if seat is None:
        return "episode"
    return "agent" if seat in STEERED_SEATS[unit.seat] else "partner"


def unit_columns(unit: Unit) -> dict[str, Any]:
    """What every table says of a unit."""
    return {
        "unit_id": unit.unit_id,
        "pair_id": unit.pair_id,
        "cluster": unit.cluster,
        "arm": unit.arm.name,
        "target": unit.arm.target,
        "alpha": unit.arm.alpha,
        "steered_seat": unit.seat,
        "seed": unit.seed,
    }


def episode_row(record: EpisodeRecord) -> dict[str, Any]:
    """One finished unit as flat data; the sums of its receipts over all turns that were steered."""
    unit, turns = record.unit, record.turns
    receipts = [turn.receipt for turn in turns if turn.receipt is not None]
    norms = [receipt["mean_delta_norm"] for receipt in receipts if receipt.get("mean_delta_norm") is not None]
    return {
        **unit_columns(unit),
        "codename": unit.scene.environment.codename if unit.scene is not None else "",
        "agent_1": unit.scene.names[0] if unit.scene is not None else "",
        "agent_2": unit.scene.names[1] if unit.scene is not None else "",
        "status": record.outcome.status,
        "cause": record.outcome.cause,
        "num_turns": len(turns),
        "num_cut": sum(turn.cut for turn in turns),
        "prompt_tokens": sum(turn.prompt_tokens for turn in turns),
        "completion_tokens": sum(turn.completion_tokens for turn in turns),
        "num_receipts": len(receipts),
        "num_receipts_adding_up": sum(map(_adds_up, receipts)),
        **{name: sum(receipt.get(name, 0) for receipt in receipts) for name in COUNTS},
        "mean_delta_norm": sum(norms) / len(norms) if norms else None,
        "transcript": _hash(record),
    }


def turn_rows(record: EpisodeRecord) -> list[dict[str, Any]]:
    """One row a turn."""
    return [
        {
            **unit_columns(record.unit),
            "index": turn.index,
            "seat": turn.seat,
            "role": role_of(record.unit, turn.seat),
            **{
                key: getattr(turn, key)
                for key in (
                    "name", "action_type", "argument", "text", "cut", "finish_reason", "prompt_tokens",
                    "completion_tokens",
                )
            },
            **{name: (turn.receipt or {}).get(name) for name in COUNTS},
        }
        for turn in record.turns
    ]  # fmt: skip


def score_rows(results: Results) -> list[dict[str, Any]]:
    """One row a score, missing ones among them, with what its unit was."""
    columns = {unit.unit_id: unit_columns(unit) for unit in results.units}
    units = {unit.unit_id: unit for unit in results.units}
    return [
        {
            **columns[score.unit_id],
            "seat": score.seat,
            "role": role_of(units[score.unit_id], score.seat),
            **score.model_dump(include={"judge", "judge_id", "metric", "value", "status", "cause", "note"}),
        }
        for score in results.scores
    ]


def _adds_up(receipt: dict[str, Any]) -> bool:
    return bool(receipt["tokens_steered"] + receipt["tokens_cached"] == receipt["tokens_in_scope"])


def _hash(record: EpisodeRecord) -> str:
    """Equal for equal texts, turn for turn."""
    return digest([[turn.seat, turn.text] for turn in record.turns])[:16]
