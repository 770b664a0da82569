"""Compiles every kernel for an H100 or H200 (sm_90) without a GPU, at the arguments that the launchers pass, and prints what
one program of it costs.

    python tests/kernels/offline.py      a JSON object a line: kernel, shape, registers, stack (spills), shared memory ...
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from tiller.kernels import layout, steerer
from tiller.kernels.sae import SAE
from tiller.kernels.table import SiteTable
from tiller.kernels.workspace import Workspace

TARGET = GPUTarget("cuda", 90, 32)
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
DTYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
OPTIONS = ("num_warps", "num_stages", "enable_fp_fusion")
KERNELS = {
    steerer: ("edit_kernel", "encode_kernel", "select_kernel", "gather_kernel", "finish_kernel"),
    layout: ("layout_kernel",),
}


class Recorder:
    """Stands in for a kernel and keeps its launches instead of running them."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.launches: list[dict[str, Any]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **kwargs: Any) -> None:
            self.launches.append(dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs)

        return launch


def compiled(kernel: Any, launch: dict[str, Any]) -> dict[str, Any]:
    """What the compiler makes of one launch, as Triton's own specialisation would compile it on a GPU."""
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = launch[name]
        if isinstance(value, Tensor):
            signature[name] = DTYPES[value.dtype]
            attributes[(index,)] = [["tt.divisibility", 16]] if value.data_ptr() % 16 == 0 else []
        elif name.islower():
            signature[name] = "i32"
            attributes[(index,)] = [["tt.divisibility", 16]] if value % 16 == 0 else []
        else:
            signature[name], constants[name] = "constexpr", value
    options = {name: launch[name] for name in OPTIONS if name in launch}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    return _cost(compile(source, target=TARGET, options=options)) | {"num_warps": options.get("num_warps", 4)}


def _cost(binary: Any) -> dict[str, Any]:
    ptx = binary.asm["ptx"]
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        report = subprocess.run(
            [CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        )
    usage = re.search(r"REG:(\d+) STACK:(\d+)", report.stdout)
    assert usage is not None, report.stdout
    return {
        "registers": int(usage[1]),
        "stack": int(usage[2]),
        "shared": binary.metadata.shared,
        "mma": "wgmma" if "wgmma" in ptx else "mma" if "mma.sync" in ptx else "none",
        "async": "cp.async" in ptx,
        "barriers": ptx.count("bar.sync"),
        "float_atomics": len(re.findall(r"(?:atom|red)\.\S*\.f(?:16|32|64)|(?:atom|red)\.\S*bf16", ptx)),
    }


def launches(d_sae: int, d_model: int, activation: str, num_tokens: int, dtype: torch.dtype) -> dict[str, Any]:
    """The launches of one site's op and of the layout at this shape, by kernel."""
    sae = shaped_sae(d_sae, d_model, activation, dtype)
    table = SiteTable.allocate(9, d_model, 1, 256, 4)
    device = torch.device("cpu")
    space = Workspace({"default": sae}, 1, d_model, num_tokens, 256, 128, dtype, device)
    recorders = {(module, name): Recorder(getattr(module, name)) for module, names in KERNELS.items() for name in names}
    patches = [patch.object(module, name, recorder) for (module, name), recorder in recorders.items()]
    for each in patches:
        each.start()
    stream = torch.empty(2, num_tokens, d_model, dtype=dtype)
    steerer.Steerer({"default": sae}, table, space)(stream[0], stream[1])
    loc, slots, positions = torch.zeros(9, dtype=torch.int32), *torch.zeros(2, num_tokens, dtype=torch.int64)
    layout.Layout(space, 8, device).begin(loc, slots[:8], positions)
    for each in patches:
        each.stop()
    return {name: (recorder.kernel, recorder.launches[0]) for (_, name), recorder in recorders.items()}


def shaped_sae(d_sae: int, d_model: int, activation: str, dtype: torch.dtype) -> SAE:
    """An SAE of this shape whose weights nobody reads."""
    zeros = torch.zeros(d_sae)
    extra = {"topk": {"k": 64}, "threshold": {"threshold": zeros}, "gated": {"gate_scale": zeros, "gate_shift": zeros}}
    weights = torch.empty(d_sae, d_model, dtype=dtype)
    b_dec = torch.zeros(d_model)
    return SAE(
        W_enc=weights, W_dec=weights, b_enc=zeros, b_dec=b_dec, activation=activation, **extra.get(activation, {})
    )


SHAPES = [
    (131072, 3584, "topk", 64, torch.bfloat16),
    (131072, 3584, "topk", 256, torch.bfloat16),
    (131072, 3584, "threshold", 64, torch.bfloat16),
    (16384, 3584, "topk", 64, torch.bfloat16),
    (16384, 2304, "gated", 256, torch.float16),
    (576, 96, "topk", 64, torch.float32),
    (576, 3584, "topk", 64, torch.bfloat16),
]


def main() -> None:
    for d_sae, d_model, activation, num_tokens, dtype in SHAPES:
        shape = {"d_sae": d_sae, "d_model": d_model, "activation": activation, "tokens": num_tokens}
        for name, (kernel, launch) in launches(d_sae, d_model, activation, num_tokens, dtype).items():
            print(
                json.dumps({"kernel": name, **shape, "dtype": str(dtype)[6:], **compiled(kernel, launch)}), flush=True
            )


if __name__ == "__main__":
    main()
