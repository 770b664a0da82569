"""The gate every request passes before it reaches an engine: steering that can't be done is refused here."""

from typing import Any

from . import compat
from .errors import SpecError
from .inventory import plan_of
from .spec import SPEC_KEY, parse_spec

NOT_STEERED = "this engine was started without steering; start it with `tiller serve`, or see docs/server.md"


def check_params(vllm_config: Any, params: Any) -> None:
    """Raises SpecError where `params.extra_args["steering"]` is wrong or this engine can't do it.

    What passes has the versions of its vectors written in, so that cached blocks and running requests keep the content
    they began with whatever becomes of the name.
    """
    plan = plan_of(vllm_config.additional_config)
    if plan is not None and getattr(params, "seed", None) is not None and compat.breaks_on_seeds(vllm_config):
        raise SpecError(
            "vLLM's CPU runner stops at a seeded request whose prompt it has cut in two; leave the seed out, or start "
            "the server with --no-enable-chunked-prefill",
            "seed",
        )
    given = (getattr(params, "extra_args", None) or {}).get(SPEC_KEY)
    if given is None:
        return
    if plan is None:
        raise SpecError(NOT_STEERED, SPEC_KEY)
    spec = parse_spec(given)
    plan.check(spec)
    pinned = plan.pin(spec)
    if pinned is not spec:
        params.extra_args = {**params.extra_args, SPEC_KEY: pinned.model_dump_json(exclude_defaults=True)}
    if spec.read is not None and not params.skip_reading_prefix_cache:
        # Tokens served from the cache pass no site, so they would have no activations to report.
        params.skip_reading_prefix_cache = True
