"""For all tests: reproducible property tests, tests that say when they can't run, poisoned allocations.

Without a GPU, Triton's interpreter runs the kernels; it has to be chosen before they are imported.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import settings

settings.register_profile("tiller", deadline=None, derandomize=True, database=None)
settings.load_profile("tiller")

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

NEEDS: dict[str, tuple[str, Callable[[], Any]]] = {  # marker -> what its tests need, and whether it is here
    "browser": ("Chromium", lambda: shutil.which("chromium")),
    "gpu": ("CUDA device", torch.cuda.is_available),
    "sotopia": ("SOTOPIA_PYTHON (docs/sotopia.md)", lambda: os.environ.get("SOTOPIA_PYTHON")),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, (what, found) in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not found():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=f"needs {what}"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for marker, (what, _) in NEEDS.items():
        skipped = sum(marker in report.keywords for report in terminalreporter.stats.get("skipped", []))
        if skipped:
            line = f"{skipped} {marker.upper()} TESTS DID NOT RUN: no {what}"
            terminalreporter.write_sep("=", line, yellow=True, bold=True)


@pytest.fixture(scope="session", autouse=True)
def quick_interpreter() -> None:
    if not torch.cuda.is_available():
        from .v2_on_cpu.quick_interpreter import install

        install()


@pytest.fixture(autouse=True)
def poisoned_allocations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Under tests/kernels, memory that tiller.kernels allocates without filling holds NaN or the largest integer, so
    that a result that reads it shows."""
    if request.path.parent.name == "kernels":
        for owner, name in [
            (torch, "empty"),
            (torch, "empty_like"),
            (torch, "empty_strided"),
            (torch.Tensor, "new_empty"),
        ]:
            monkeypatch.setattr(owner, name, _poisoned(getattr(owner, name)))
    yield


def _poisoned(allocate: Callable[..., Any]) -> Callable[..., Any]:
    def allocate_poisoned(*args: Any, **kwargs: Any) -> Any:
        tensor = allocate(*args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("tiller.kernels") and tensor.dtype != torch.bool:
            tensor.fill_(torch.nan if tensor.is_floating_point() else torch.iinfo(tensor.dtype).max)
        return tensor

    return allocate_poisoned
