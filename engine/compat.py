"""The only file that touches private vLLM names. Written and tested against vLLM 0.32, on model runners V1 and V2."""

from collections.abc import Callable
from dataclasses import fields
from functools import wraps
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

from torch import nn

from tiller.kernels.dispatch import backend

from .errors import ConfigError, TillerError, UnsupportedError

# KV connectors that key blocks by tokens alone would hand steered blocks to unsteered requests.
TOKEN_KEYED_CONNECTORS = ("LMCache", "FlexKV", "ExampleConnector")


class Worker(Protocol):
    """What we use of vLLM's worker."""

    model_runner: Any


def register_models() -> None:
    """Puts the steered classes in the place of vLLM's own; without a plan they behave the same."""
    from vllm import ModelRegistry

    from .architectures import ARCHITECTURES

    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, f"tiller.engine.models:Steered{architecture}")


def forward_layer(name: str) -> Any:
    """The object that the engine now running its forward keeps under `name`."""
    from vllm.forward_context import get_forward_context

    return get_forward_context().no_compile_layers[name]


def keep_forward_layer(vllm_config: Any, name: str, layer: nn.Module) -> None:
    """Keeps `layer` where `forward_layer(name)` finds it, as vLLM's attention layers do; private to this engine."""
    vllm_config.compilation_config.static_forward_context[name] = layer


def wrap_block_hash_keys(extra_key: Callable[[Any, int, int], tuple[str, str] | None]) -> None:
    """Adds `extra_key(request, start, end)` to the keys that every prefix-cache block is hashed with."""
    import vllm.v1.core.kv_cache_utils as kv_cache_utils

    original = kv_cache_utils.generate_block_hash_extra_keys
    if hasattr(original, "_tiller"):
        return

    @wraps(original)
    def with_steering(request: Any, start: int, end: int, *args: Any, **kwargs: Any) -> Any:
        keys, rest = original(request, start, end, *args, **kwargs)
        key = extra_key(request, start, end)
        return (keys if key is None else (*(keys or ()), key)), rest

    with_steering._tiller = True  # type: ignore[attr-defined]
    setattr(kv_cache_utils, original.__name__, with_steering)
    # These two import the function by name; their events would otherwise lack the key.
    import vllm.v1.core.block_pool as block_pool

    setattr(block_pool, original.__name__, with_steering)


def wrap_submission(check: Callable[[Any, Any], None]) -> None:
    """Calls `check(vllm_config, params)` for every request before it reaches the engine, in whichever front end."""
    from vllm.v1.engine.input_processor import InputProcessor

    original = InputProcessor._validate_params
    if hasattr(original, "_tiller"):
        return

    @wraps(original)
    def validated(self: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            check(self.vllm_config, params)
        except TillerError as error:
            raise _as_vllm_error(error) from error
        return original(self, params, *args, **kwargs)

    validated._tiller = True  # type: ignore[attr-defined]
    setattr(InputProcessor, original.__name__, validated)


def _as_vllm_error(error: TillerError) -> Exception:
    """The error that vLLM's servers turn into HTTP 400 with `param` set."""
    from vllm.exceptions import VLLMValidationError

    return VLLMValidationError(error.message, parameter=error.field)


def wrap_v1_forward(before: Callable[[Any, Any], None], after: Callable[[Any], None]) -> None:
    """Calls `before(runner, positions)` and `after(runner)` around each real forward of model runner V1.

    The wrapped method is the one that vLLM offers for this; warm-up and capture call the model directly.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    original = GPUModelRunner._model_forward
    if hasattr(original, "_tiller"):
        return

    @wraps(original)
    def forward(self: Any, input_ids: Any = None, positions: Any = None, *args: Any, **kwargs: Any) -> Any:
        before(self, positions)
        result = original(self, input_ids, positions, *args, **kwargs)
        after(self)
        return result

    forward._tiller = True  # type: ignore[attr-defined]
    setattr(GPUModelRunner, original.__name__, forward)


def add_worker_methods(methods: dict[str, Callable[..., Any]]) -> None:
    """Makes `methods` callable on every worker through `collective_rpc`."""
    from vllm.v1.worker.gpu_worker import Worker as GPUWorker

    for name, method in methods.items():
        setattr(GPUWorker, name, method)


def model_of(worker: Worker) -> nn.Module:
    """The model a worker runs, without the wrappers that capture graphs."""
    return worker.model_runner.get_model()


def uses_v2(worker: Worker) -> bool:
    return hasattr(worker.model_runner, "model_state")


def v1_batch(runner: Any) -> tuple[list[str], Any]:
    """Request ids of V1's current batch in order, and query_start_loc [num_reqs + 1] as numpy."""
    req_ids = runner.input_batch.req_ids
    return req_ids, runner.query_start_loc.np[: len(req_ids) + 1]


def v1_request(runner: Any, req_id: str) -> Any:
    """V1's state of a request: `sampling_params`, `num_prompt_tokens`, `num_computed_tokens`."""
    return runner.requests[req_id]


def v2_prompt_len(new_req_data: Any) -> int:
    """Length of the prompt as submitted; unlike V2's prefill length it doesn't grow after a preemption."""
    return len(new_req_data.prompt_token_ids)


def v2_layout(input_batch: Any) -> tuple[Any, Any, Any]:
    """query_start_loc [num_reqs + 1], idx_mapping [num_reqs] and positions [num_tokens] of V2's batch, on the device.

    `num_tokens` is the host's view and an upper bound; rejected drafts and padding are known on the device alone.
    """
    num_reqs, num_tokens = input_batch.num_reqs, input_batch.num_tokens
    return input_batch.query_start_loc[: num_reqs + 1], input_batch.idx_mapping, input_batch.positions[:num_tokens]


class LargestBatch(NamedTuple):
    """The most that one forward may hold, padding included."""

    num_requests: int
    num_tokens: int


def largest_batch(vllm_config: Any) -> LargestBatch:
    scheduler, compilation = vllm_config.scheduler_config, vllm_config.compilation_config
    captured = getattr(compilation, "max_cudagraph_capture_size", None) or 0
    return LargestBatch(scheduler.max_num_seqs, max(scheduler.max_num_batched_tokens, captured))


def default_model_state_cls(vllm_config: Any, model: nn.Module) -> type:
    """The ModelState that V2 would choose for `model` if the model offered none itself."""
    try:
        from vllm.v1.worker.gpu.model_states import resolve_model_state_cls
    except ImportError:  # 0.26 and 0.27 only instantiate
        from vllm.v1.worker.gpu.model_states.default import DefaultModelState

        return DefaultModelState
    # A stand-in without our own `get_model_state_cls`, which the resolver would call again.
    return resolve_model_state_cls(vllm_config, SimpleNamespace(modules=model.modules))  # type: ignore[arg-type]


def engine_config(arguments: dict[str, Any]) -> Any:
    """The VllmConfig that `vllm.LLM(**arguments)` will run with; vLLM caches what is slow about making it."""
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in fields(EngineArgs)}
    return EngineArgs(**{name: value for name, value in arguments.items() if name in known}).create_engine_config()


def check_supported(vllm_config: Any) -> None:
    """Raises UnsupportedError for set-ups in which some tokens would pass unsteered, or steered twice, in silence."""
    parallel, compilation = vllm_config.parallel_config, vllm_config.compilation_config
    reasons = []
    if getattr(parallel, "use_ubatching", False) or getattr(parallel, "enable_dbo", False):
        reasons.append("micro-batching (DBO) hands the model slices of a step")
    if getattr(parallel, "prefill_context_parallel_size", 1) > 1:
        reasons.append("prefill context parallelism hands each rank a part of the tokens")
    if parallel.pipeline_parallel_size > 1:
        reasons.append("pipeline parallelism leaves sites on one rank only, whose receipts are not merged yet")
    if getattr(compilation.pass_config, "enable_sp", False):
        reasons.append("sequence parallelism shards the residual between norms")
    if getattr(vllm_config.cache_config, "kv_sharing_fast_prefill", False):
        reasons.append("KV-sharing fast prefill skips tokens in the later layers")
    connector = getattr(vllm_config.kv_transfer_config, "kv_connector", None) or ""
    if connector.startswith(TOKEN_KEYED_CONNECTORS):
        reasons.append(f"KV connector {connector} keys blocks by tokens alone and would share steered ones")
    mode = getattr(compilation.cudagraph_mode, "name", "NONE")
    if mode != "NONE" and not takes_cuda_graphs():
        reasons.append(f"cudagraph_mode {mode} can't hold the reference op (TILLER_KERNELS=reference)")
    if reasons:
        raise UnsupportedError("this vLLM set-up can't be steered: " + "; ".join(reasons) + ". Turn it off.")


def kernel_backend() -> str:
    """Which implementation of the op workers on this platform will use; raises ConfigError where TILLER_KERNELS is wrong."""
    from vllm.platforms import current_platform

    try:
        return backend("cuda" if current_platform.is_cuda() else "cpu")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def takes_cuda_graphs() -> bool:
    """False on a GPU whose op is plain torch, which depends on the batch and can't be part of a captured graph."""
    from vllm.platforms import current_platform

    return not (current_platform.is_cuda() and kernel_backend() == "reference")


def is_draft_model(vllm_config: Any) -> bool:
    """True for the small model of speculative decoding, which may be of a steered architecture but is not steered."""
    if vllm_config.model_config.runner_type == "draft":
        return True
    speculative = vllm_config.speculative_config
    draft = getattr(speculative, "draft_model_config", None)
    # Drafters without a model of their own, such as n-grams, have the target's config here.
    return vllm_config.model_config is draft and draft is not speculative.target_model_config
