"""What a device does at most: bytes and operations a second, the two ceilings of a roofline."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

COPY_BYTES = {"cuda": 2**32, "cpu": 2**28}
PRODUCT_SIZE = {"cuda": 8192, "cpu": 1024}
REPEATS = 5


class Rates(NamedTuple):
    """Bytes a second (read and written added), floating-point operations a second, and where both come from."""

    bandwidth: float
    peak: float
    source: str


KNOWN = {
    ("NVIDIA H200", torch.bfloat16): Rates(
        4.3e12, 790e12, "known: copy and bfloat16 product measured on an NVIDIA H200"
    ),
}


def rates_of(device: torch.device, dtype: torch.dtype, bandwidth: float | None, peak: float | None) -> Rates:
    """The ceilings given (TB/s, TFLOP/s), those known for the device and dtype, or else a copy and a product timed now."""
    if bandwidth is not None and peak is not None:
        return Rates(bandwidth * 1e12, peak * 1e12, "given")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    found = KNOWN.get((name, dtype)) or _measured(device, dtype)
    if bandwidth is None and peak is None:
        return found
    own = found._replace(source=f"partly given; otherwise {found.source}")
    return own._replace(bandwidth=bandwidth * 1e12) if bandwidth is not None else own._replace(peak=(peak or 0) * 1e12)


def _measured(device: torch.device, dtype: torch.dtype) -> Rates:
    size, num_bytes = PRODUCT_SIZE[device.type], COPY_BYTES[device.type]
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * num_bytes / _seconds(device, lambda: target.copy_(source))
    matrix = torch.randn(size, size, device=device).to(dtype)
    peak = 2 * size**3 / _seconds(device, lambda: matrix @ matrix)
    text = f"measured before the run: a copy of {num_bytes >> 20} MiB and a {size}x{size} product in {str(dtype)[6:]}"
    return Rates(bandwidth, peak, text)


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    def once() -> float:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(REPEATS))
