"""What /metrics says of steering, beside vLLM's own numbers in the same registry."""

from prometheus_client import Counter, Gauge

from tiller.engine.inventory import Plan
from tiller.engine.receipt import Receipt
from tiller.engine.spec import SteeringSpec

STEERED_TOKENS = Counter("tiller_steered_tokens", "Tokens that passed a steering site under a request's steering.")
CACHED_TOKENS = Counter("tiller_cached_tokens", "Tokens in scope served from KV blocks written under equal steering.")
STEERED_REQUESTS = Counter("tiller_steered_requests", "Completions that were steered.", ["profile"])
REJECTED = Counter("tiller_rejected_specs", "Requests refused for their steering.", ["reason"])
ENCODE_PASSES = Counter("tiller_encode_passes", "Steered tokens that an SAE had to encode, once for each SAE.")
ROWS_IN_USE = Gauge("tiller_rows_in_use", "Rows of the steering tables that running requests hold.")
RECORDS = Gauge("tiller_unclaimed_records", "Steered requests whose receipt is not written yet.")


def count(receipt: Receipt, spec: SteeringSpec, plan: Plan, profile: str | None) -> None:
    """Adds one finished completion."""
    encoders = {report.sae for report in receipt.features if report.mean_before is not None}
    encoders |= {*plan.replaced_saes(spec), *([spec.read.sae] if spec.read else [])}
    ENCODE_PASSES.inc(receipt.tokens_steered * len(encoders))
    STEERED_TOKENS.inc(receipt.tokens_steered)
    CACHED_TOKENS.inc(receipt.tokens_cached)
    STEERED_REQUESTS.labels(profile=profile or "").inc()
