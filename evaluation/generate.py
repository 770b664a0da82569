"""Answers with and without steering, side by side, out of one batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiller.engine import SteeredLLM, SteeringSpec

from .inputs import InputError, Messages


@dataclass(frozen=True)
class Pair:
    """vLLM's RequestOutput of one prompt, steered and, where it was asked for, not."""

    prompt: str | Messages
    steered: Any
    baseline: Any | None


def generate_pairs(
    llm: SteeredLLM,
    prompts: Sequence[str | Messages],
    spec: SteeringSpec,
    params: Any,
    chat: bool | None = None,
    baseline: bool = True,
) -> list[Pair]:
    """Answers every prompt in one engine call; prompt i is sampled with `params.seed` + i, alike in both of its runs.

    chat: whether a plain prompt is put through the chat template; None means where the tokenizer has one.
    Raises TillerError where the spec or the prompts don't fit the engine.
    """
    arms = [spec] if not baseline else [spec, baseline_spec(spec)]
    requests = [(prompt, arm, _seeded(params, i)) for i, prompt in enumerate(prompts) for arm in arms]
    given, specs, own_params = map(list, zip(*requests, strict=True))
    if _is_chat(llm, prompts, chat):
        outputs = llm.chat([_as_messages(prompt) for prompt in given], own_params, steering=specs)
    else:
        outputs = llm.generate(given, own_params, steering=specs)
    steered = outputs[:: len(arms)]
    plain: Sequence[Any | None] = outputs[1 :: len(arms)] if baseline else [None] * len(steered)
    return [Pair(*triple) for triple in zip(prompts, steered, plain, strict=True)]


def baseline_spec(spec: SteeringSpec) -> SteeringSpec | None:
    """Reads the features that `spec` edits and changes nothing; None where it edits none."""
    if not spec.features:
        return None
    sae = spec.features[0].sae
    ids = [edit.id for edit in spec.features if edit.sae == sae]
    return SteeringSpec.model_validate({"read": {"features": ids, "sae": sae}})


def record_of(pair: Pair, spec: SteeringSpec, params: Any, llm: SteeredLLM) -> dict[str, Any]:
    """One answer as JSON data: the Sotopia steering toolkit's keys, of the first edited feature, then our own."""
    edit = spec.features[0] if spec.features else None
    answer = pair.steered.outputs[0]
    read = pair.baseline.steering.read["features"] if pair.baseline is not None and edit else {}
    layers = [llm.plan.saes[edit.sae].layer] if edit else [llm.plan.vectors[v.name].layer for v in spec.vectors]
    return {
        "feature_idx": edit.id if edit else None,
        "steering_strength": edit.value if edit else (spec.vectors[0].alpha if spec.vectors else None),
        "layer": layers[0] if layers else None,
        "prompt": pair.prompt,
        "baseline_output": None if pair.baseline is None else pair.baseline.outputs[0].text,
        "steered_output": answer.text,
        "baseline_feature_value": read.get(str(edit.id)) if edit else None,
        "config": {"max_new_tokens": params.max_tokens, "temperature": params.temperature},
        "model": llm.config.model,
        "seed": params.seed,
        "baseline_feature_values": read,
        "steering": spec.model_dump(exclude_defaults=True),
        "receipt": None if answer.steering is None else answer.steering.to_dict(),
        "finish_reason": answer.finish_reason,
    }


def _seeded(params: Any, index: int) -> Any:
    own = params.clone()
    own.seed = None if params.seed is None else params.seed + index
    return own


def _is_chat(llm: SteeredLLM, prompts: Sequence[str | Messages], chat: bool | None) -> bool:
    has_template = bool(llm.get_tokenizer().chat_template)
    has_messages = any(not isinstance(prompt, str) for prompt in prompts)
    if chat is False and has_messages:
        raise InputError("a prompt consists of chat messages; leave --no-chat out", "--no-chat")
    if not has_template and (chat or has_messages):
        raise InputError("this model's tokenizer has no chat template; give plain prompts, with --no-chat", "--chat")
    return has_template if chat is None else chat


def _as_messages(prompt: str | Messages) -> Messages:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
