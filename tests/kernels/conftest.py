"""Without a GPU, Triton's interpreter runs the kernels. It has to be chosen before they are imported."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter():
    if not torch.cuda.is_available():
        from ..v2_on_cpu.quick_interpreter import install  # noqa: TID252

        install()
