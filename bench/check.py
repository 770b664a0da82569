"""Nothing is reported of an op that answers wrongly on the very tensors that are timed."""

import torch
from torch import Tensor

from tiller.kernels.reference import steer

from .contenders import Contender, Dense, Kernels
from .workload import Work

RMS_SHARE = 1e-4  # of a token's root mean square that float32 sums in another order may differ by
RMS_SHARE_ROUNDED = 2e-2  # and sums of values rounded to the weights' dtype


class WrongResultError(Exception):
    """A contender's answer is not the reference's; says whose, at which shape, and by how much."""


def expected_of(work: Work) -> Tensor:
    """x' [T, d] by the reference in float32, rounded to the stream's dtype."""
    device = work.hidden.device
    rows = work.operation.rows(work.shape.tokens, device)
    steered = steer(work.x, rows, work.operation.table(work.full), [work.full], work.operation.needs)
    return steered.x.to(work.hidden.dtype).float()


def check(contender: Contender, name: str, expected: Tensor) -> float:
    """The largest difference from the reference in units of what is allowed: a step of the dtype and RMS_SHARE of the token.

    Raises WrongResultError above 1, at NaN, and where a token without a program was written.
    """
    work = contender.work
    contender.prepare()
    got = contender.run().float()
    if isinstance(contender, Kernels):
        got = contender.x
        if work.operation.idle and not _same_bits(contender):
            raise WrongResultError(_sentence(name, work, "tokens without a program were written"))
    if isinstance(contender, Dense) and not work.operation.replace:
        return 0.0  # by design another formula
    allowed = torch.finfo(work.hidden.dtype).eps * expected.abs()
    share = RMS_SHARE if contender.exact else RMS_SHARE_ROUNDED
    allowed += share * expected.square().mean(-1, keepdim=True).sqrt()
    excess = ((got - expected).abs() / allowed).nan_to_num(nan=torch.inf)
    worst = float(excess.max())
    if worst > 1:
        token, column = divmod(int(excess.argmax()), work.shape.d_model)
        detail = (
            f"x' is {got[token, column]:.6g} instead of {expected[token, column]:.6g} at token {token}, column {column}"
        )
        wrong = int((excess > 1).any(-1).sum())
        raise WrongResultError(
            _sentence(name, work, f"{detail} ({worst:.3g} times what is allowed); {wrong} tokens are wrong")
        )
    return worst


def _same_bits(contender: Kernels) -> bool:
    work, (hidden, residual) = contender.work, contender.streams[0]
    return torch.equal(hidden, work.hidden) and torch.equal(residual, work.residual)


def _sentence(name: str, work: Work, detail: str) -> str:
    shape = work.shape
    at = f"{work.operation.name}, T={shape.tokens} F={shape.d_sae} d={shape.d_model} k={shape.k}"
    return f"{name} differs from the reference at {at}, {str(work.hidden.dtype)[6:]}: {detail}"
