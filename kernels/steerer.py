"""Launches the kernels of one steering site, in order. Static shapes, no look at any value: a CUDA graph can hold it.

    edit     every token: additions, projections, edits without an encoder; lists the tokens that need it
    encode   the listed tokens over the whole dictionary        | in chunks of tokens,
    select   their active features, and edits of the named ones | one SAE after the other
    gather   what that decodes to                               |
    finish   writes the listed tokens back

A launch with nothing to do ends at its first load; a site without an SAE is one launch.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from . import codes
from .activation import feature_parameters
from .edit import edit_kernel, finish_kernel
from .encode import Tile, encode_kernel, encode_tile
from .gather import gather_kernel
from .sae import SAE
from .select import select_kernel
from .table import SiteTable
from .workspace import Workspace, group_size, num_groups

ROWS = 16  # rows of W_dec that one program of gather_kernel loads at once
FUSED = {"enable_fp_fusion": True}  # Triton 3.10 changes its default, and with it the bits of every sum
GATHER_BLOCK = 512  # and columns: 7 programs a token at d_model 3584, so that a single token still spreads over SMs


class Steerer:
    """The op of one site over fixed buffers; `site` is its row of `workspace.delta`."""

    def __init__(self, saes: dict[str, SAE], table: SiteTable, workspace: Workspace, site: int = 0) -> None:
        self.table, self.workspace = table, workspace
        self.delta = workspace.delta[site]
        self.encoders = [Encoder(name, sae, index, self) for index, (name, sae) in enumerate(saes.items())]
        _, num_vectors, self.d_model = table.vectors.shape
        self.shape: dict[str, Any] = {"D": self.d_model, "P": num_vectors - 2}
        self.block = triton.next_power_of_2(self.d_model)

    def __call__(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Steers the stream hidden (+ residual), each [n, d_model] and contiguous, in place, by `workspace.rows`."""
        assert hidden.is_contiguous() and (residual is None or residual.is_contiguous())
        assert len(hidden) <= len(self.workspace.rows), (len(hidden), len(self.workspace.rows))
        if len(hidden) == 0:
            return
        stream = (hidden, hidden if residual is None else residual)
        common = {**self.shape, "PAIR": residual is not None, "BLOCK": self.block, "num_warps": warps(self.block)}
        common |= {"NUM_SAES": len(self.encoders), **FUSED}
        if not self.encoders:
            self._edit(None, stream, common)
            return
        for encoder in self.encoders:
            self._edit(encoder, stream, common)
            encoder.run(len(hidden))
        self._finish(stream, common)

    def _edit(self, encoder: "Encoder | None", stream: tuple[Tensor, Tensor], common: dict[str, Any]) -> None:
        table, space = self.table, self.workspace
        constants: dict[str, Any]
        own: tuple[Tensor, ...]
        if encoder is None:  # no dictionary at this site: its arguments stand empty and are never read
            own = (space.total,) * 7
            constants = {"E": 0, "SAE": 0, "ACTIVATION": 0, "INPUT_NORM": 0, "EPS": 0.0}
            queue = space.queues[0]
        else:
            sae, buffers = encoder.sae, encoder.buffers
            own = (*encoder.edits, sae.W_enc, sae.W_dec, encoder.features, buffers.named, buffers.moments)
            constants = encoder.edit_constants
            queue = buffers.queue
        edit_kernel[(len(stream[0]),)](
            *stream,
            space.rows,
            table.vectors,
            table.scalars,
            table.program,
            *own,
            self.delta,
            queue,
            space.x_queue,
            space.total,
            **constants,
            **common,
        )

    def _finish(self, stream: tuple[Tensor, Tensor], common: dict[str, Any]) -> None:
        table, space = self.table, self.workspace
        finish_kernel[(len(stream[0]),)](
            *stream,
            space.rows,
            table.scalars,
            table.program,
            self.delta,
            self.encoders[-1].buffers.queue,
            space.total,
            **common,
        )


class Encoder:
    """One SAE of a site: encode, select and gather over the tokens that `edit` listed."""

    def __init__(self, name: str, sae: SAE, index: int, steerer: Steerer) -> None:
        space, table = steerer.workspace, steerer.table
        self.sae, self.workspace, self.table = sae, space, table
        self.buffers = space.saes[name]
        self.features = feature_parameters(sae)
        self.edits = (table.edits[index].code, table.edits[index].amount)
        self.chunk, self.k = space.chunk[name], space.k[name]
        self.one_tile = False
        group = group_size(sae.d_sae, self.k)
        self.dictionary = {"F": sae.d_sae, "CHUNK": self.chunk, "GROUP": group}
        self.dictionary["ACTIVATION"] = codes.ACTIVATIONS[sae.activation]
        self.input_norm = codes.INPUT_NORMS[sae.input_norm]
        self.position = {"SAE": index, "NUM_SAES": len(table.edits), "E": self.edits[0].shape[1]}
        self.edit_constants = {
            "SAE": index,
            "E": self.position["E"],
            "ACTIVATION": self.dictionary["ACTIVATION"],
            "INPUT_NORM": self.input_norm,
            "EPS": sae.norm_eps if sae.input_norm == "layer_norm" else 0.0,
        }

    def run(self, num_tokens: int) -> None:
        """Encodes, selects and gathers for at most `num_tokens` listed tokens."""
        for start in range(0, num_tokens, self.chunk):
            num = min(self.chunk, num_tokens - start)
            self.encode(start, num, self.tile(num))
            self.select(start, num)
            self.gather(start, num)

    def tile(self, num_tokens: int) -> Tile:
        return encode_tile(1 if self.one_tile else num_tokens, self.sae.d_sae)

    def settle_tile(self) -> None:
        """Looks whether this device sums alike in the tile for few tokens and in that for many; else all use the first.

        A token would otherwise have other bits in a large batch. Waits for the device: for start-up, outside of steps.
        """
        space, num = self.workspace, min(self.chunk, 128)
        few, many = encode_tile(1, self.sae.d_sae), encode_tile(num, self.sae.d_sae)
        space.x_queue[:num].normal_(generator=torch.Generator(space.x_queue.device).manual_seed(0))
        self.buffers.queue[0] = num
        self.buffers.queue[1 : 1 + num] = torch.arange(num)
        self.buffers.moments[:num] = torch.tensor([1.0, 1.0, 0.0, 1.0])
        sums = []
        for tile in (few, many):
            self.encode(0, num, tile)
            sums.append(space.f[: num * self.sae.d_sae].clone())
        self.buffers.queue[0] = 0
        self.one_tile = not torch.equal(*sums)

    def encode(self, start: int, num: int, tile: Tile) -> None:
        space = self.workspace
        grid = (triton.cdiv(num, tile.tokens), triton.cdiv(self.sae.d_sae, tile.features))
        encode_kernel[grid](
            space.x_queue,
            self.sae.W_enc,
            self.features,
            self.buffers.moments,
            self.buffers.queue,
            space.f,
            space.group_max,
            start,
            D=self.sae.d_model,
            **self.dictionary,
            INPUT_NORM=self.input_norm,
            UPCAST=interpreted() or space.x_queue.dtype != self.sae.W_enc.dtype,
            BLOCK_T=tile.tokens,
            BLOCK_F=tile.features,
            BLOCK_D=tile.depth,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
            **FUSED,
        )

    def select(self, start: int, num: int) -> None:
        space, buffers = self.workspace, self.buffers
        groups = num_groups(self.sae.d_sae, self.k)
        direct = groups <= self.k
        candidates = self.sae.d_sae if direct else triton.next_power_of_2(max(self.k, 1)) * self.dictionary["GROUP"]
        select_kernel[(num,)](
            space.f,
            space.group_max,
            buffers.queue,
            start,
            space.rows,
            self.table.program,
            *self.edits,
            buffers.moments,
            buffers.named,
            buffers.values,
            buffers.ids,
            space.groups,
            **self.dictionary,
            **self.position,
            K=self.k,
            BLOCK_G=triton.next_power_of_2(groups),
            BLOCK_C=triton.next_power_of_2(candidates),
            BLOCK_E=triton.next_power_of_2(self.position["E"]),
            num_warps=8 if max(groups, candidates) > 1024 else 4,
            **FUSED,
        )

    def gather(self, start: int, num: int) -> None:
        space, buffers, sae = self.workspace, self.buffers, self.sae
        block = min(GATHER_BLOCK, triton.next_power_of_2(sae.d_model))
        gather_kernel[(num, triton.cdiv(sae.d_model, block))](
            buffers.queue,
            start,
            space.rows,
            self.table.program,
            self.edits[0],
            buffers.named,
            buffers.values,
            buffers.ids,
            space.f,
            space.groups,
            sae.W_dec,
            sae.b_dec,
            buffers.moments,
            space.total,
            D=sae.d_model,
            **self.dictionary,
            **self.position,
            K=self.k,
            ROWS=ROWS,
            BLOCK=block,
            num_warps=4,
            **FUSED,
        )


def warps(block: int) -> int:
    """Warps of a program that holds whole tokens: 16 columns a thread."""
    return max(1, min(16, block // 512))


def interpreted() -> bool:
    """Whether Triton's interpreter runs the kernels."""
    return bool(triton.knobs.runtime.interpret)
