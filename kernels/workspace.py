"""Memory that the kernels work in: allocated once at the size of the largest batch, at addresses that a CUDA graph may hold."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .sae import SAE

MAX_SCRATCH = 512 * 2**20  # bytes of float32 activations; longer batches are encoded in chunks of tokens


def group_size(d_sae: int, k: int) -> int:
    """How many neighbouring features share one maximum: about sqrt(d_sae / k), where groups and candidates are as few."""
    size = 16
    while size < 64 and size * size * max(k, 1) < d_sae // 2:
        size *= 2
    return size


def num_groups(d_sae: int, k: int) -> int:
    return -(-d_sae // group_size(d_sae, k))


def chunk_tokens(d_sae: int, max_tokens: int, scratch: int = MAX_SCRATCH) -> int:
    """How many tokens are encoded at once: as `scratch` bytes hold, a multiple of 128 unless there are fewer."""
    fit = scratch // (4 * d_sae)
    return max(1, min(max_tokens, fit - fit % 128 if fit >= 128 else fit))


@dataclass(frozen=True, kw_only=True)
class SAEBuffers:
    """What one SAE's kernels leave for each other and for the receipt; T = the largest batch."""

    named: Tensor  # [T, E, 2] float32: activation of each listed feature before and after the edits
    values: Tensor  # [T, K] float32: the most active features of tokens that were encoded
    ids: Tensor  # [T, K] int32
    moments: Tensor  # [T, 4] float32
    queue: Tensor  # [1 + T] int32: how many tokens of the step need the encoder, and which


class Workspace:
    """Buffers for all sites of a model. Sites run one after the other, so they share all but what a receipt is made of.

    A step begins with `begin`, or with the layout kernel, which does the same on the device.
    """

    def __init__(
        self,
        saes: dict[str, SAE],
        num_sites: int,
        d_model: int,
        max_tokens: int,
        max_edits: int,
        max_top: int,
        dtype: torch.dtype,
        device: torch.device,
        scratch: int = MAX_SCRATCH,
    ) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self.rows = zeros(max_tokens, dtype=torch.int32)
        self.delta = zeros(max(num_sites, 1), max_tokens)
        self.queues = zeros(max(len(saes), 1), 1 + max_tokens, dtype=torch.int32)
        self.chunk = {name: chunk_tokens(sae.d_sae, max_tokens, scratch) for name, sae in saes.items()}
        self.k = {name: top_k(sae, max_top) for name, sae in saes.items()}
        self.saes = {
            name: SAEBuffers(
                named=zeros(max_tokens, max_edits, 2),
                values=zeros(max_tokens, max(self.k[name], 1)),
                ids=zeros(max_tokens, max(self.k[name], 1), dtype=torch.int32),
                moments=zeros(max_tokens, 4),
                queue=self.queues[index],
            )
            for index, name in enumerate(saes)
        }
        sizes = [(self.chunk[name], sae.d_sae, num_groups(sae.d_sae, self.k[name])) for name, sae in saes.items()]
        self.f = zeros(max((chunk * d_sae for chunk, d_sae, _ in sizes), default=1))
        self.group_max = zeros(max((chunk * groups for chunk, _, groups in sizes), default=1))
        self.groups = zeros(max((chunk * (1 + groups) for chunk, _, groups in sizes), default=1), dtype=torch.int32)
        self.x_queue = zeros(max_tokens if saes else 1, d_model, dtype=dtype)
        self.total = zeros(max_tokens if saes else 1, d_model)

    def begin(self, rows: Tensor) -> None:
        """A new step whose tokens follow the programs of table rows `rows` [n]; padding up to the end does nothing."""
        self.rows.zero_()
        self.rows[: len(rows)] = rows
        self.queues[:, 0] = 0
        self.delta.fill_(torch.nan)

    @property
    def num_bytes(self) -> int:
        own = [self.rows, self.delta, self.queues, self.f, self.group_max, self.groups, self.x_queue, self.total]
        per_sae = [t for b in self.saes.values() for t in (b.named, b.values, b.ids, b.moments)]
        return sum(tensor.nbytes for tensor in own + per_sae)


def top_k(sae: SAE, max_top: int) -> int:
    """How many of the most active features the selection of `sae` finds; 0: nobody asks."""
    return sae.k if sae.k is not None else min(max_top, sae.d_sae)
