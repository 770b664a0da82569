"""One turn of recorded conversations, as the unsteered model would go on and as the steered one does, all in one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiller.engine import SteeredLLM, SteeringSpec
from tiller.evaluation.generate import Pair, baseline_spec, record_of
from tiller.evaluation.inputs import InputError, Messages

from .actions import ActionError, action_schema, offered_actions, parse_action, render_action
from .episode_record import TurnRecord
from .profiles import Scene
from .prompts import agent_prompt, turn_number
from .protocol import Protocol
from .record import Record
from .records import scene_of
from .way import Way
from .world import World


@dataclass(frozen=True)
class Moment:
    """A point of a recorded conversation at which the agent at `seat` is to act; `said` is what was recorded there."""

    record_index: int
    turn_index: int
    record: Record
    scene: Scene
    seat: int
    past: tuple[TurnRecord, ...]
    said: TurnRecord | None

    @property
    def name(self) -> str:
        return self.record.names[self.seat]

    def prompt(self, protocol: Protocol) -> Messages:
        return agent_prompt(protocol, self.scene, self.seat, self.past)


def moments_of(
    records: Sequence[Record], record_indices: Sequence[int], turn_indices: Sequence[int], world: World | None
) -> list[Moment]:
    """Every turn index in every record asked for; turn index T is after the first T turns.

    Raises InputError saying which records and turns there are where one is out of range, or comes after the end.
    """
    for index in record_indices:
        if not 0 <= index < len(records):
            raise InputError(f"{index} given; there are records 0 to {len(records) - 1}", "--record-idx")
    return [_moment(records[i], i, turn, world) for i in record_indices for turn in turn_indices]


def _moment(record: Record, index: int, turn: int, world: World | None) -> Moment:
    if not 0 <= turn <= len(record.turns):
        raise InputError(
            f"{turn} given; record {index} has {len(record.turns)} turns, so 0 (its start) to {len(record.turns)} (what "
            "would come next)",
            "--turn-idx",
        )
    past = record.turns[:turn]
    gone = next((t for t in past if t.action_type == "leave"), None)
    if gone is not None:
        raise InputError(
            f"{turn} given; in record {index} {gone.name} left at turn {record.turns.index(gone)}", "--turn-idx"
        )
    said = record.turns[turn] if turn < len(record.turns) else None
    seat = said.seat if said is not None else 1 - past[-1].seat if past else 0
    return Moment(index, turn, record, scene_of(record, world), seat, past, said)


def steer_moments(
    llm: SteeredLLM, protocol: Protocol, moments: Sequence[Moment], ways: Sequence[Way], seed: int
) -> list[dict[str, Any]]:
    """The next action at each moment in each way beside the unsteered one, as JSON data, moment by moment.

    One engine call. All answers at moment i are sampled with `seed` + i; the features that specs edit are read in the
    unsteered run. Raises TillerError where a spec doesn't fit the engine, vLLM's error where a prompt doesn't.
    """
    reads = _reads([way.spec for way in ways])
    arms = [*reads, *(way.spec for way in ways)]
    params = [_params(protocol, moment, seed + i) for i, moment in enumerate(moments)]
    outputs = llm.chat(
        [moment.prompt(protocol) for moment in moments for _ in arms],
        [own for own in params for _ in arms],
        steering=list(arms) * len(moments),
        use_tqdm=False,
    )
    results = []
    for i, moment in enumerate(moments):
        here = outputs[i * len(arms) : (i + 1) * len(arms)]
        for way, output in zip(ways, here[len(reads) :], strict=True):
            unsteered = here[_reader(reads, way.spec)]
            results.append(_result(llm, protocol, moment, way, params[i], unsteered, output))
    return results


def _reads(specs: Sequence[SteeringSpec]) -> list[SteeringSpec | None]:
    """Unsteered runs that between them read every edited feature, one for each SAE; at least one."""
    merged: dict[str, list[int]] = {}
    for spec in specs:
        for edit in spec.features:
            merged.setdefault(edit.sae, []).append(edit.id)
    bodies = [{"read": {"features": [*dict.fromkeys(ids)], "sae": sae}} for sae, ids in merged.items()]
    return [SteeringSpec.model_validate(body) for body in bodies] or [None]


def _reader(reads: Sequence[SteeringSpec | None], spec: SteeringSpec) -> int:
    """Which of the unsteered runs reads the features of `spec`."""
    own = baseline_spec(spec)
    saes = [None if read is None or read.read is None else read.read.sae for read in reads]
    return 0 if own is None or own.read is None else saes.index(own.read.sae)


def _params(protocol: Protocol, moment: Moment, seed: int) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        max_tokens=protocol.max_tokens,
        temperature=protocol.temperature,
        top_p=protocol.top_p,
        seed=seed,
        structured_outputs=StructuredOutputsParams(json=action_schema(protocol, turn_number(moment.past))),
    )


def _result(
    llm: SteeredLLM, protocol: Protocol, moment: Moment, way: Way, params: Any, unsteered: Any, steered: Any
) -> dict[str, Any]:
    """The keys of `tiller generate`, then where it is, who acts and what was recorded there."""
    prompt = moment.prompt(protocol)[-1]["content"]
    result = record_of(Pair(prompt, steered, unsteered), way.spec, params, llm)
    edited = {str(edit.id) for edit in way.spec.features}
    values = {key: value for key, value in result["baseline_feature_values"].items() if key in edited}
    return {
        **result,
        "baseline_feature_values": values,
        "way": way.name,
        "record_idx": moment.record_index,
        "turn_idx": moment.turn_index,
        "environment_id": moment.record.environment_id,
        "codename": moment.record.codename,
        "agent": moment.name,
        "seat": moment.seat,
        "baseline_action": _action(protocol, moment, unsteered),
        "steered_action": _action(protocol, moment, steered),
        "recorded_action": None if moment.said is None else _plain(moment.said.action_type, moment.said.argument),
        "last_turn": _line(moment.past[-1], moment) if moment.past else None,
    }


def _action(protocol: Protocol, moment: Moment, output: Any) -> dict[str, str] | None:
    """What an answer does; None where max_tokens cut it before it says that."""
    answer, offered = output.outputs[0], offered_actions(protocol, turn_number(moment.past))
    try:
        action = parse_action(answer.text, answer.finish_reason == "length", offered, protocol.max_argument_chars)
    except ActionError:
        return None
    return _plain(action.action_type, action.argument)


def _plain(action_type: str, argument: str) -> dict[str, str]:
    return {"action_type": action_type, "argument": argument}


def _line(turn: TurnRecord, moment: Moment) -> str:
    return render_action(moment.record.names[turn.seat], turn.action_type, turn.argument)
