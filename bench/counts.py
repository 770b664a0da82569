"""Bytes and operations of the steering op, counted from its shapes alone, and the least time that they take.

T tokens, F = d_sae, d = d_model, k active features a token, w bytes of a weight and of a value of the stream, G groups of
neighbours with one maximum each (kernels.workspace). `traffic` is what any implementation has to move: the stream (hidden and
residual) read and written, W_enc read once, each row of W_dec that is used read once. `scratch` is what the kernels hand
each other through memory: x of the listed tokens, float32 activations and group maxima, the selection, x' so far. Every
byte is counted as if it went to memory, although caches hold some of it. A multiply-add is two operations; comparisons
are none.
"""

from dataclasses import dataclass

from tiller.kernels.workspace import group_size, num_groups

from .operations import NUM_PROGRAMS, Operation
from .rates import Rates

FLOAT = 4  # bytes of float32 and int32


@dataclass(frozen=True)
class Shape:
    """T, F, d, k and w of one measurement."""

    tokens: int
    d_sae: int
    d_model: int
    k: int
    itemsize: int

    @property
    def stream(self) -> int:
        """Bytes of the stream's hidden and residual together: 2 T d w."""
        return 2 * self.tokens * self.d_model * self.itemsize

    @property
    def programs(self) -> int:
        """How many different programs the tokens follow."""
        return min(self.tokens, NUM_PROGRAMS)


@dataclass(frozen=True)
class Count:
    """Bytes that have to be moved, bytes through scratch, and floating-point operations."""

    traffic: float
    scratch: float
    flops: float

    def floor(self, rates: Rates, fused: bool = False) -> float:
        """Seconds: max(bytes / bandwidth, operations / peak); `fused` leaves the scratch out."""
        moved = self.traffic if fused else self.traffic + self.scratch
        return max(moved / rates.bandwidth, self.flops / rates.peak)


def distinct(kinds: float, each: float, draws: float) -> float:
    """Expected number of distinct ones of `kinds` after `draws` independent picks of `each` different ones."""
    return kinds * (1 - (1 - each / kinds) ** draws)


def stages_of(operation: Operation, shape: Shape) -> dict[str, Count]:
    """The count of each kernel that has something to do, in the order of their launches."""
    stages = {"edit": edit(operation, shape)}
    if operation.encodes:
        stages |= {"encode": encode(shape), "select": select(operation, shape)}
        stages |= {"gather": gather(operation, shape), "finish": finish(shape)}
    return stages


def floor_of(stages: dict[str, Count], rates: Rates, fused: bool = False) -> float:
    """Seconds of the whole op: the sum of its stages' floors, since one can't begin before the last has ended."""
    return sum(count.floor(rates, fused) for count in stages.values())


def edit(operation: Operation, shape: Shape) -> Count:
    """p programs of e edits each.

    traffic: stream read; shift p d 4; W_enc and W_dec rows of the edited features 2 p e d w; stream written, unless the encoder
    comes next. Then scratch: x (T d w), x' so far (T d 4), moments (T 16). A token without a program: its row number, 4 bytes.
    flops: T d for the shift, 4 T e d for edits.
    """
    tokens, d = shape.tokens, shape.d_model
    if operation.idle:
        return Count(tokens * FLOAT, 0, 0)
    named = 0 if operation.replace else operation.num_edits
    traffic = shape.stream + 2 * shape.programs * named * d * shape.itemsize
    traffic += shape.programs * d * FLOAT if operation.shift else 0
    flops = tokens * d * operation.shift + 4 * tokens * named * d
    if operation.encodes:
        return Count(traffic, tokens * (d * shape.itemsize + d * FLOAT + 4 * FLOAT), flops)
    return Count(traffic + shape.stream, 0, flops)


def encode(shape: Shape) -> Count:
    """traffic: W_enc F d w and 16 F of parameters, once. scratch: x (T d w), f (T F 4), group maxima (T G 4).

    flops: 2 T F d.
    """
    groups = num_groups(shape.d_sae, shape.k)
    scratch = shape.tokens * (shape.d_model * shape.itemsize + (shape.d_sae + groups) * FLOAT)
    traffic = shape.d_sae * (shape.d_model * shape.itemsize + 4 * FLOAT)
    return Count(traffic, scratch, 2 * shape.tokens * shape.d_sae * shape.d_model)


def select(operation: Operation, shape: Shape) -> Count:
    """All scratch, plus 12 bytes an edit.

    TopK: group maxima (T G 4) and the candidates of k groups (T k group 4), or f (T F 4) where G <= k; values and ids written
    (T k 8). Threshold: group maxima, and the list of the active groups, as many as are expected.
    """
    groups, group = num_groups(shape.d_sae, shape.k), group_size(shape.d_sae, shape.k)
    if operation.activation == "topk":
        read: float = shape.d_sae if groups <= shape.k else groups + shape.k * group
        each = (read + 2 * shape.k) * FLOAT
    else:
        each = (groups + 1 + _active_groups(shape)) * FLOAT
    return Count(0, shape.tokens * (each + 3 * FLOAT * operation.num_edits), 0)


def gather(operation: Operation, shape: Shape) -> Count:
    """traffic: the distinct rows of W_dec among T times k of F, d w each, and b_dec; without replacement those of the edits.

    scratch: values and ids (T k 8), or the active groups whole (T 4 (1 + group) each); x' so far, read and written (T d 8).
    flops: 2 T d a row that is added.
    """
    tokens, d = shape.tokens, shape.d_model
    if operation.replace:
        rows, added = distinct(shape.d_sae, shape.k, tokens), shape.k
        each: float = 2 * shape.k * FLOAT
        if operation.activation != "topk":
            each = _active_groups(shape) * (1 + group_size(shape.d_sae, shape.k)) * FLOAT
    else:
        rows, added = shape.programs * operation.num_edits, operation.num_edits
        each = 2 * operation.num_edits * FLOAT
    traffic = rows * d * shape.itemsize + (d * FLOAT if operation.replace else 0)
    return Count(traffic, tokens * (each + 2 * d * FLOAT), 2 * tokens * added * d)


def finish(shape: Shape) -> Count:
    """traffic: stream written. scratch: stream read again, x' (T d 4)."""
    return Count(shape.stream, shape.stream + shape.tokens * shape.d_model * FLOAT, 0)


def _active_groups(shape: Shape) -> float:
    """Expected number of groups that k active features of one token lie in."""
    return distinct(num_groups(shape.d_sae, shape.k), 1, shape.k)
