"""Which implementation of the op runs: Triton on CUDA, plain torch elsewhere, unless TILLER_KERNELS says otherwise."""

import os
from typing import Literal

import torch

VARIABLE = "TILLER_KERNELS"
Backend = Literal["triton", "reference"]


def backend(device: torch.device | str) -> Backend:
    """The implementation for tensors on `device`.

    Raises ValueError where TILLER_KERNELS names none, or names Triton where it can't run.
    """
    on_cuda = torch.device(device).type == "cuda"
    match os.environ.get(VARIABLE, ""):
        case "":
            return "triton" if on_cuda else "reference"
        case "reference":
            return "reference"
        case "triton" if on_cuda or os.environ.get("TRITON_INTERPRET") == "1":
            return "triton"
        case "triton":
            raise ValueError(f"{VARIABLE}=triton needs a CUDA device, or TRITON_INTERPRET=1 for Triton's interpreter")
        case other:
            raise ValueError(f"{VARIABLE} is {other!r}; it may be 'triton', 'reference' or unset")
