"""SteeredLLM: vLLM's offline engine with a `steering` argument and a receipt for every answer."""

import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from . import compat
from .build_inventory import make_plan
from .config import Config, load_config
from .engine_args import steered_engine_args
from .errors import SpecError, UnsupportedError
from .handshake import check_handshake, probe_specs
from .inventory import Plan
from .pacing import MIN_OPEN, Ask, Claimed, PacedCall, asks_of, is_steered
from .receipt import UnsteeredError, merge_receipts
from .spec import ID_KEY, ONLY_COMPLETION, SPEC_KEY, SteeringSpec, parse_spec
from .stepping import Stepping

Steering = SteeringSpec | dict[str, Any] | str | None


class SteeredLLM:
    """vLLM's `LLM`, steered; any further keyword is an argument of `vllm.LLM`.

        llm = SteeredLLM.from_config("demo")
        outs = llm.generate(prompts, params, steering={"features": [{"id": 7, "value": 4.0}]})
        outs[0].outputs[0].text, outs[0].steering.tokens_steered

    Raises TillerError before any worker starts where an SAE or vector doesn't fit the model.
    """

    def __init__(
        self,
        model: str,
        saes: dict[str, dict[str, Any]] | None = None,
        vectors: dict[str, str | dict[str, Any]] | None = None,
        profiles: dict[str, dict[str, Any]] | None = None,
        **engine: Any,
    ) -> None:
        self._start(Config(model=model, saes=saes or {}, vectors=vectors or {}, profiles=profiles or {}, engine=engine))  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, config: str | Path | Config, capture: bool = False, **engine: Any) -> Self:
        """The engine of a config (a shipped name, a file, or a Config); `engine` overrides its vLLM arguments."""
        loaded = config if isinstance(config, Config) else load_config(config)
        self = cls.__new__(cls)
        self._start(loaded.model_copy(update={"engine": {**loaded.engine, **engine}}), capture)
        return self

    def _start(self, config: Config, capture: bool = False) -> None:
        compat.require_vllm()
        from vllm import LLM

        self.config = config
        self.plan: Plan = make_plan(config, capture)
        arguments = steered_engine_args(config, self.plan)
        compat.check_supported(compat.engine_config(arguments))
        self.llm = LLM(**arguments)
        self.workers: list[dict[str, Any]] = self.llm.collective_rpc("tiller_describe")
        check_handshake(self.plan, self.workers)
        self._probe()

    def _probe(self) -> None:
        """Sends tokens through every site, in prefill and decode, and looks at the receipts before anybody relies on them.

        Raises UnsteeredError where a forward passes a site by, as a stale compiled graph would.
        """
        from vllm import SamplingParams

        specs = probe_specs(self.plan)
        prompts = [{"prompt_token_ids": [0]} for _ in specs]
        if specs:
            self.generate(
                prompts, SamplingParams(max_tokens=3, ignore_eos=True, detokenize=False), steering=specs, use_tqdm=False
            )

    def generate(
        self,
        prompts: Any,
        sampling_params: Any = None,
        *,
        steering: Steering | Sequence[Steering] = None,
        **kwargs: Any,
    ) -> list[Any]:
        """vLLM's `generate`, each prompt with its own steering (one for all, or a list).

        Each RequestOutput has `.steering`: its Receipt, None where it was not steered; with n > 1 so does each of its
        `outputs`, and the request's own is the first one's. Raises SpecError naming the field of a wrong spec.
        """
        many = _is_many(prompts)
        params = self._params(sampling_params, steering, len(prompts) if many else 1)
        return self._call(self.llm.generate, prompts, params if many else params[0], **kwargs)

    def chat(
        self,
        messages: Any,
        sampling_params: Any = None,
        *,
        steering: Steering | Sequence[Steering] = None,
        **kwargs: Any,
    ) -> list[Any]:
        """vLLM's `chat`, steered as in `generate`."""
        many = bool(messages) and not isinstance(messages[0], dict)
        params = self._params(sampling_params, steering, len(messages) if many else 1)
        return self._call(self.llm.chat, messages, params if many else params[0], **kwargs)

    def beam_search(self, *_: Any, **__: Any) -> None:
        raise UnsupportedError("beam search drops per-request steering in vLLM; sample with n > 1 instead")

    @cached_property
    def stepping(self) -> Stepping:
        """This engine inside an event loop: requests that are awaited one by one and still share one batch."""
        return Stepping(self)

    def get_tokenizer(self) -> Any:
        return self.llm.get_tokenizer()

    def shutdown(self) -> None:
        """Ends the engine's processes."""
        self.llm.llm_engine.engine_core.shutdown()

    def _params(self, given: Any, steering: Steering | Sequence[Steering], num: int) -> list[Any]:
        """One SamplingParams a request, each its own copy with its own spec and receipt id."""
        params = list(given) if isinstance(given, Sequence) else [given or self.llm.get_default_sampling_params()] * num
        specs: list[Any] = list(steering) if isinstance(steering, list | tuple) else [steering] * num
        if len(params) != num or len(specs) != num:
            raise SpecError(f"{len(params)} sampling params and {len(specs)} steering specs given for {num} prompts")
        return [self.steered_params(p, spec) for p, spec in zip(params, specs, strict=True)]

    def steered_params(self, params: Any, steering: Steering) -> Any:
        """A copy of SamplingParams that carries `steering` and an id of its own to claim the receipt by."""
        params = params.clone()
        given = steering if steering is not None else (params.extra_args or {}).get(SPEC_KEY)
        if given is None:
            return params
        spec = parse_spec(given)
        self.plan.check(spec)
        wire = {SPEC_KEY: spec.model_dump_json(exclude_defaults=True)}
        mine = {} if spec.idle else {ID_KEY: uuid.uuid4().hex}
        params.extra_args = {**(params.extra_args or {}), **wire, **mine}
        if spec.read is not None:
            params.skip_reading_prefix_cache = True
        return params

    def _call(self, run: Any, prompts: Any, params: Any, **kwargs: Any) -> list[Any]:
        """`run(prompts, params, **kwargs)` of vLLM's LLM, with receipts."""
        given = params if isinstance(params, list) else [params]
        call = PacedCall(self._claim, max(MIN_OPEN, 4 * self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs))
        try:
            with compat.paced(self.llm.llm_engine, call):
                outputs = run(prompts, params, **kwargs)
            call.settle()
        except BaseException:
            self._drop(call.unanswered())
            raise
        return with_receipts(outputs, given, call.receipts)

    def claim_for(self, outputs: list[Any], params: list[Any]) -> list[Any]:
        """Finished outputs of requests with `steered_params`, each with its `.steering`; a receipt is given out once.

        Raises UnsteeredError where a completion was not steered as asked.
        """
        pairs = zip(outputs, params, strict=True)
        asked = [ask for output, own in pairs if is_steered(own) for ask in asks_of(output, own.extra_args[ID_KEY])]
        claimed = self._claim(asked) if asked else []
        receipts = {(name, index): receipt for (name, index, _), receipt in zip(asked, claimed, strict=True)}
        return with_receipts(outputs, params, receipts)

    def drop_receipts(self, params: list[Any]) -> None:
        """Lets the workers forget requests that were aborted."""
        self._drop([own.extra_args[ID_KEY] for own in params if is_steered(own)])

    def _drop(self, names: list[str]) -> None:
        if names:
            self.llm.collective_rpc("tiller_drop", args=(names,))

    def _claim(self, asked: list[Ask]) -> list[Claimed]:
        workers = self.llm.collective_rpc("tiller_claim", args=(asked,))
        return [_merged(column) for column in zip(*workers, strict=True)]


def with_receipts(outputs: list[Any], params: list[Any], receipts: dict[tuple[str, int], Claimed]) -> list[Any]:
    """`outputs`, each with its `.steering` out of `receipts` by steering id and index of the completion.

    Raises UnsteeredError where that is what stands there.
    """
    for output, own in zip(outputs, params, strict=True):
        name = own.extra_args[ID_KEY] if is_steered(own) else None
        for completion in output.outputs:
            key = (name, ONLY_COMPLETION if len(output.outputs) == 1 else completion.index)
            receipt = None if name is None else receipts[key]  # type: ignore[index]
            if isinstance(receipt, UnsteeredError):
                raise receipt
            completion.steering = receipt
        output.steering = output.outputs[0].steering if output.outputs else None
    return outputs


def _merged(from_workers: Sequence[dict[str, Any] | None]) -> Claimed:
    try:
        return merge_receipts(from_workers)
    except UnsteeredError as error:  # raised once the whole call has ended, so that the engine is left empty
        return error


def _is_many(prompts: Any) -> bool:
    return isinstance(prompts, list | tuple) and not (prompts and isinstance(prompts[0], int))
