"""Sizes of the buffers, and what a step finds in them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiller.kernels.dispatch import backend
from tiller.kernels.workspace import MAX_SCRATCH, Workspace, chunk_tokens, group_size, num_groups

from ..formulas import make_sae  # noqa: TID252


@given(d_sae=st.integers(1, 1 << 20), max_tokens=st.integers(1, 65536))
def test_scratch_is_bounded_whatever_the_batch(d_sae, max_tokens):
    chunk = chunk_tokens(d_sae, max_tokens)
    assert 1 <= chunk <= max_tokens
    assert 4 * d_sae * chunk <= MAX_SCRATCH


def test_public_dictionary_is_encoded_by_1024_tokens():
    assert chunk_tokens(131072, 8192) == 1024


@given(d_sae=st.integers(1, 1 << 20), k=st.integers(0, 4096))
def test_groups_cover_the_dictionary(d_sae, k):
    size, groups = group_size(d_sae, k), num_groups(d_sae, k)
    assert size in (16, 32, 64)
    assert size * (groups - 1) < d_sae <= size * groups


def test_a_step_starts_from_nothing():
    space = Workspace({"a": make_sae("topk")}, 2, 8, 6, 3, 0, torch.float32, torch.device("cpu"))
    for buffer in (space.rows, space.queues, space.delta):
        buffer.fill_(7)
    space.begin(torch.tensor([2, 0, 1]))
    assert space.rows.tolist() == [2, 0, 1, 0, 0, 0]
    assert not space.queues[:, 0].any() and space.delta.isnan().all()
    assert space.num_bytes > 4 * 6 * 24


@pytest.mark.parametrize(
    ("chosen", "interpreter", "device", "expected"),
    [
        (None, None, "cpu", "reference"),
        (None, None, "cuda", "triton"),
        ("reference", None, "cuda", "reference"),
        ("triton", "1", "cpu", "triton"),
        ("triton", None, "cuda", "triton"),
        ("triton", None, "cpu", None),
        ("fast", None, "cuda", None),
    ],
)
def test_dispatch(monkeypatch, chosen, interpreter, device, expected):
    for name, value in (("TILLER_KERNELS", chosen), ("TRITON_INTERPRET", interpreter)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    if expected is None:
        with pytest.raises(ValueError, match="TILLER_KERNELS"):
            backend(device)
    else:
        assert backend(device) == expected
