"""Proof of steering: what was done to a request's tokens, counted where it was done."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

WorkerReceipt = dict[str, Any]  # a Receipt as plain data, as it crosses processes


class UnsteeredError(RuntimeError):
    """Tokens in a request's scope went through the model without its steering: a bug of ours, never an answer."""


@dataclass(frozen=True, kw_only=True)
class FeatureReport:
    """One edited feature over the steered tokens; None where the edit needed no encoder (see `read` to ask for it)."""

    id: int
    sae: str
    op: str
    share_active: float | None = None
    mean_before: float | None = None
    mean_after: float | None = None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """tokens_steered + tokens_cached = tokens_in_scope, always."""

    spec_hash: str
    tokens_in_scope: int
    tokens_steered: int
    tokens_cached: int
    """In scope, and served from KV blocks that were written under the same steering."""
    mean_delta_norm: float
    """Mean of norm(x' - x) over steered tokens, summed over layers."""
    layers: dict[str, float] = field(default_factory=dict)
    """The same for each layer."""
    features: list[FeatureReport] = field(default_factory=list)
    read: dict[str, Any] | None = None

    @classmethod
    def from_worker(cls, plain: WorkerReceipt) -> Self:
        features = [FeatureReport(**report) for report in plain["features"]]
        return cls(**{**plain, "features": features})

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def align_read(receipt: Receipt, prompt: list[int], answer: list[int], decode: Callable[[int], str]) -> Receipt:
    """`receipt` with the tokens its read-out is of: `positions` count from the prompt's first token, so the answer's first
    token is at `prompt_len`. The last token of an answer never enters the model and has no activations."""
    assert receipt.read is not None
    tokens = [*prompt, *answer]
    ids = [tokens[position] for position in receipt.read["positions"]]
    extra = {"prompt_len": len(prompt), "token_ids": ids, "tokens": [decode(token) for token in ids]}
    return replace(receipt, read={**receipt.read, **extra})


def merge_receipts(from_workers: Sequence[dict[str, Any] | None]) -> Receipt:
    """The receipt of one completion out of every worker's answer.

    Raises UnsteeredError where no worker steered it.
    """
    found = [plain for plain in from_workers if plain is not None]
    if not found:
        raise UnsteeredError("no worker saw this request's steering")
    for plain in found:
        if "unsteered" in plain:
            raise UnsteeredError(plain["unsteered"])
    return Receipt.from_worker(found[0])
