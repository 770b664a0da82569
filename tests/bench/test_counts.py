"""Counted bytes and operations against numbers worked out by hand."""

import math

import pytest
import torch

from tiller.bench.counts import Count, Shape, distinct, edit, encode, finish, floor_of, gather, select, stages_of
from tiller.bench.operations import OPERATIONS
from tiller.bench.rates import Rates, rates_of

H200 = Rates(4.3e12, 790e12, "")
LARGE = Shape(tokens=64, d_sae=131072, d_model=3584, k=64, itemsize=2)  # groups of 32: 4096
SMALL = Shape(tokens=8, d_sae=576, d_model=3584, k=64, itemsize=2)  # groups of 16: 36, fewer than k
BY_NAME = {operation.name: operation for operation in OPERATIONS}
STREAM = 2 * 64 * 3584 * 2


def test_encode_reads_the_dictionary_once():
    """131072 rows of 7168 bytes are 939,524,096; with 16 bytes of parameters each 941,621,248."""
    count = encode(LARGE)
    assert count.traffic == 941_621_248
    assert count.scratch == 64 * (7168 + 4 * 131072 + 4 * 4096)
    assert count.flops == 2 * 64 * 131072 * 3584 == 60_129_542_144


def test_encode_floor_is_memory_below_the_ridge_and_arithmetic_above():
    """As research's table has them: about 219 us for up to 64 tokens, 304 us at 256 (184 tokens are the ridge)."""
    few, many = encode(LARGE), encode(LARGE.__class__(256, 131072, 3584, 64, 2))
    assert few.floor(H200, fused=True) == pytest.approx(219e-6, rel=0.002)
    assert many.floor(H200, fused=True) == pytest.approx(304e-6, rel=0.002)
    assert few.floor(H200) == pytest.approx((941_621_248 + 64 * (7168 + 540_672)) / 4.3e12)


def test_select():
    """TopK: 4096 maxima, 64 groups of 32 candidates, 64 values and ids; where groups are few, all 576 activations instead."""
    assert select(BY_NAME["TopK replacement"], LARGE) == Count(0, 64 * 4 * (4096 + 2048 + 128), 0)
    assert select(BY_NAME["TopK replacement"], SMALL) == Count(0, 8 * 4 * (576 + 128), 0)
    assert select(BY_NAME["TopK membership edit"], SMALL) == Count(0, 8 * (4 * (576 + 128) + 12), 0)
    groups = 4096 * (1 - (1 - 1 / 4096) ** 64)
    assert select(BY_NAME["threshold replacement"], LARGE).scratch == pytest.approx(64 * 4 * (4096 + 1 + groups))


def test_gather_reads_distinct_rows():
    """One token: its 64 rows. Many tokens: never more than the dictionary."""
    one = gather(BY_NAME["TopK replacement"], LARGE.__class__(1, 131072, 3584, 64, 2))
    assert one == Count(pytest.approx(64 * 7168 + 4 * 3584), 64 * 8 + 8 * 3584, 2 * 64 * 3584)
    rows = 131072 * (1 - (1 - 64 / 131072) ** 64)
    assert 4000 < rows < 64 * 64
    assert gather(BY_NAME["TopK replacement"], LARGE).traffic == pytest.approx(rows * 7168 + 4 * 3584)
    assert gather(BY_NAME["TopK membership edit"], LARGE) == Count(8 * 7168, 64 * (8 + 8 * 3584), 2 * 64 * 3584)


def test_distinct():
    assert distinct(10, 1, 1) == pytest.approx(1)
    assert distinct(10, 10, 1) == 10
    assert distinct(10, 1, 2) == pytest.approx(1.9)
    assert distinct(10, 3, 1e6) == 10


def test_edit_and_finish():
    """The stream twice over; 8 programs' shifts or rows; what the encoder needs where it comes next."""
    assert edit(BY_NAME["add"], LARGE) == Count(2 * STREAM + 8 * 4 * 3584, 0, 64 * 3584)
    assert edit(BY_NAME["edit-only"], LARGE) == Count(2 * STREAM + 2 * 8 * 7168, 0, 4 * 64 * 3584)
    waits = Count(STREAM + 8 * 4 * 3584, 64 * (7168 + 4 * 3584 + 16), 64 * 3584)
    assert edit(BY_NAME["TopK replacement"], LARGE) == waits
    assert edit(BY_NAME["idle rows"], LARGE) == Count(256, 0, 0)
    assert finish(LARGE) == Count(STREAM, STREAM + 64 * 4 * 3584, 0)


@pytest.mark.parametrize("operation", OPERATIONS, ids=[o.name for o in OPERATIONS])
def test_floor_is_the_sum_over_stages(operation):
    counts = stages_of(operation, LARGE)
    assert list(counts) == (["edit", "encode", "select", "gather", "finish"] if operation.encodes else ["edit"])
    by_hand = math.fsum(max((c.traffic + c.scratch) / 4.3e12, c.flops / 790e12) for c in counts.values())
    assert floor_of(counts, H200) == pytest.approx(by_hand)
    assert floor_of(counts, H200, fused=True) <= by_hand


def test_fused_floor_of_the_largest_dictionary():
    """Research's table: 226 us at 64 tokens, with upper bounds for the distinct rows."""
    assert floor_of(stages_of(BY_NAME["TopK replacement"], LARGE), H200, fused=True) == pytest.approx(226e-6, rel=0.005)


def test_given_rates_win_and_unknown_ones_are_measured():
    cpu = torch.device("cpu")
    assert rates_of(cpu, torch.float32, 2.0, 3.0) == Rates(2e12, 3e12, "given")
    measured = rates_of(cpu, torch.float32, 2.0, None)
    assert measured.bandwidth == 2e12 and measured.peak > 1e9 and "measured before the run" in measured.source
