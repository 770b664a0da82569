"""What a run will cost, before it is started: its calls, and the tokens they read and write."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiller.engine.config import Config

from .episode import num_acting
from .episode_record import TurnRecord
from .prompts import agent_prompt
from .unit import Unit

NUM_SAMPLED = 8  # scenes whose prompts are counted
TYPICAL = "I see what you mean, and I could agree to that if we also settle the other half today."


@dataclass(frozen=True)
class Estimate:
    """Counts for units that all last for max_turns, each answer as long as TYPICAL; most_answer_tokens at max_tokens."""

    units: int
    calls: int
    prompt_tokens: int
    answer_tokens: int
    most_answer_tokens: int


def estimate(units: Sequence[Unit], tokenizer: Any) -> Estimate:
    """From some units: their prompts, or those of their scenes with a history of no, half of all and all typical turns."""
    protocol, episodes = units[0].protocol, units[0].scene is not None
    calls = len(units) * (protocol.max_turns * num_acting(protocol) if episodes else 1)
    sampled = [units[i] for i in np.linspace(0, len(units) - 1, min(NUM_SAMPLED, len(units))).astype(int)]
    turns = _points(protocol.max_turns) if episodes else (0,)
    lengths = [_prompt_len(_messages(unit, turn), tokenizer) for unit in sampled for turn in turns]
    answer = json.dumps({"action_type": "speak", "argument": TYPICAL}) if episodes else TYPICAL
    return Estimate(
        units=len(units),
        calls=calls,
        prompt_tokens=round(calls * float(np.mean(lengths))),
        answer_tokens=calls * min(len(tokenizer.encode(answer)), protocol.max_tokens),
        most_answer_tokens=calls * protocol.max_tokens,
    )


def load_tokenizer(config: Config) -> Any:
    from transformers import AutoTokenizer

    arguments = config.vllm_arguments()
    return AutoTokenizer.from_pretrained(arguments.get("tokenizer", arguments["model"]))


def _points(max_turns: int) -> tuple[int, int, int]:
    return 0, (max_turns - 1) // 2, max_turns - 1


def _messages(unit: Unit, turn: int) -> list[dict[str, Any]]:
    """What is asked at `turn`, after turns of a typical length."""
    if unit.prompt is not None:
        return unit.prompt
    assert unit.scene is not None
    past = [
        TurnRecord(index=i, seat=i % 2, name=unit.scene.names[i % 2], action_type="speak", argument=TYPICAL, text="")
        for i in range(turn)
    ]
    return agent_prompt(unit.protocol, unit.scene, turn % 2, past)


def _prompt_len(messages: list[dict[str, Any]], tokenizer: Any) -> int:
    if tokenizer.chat_template is None:
        return len(tokenizer.encode(messages[0]["content"]))
    return len(tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True, return_dict=False))
