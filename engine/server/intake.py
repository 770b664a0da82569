"""From an HTTP request to its spec: the `steering` field, vLLM's `vllm_xargs`, or a profile in the model's name."""

import json
import uuid
from typing import Any

from tiller.engine import compat
from tiller.engine.admission import NOT_STEERED
from tiller.engine.errors import SpecError
from tiller.engine.spec import SPEC_KEY, SteeringSpec, parse_spec

from .generation import DELIVERY_KEY, Delivery
from .json_text import check_value, parse_pairs
from .problems import TooLarge
from .profiles import Profile
from .server import Server

MAX_STEERING_BYTES = 262_144
TOKEN_LIMITS = ("max_output_tokens", "max_completion_tokens", "max_tokens")  # the first that a request class has is set


async def take(server: Server | None, models: Any, request: Any, raw_request: Any) -> Delivery | None:
    """Reads the steering of `request`, a vLLM request object, and moves it to where vLLM carries it to the engine.

    None for a request that asks for none. Raises SpecError where it is wrong or can't be done.
    """
    extra, xargs = request.model_extra or {}, request.vllm_xargs or {}
    profile = None if server is None else _profile(server, models, request)
    ways = [SPEC_KEY in extra, SPEC_KEY in xargs, profile is not None]
    if not any(ways):
        return None
    if sum(ways) > 1:
        raise SpecError(
            "steering comes in by one way at a time: the `steering` field, vllm_xargs.steering, or a profile in the "
            "model's name; merging them would leave open which edit counts",
            SPEC_KEY,
        )
    given = extra.get(SPEC_KEY, xargs.get(SPEC_KEY)) if profile is None else None
    check_size(given)
    if profile is None and raw_request is not None:
        check_text(await raw_request.body())
    extra.pop(SPEC_KEY, None)
    if given is None and profile is None:
        return None
    if server is None:
        raise SpecError(NOT_STEERED, SPEC_KEY)
    spec = _spec(server, given) if profile is None else profile.spec
    if getattr(request, "use_beam_search", False):
        raise SpecError("beam search drops per-request steering in vLLM; sample with n > 1", "use_beam_search")
    if profile is not None:
        apply_defaults(profile, request)
    delivery = Delivery(None if profile is None else profile.name)
    name = uuid.uuid4().hex
    server.deliveries[name] = delivery
    text = spec.model_dump_json(exclude_defaults=True)
    request.vllm_xargs = {**xargs, SPEC_KEY: text, DELIVERY_KEY: name}
    return delivery


def _profile(server: Server, models: Any, request: Any) -> Profile | None:
    """The profile that `request.model` names; the model is then the served one. An unknown name is left for vLLM's 404."""
    model = request.model or ""
    base, _, name = model.rpartition(":")
    known = compat.known_models(models)
    profile = server.profiles.find(name) if base in known and model not in known else None
    if profile is not None:
        request.model = base
    return profile


def check_size(given: Any) -> None:
    """Raises TooLarge where a `steering` field, as text or parsed, is larger than any that this server parses further."""
    size = len(given if isinstance(given, str) else _dumped(given))
    if size > MAX_STEERING_BYTES:
        raise TooLarge(f"{size} bytes given, at most {MAX_STEERING_BYTES} are allowed", SPEC_KEY)


def _spec(server: Server, given: Any) -> SteeringSpec:
    spec = parse_spec(given)
    server.plan.check(spec)
    return spec


def _dumped(given: Any) -> str:
    try:
        return json.dumps(given)
    except RecursionError:
        raise SpecError("nested too deeply", SPEC_KEY) from None


def apply_defaults(profile: Profile, request: Any) -> None:
    """Sampling of a profile where the client gave none; `max_tokens` also caps what the client gave."""
    fields, defaults = type(request).model_fields, profile.defaults
    for name in ("temperature", "seed"):
        value = getattr(defaults, name)
        if value is not None and name in fields and getattr(request, name) is None:
            setattr(request, name, value)
    if defaults.max_tokens is not None:
        own = [name for name in TOKEN_LIMITS if name in fields]
        given = [name for name in own if name in request.model_fields_set and getattr(request, name) is not None]
        for name in given or own[:1]:
            setattr(request, name, min(getattr(request, name) if given else defaults.max_tokens, defaults.max_tokens))


def check_text(body: bytes) -> None:
    """Raises SpecError where the steering in a request's text says one thing twice, or says NaN or Infinity: parsers
    disagree on both, and what the framework hands on no longer shows it."""
    pairs = parse_pairs(body, SPEC_KEY)
    for field in (SPEC_KEY, "vllm_xargs"):
        given = [value for name, value in pairs if name == field]
        if len(given) > 1:
            raise SpecError("given twice", field)
        for value in given:
            check_value(value, field)
