"""Every kernel compiles for an H100 or H200, and fits: no GPU is needed to know that."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MAX_REGISTERS = 255  # of a thread, the hardware's
SHARED_MEMORY = 227 * 1024  # of a program, sm_90's
KERNELS = {"edit_kernel", "encode_kernel", "select_kernel", "gather_kernel", "finish_kernel", "layout_kernel"}


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    """In a process of its own, because this one's Triton may be the interpreter."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    script = Path(__file__).with_name("offline.py")
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_kernel_compiles_at_every_shape(costs):
    shapes = {(c["d_sae"], c["d_model"], c["activation"], c["tokens"]) for c in costs}
    assert len(shapes) == 7 and len(costs) == 7 * len(KERNELS)
    assert {c["kernel"] for c in costs} == KERNELS


def test_nothing_spills_and_everything_fits(costs):
    for cost in costs:
        assert cost["stack"] == 0, cost
        assert cost["shared"] <= SHARED_MEMORY and cost["registers"] <= MAX_REGISTERS, cost
        assert cost["registers"] * 32 * cost["num_warps"] <= 65536, cost


def test_two_programs_of_the_encoder_share_an_sm_where_few_tokens_wait_for_memory(costs):
    narrow = [c for c in costs if c["kernel"] == "encode_kernel" and c["tokens"] <= 64]
    assert narrow and all(2 * c["shared"] <= SHARED_MEMORY for c in narrow)


def test_the_encoder_runs_on_tensor_cores_and_loads_ahead(costs):
    for cost in costs:
        if cost["kernel"] == "encode_kernel":
            assert cost["async"], cost
            assert cost["mma"] == ("none" if cost["dtype"] == "float32" else "wgmma"), cost


def test_no_float_is_added_atomically(costs):
    """Its order would depend on the batch."""
    assert not any(cost["float_atomics"] for cost in costs)


def test_kernels_take_few_parameters():
    from tiller.kernels import encode, gather, layout, select, steerer

    for kernel in (
        steerer.edit_kernel,
        steerer.finish_kernel,
        encode.encode_kernel,
        select.select_kernel,
        gather.gather_kernel,
        layout.layout_kernel,
    ):
        assert sum(name[0].islower() or name.startswith("W_") for name in kernel.arg_names) <= 17, kernel
