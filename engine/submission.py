"""The gate every request passes before it reaches an engine: steering that can't be done is refused here."""

from typing import Any

from .errors import SpecError
from .plan import plan_of
from .spec import parse_spec
from .steering import SPEC_KEY


def check_params(vllm_config: Any, params: Any) -> None:
    """Raises SpecError where `params.extra_args["steering"]` is wrong or this engine can't do it."""
    given = (getattr(params, "extra_args", None) or {}).get(SPEC_KEY)
    if given is None:
        return
    spec = parse_spec(given)
    plan = plan_of(vllm_config.additional_config)
    if plan is None:
        raise SpecError("this engine was started without steering; start it through tiller (docs/engine.md)", SPEC_KEY)
    plan.check(spec)
    if spec.read is not None and not params.skip_reading_prefix_cache:
        # Tokens served from the cache pass no site, so they would have no activations to report.
        params.skip_reading_prefix_cache = True
