"""The command `tiller bench kernels`: fills in what was not given, runs, shows, and says what was wrong."""

from pathlib import Path
from typing import NamedTuple

import torch
import typer
from rich.console import Console

from tiller.engine.errors import TillerError

from .check import WrongResultError
from .kernel_bench import FEATURES_BY_VALUE, TOKENS_BY_VALUE, run, settings_of
from .kernel_report import save_plot, show
from .machine import machine
from .number_list import numbers


class Grid(NamedTuple):
    """What is measured where nothing else is said."""

    tokens: tuple[int, ...]
    features: tuple[int, ...]
    d_model: int
    dtype: str


# On a CPU the grid is what two cores do in three minutes, at the width of a small model.
GRIDS = {
    "cuda": Grid(TOKENS_BY_VALUE, FEATURES_BY_VALUE, 3584, "bfloat16"),
    "cpu": Grid((1, 8, 64), (576, 16384), 896, "float32"),
}


def run_kernels(
    console: Console, device: str | None, tokens: str | None, features: str | None, d_model: int | None, k: int,
    dtype: str | None, bandwidth: float | None, peak: float | None, repeats: int, fresh: bool, out: Path,
) -> None:  # fmt: skip
    """Raises TillerError for a wrong option, typer.Exit(1) where an op answers wrongly."""
    there = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if there == "cuda" and not torch.cuda.is_available():
        raise TillerError("this machine has no CUDA device; leave the option out or give cpu", "--device")
    grid = GRIDS[there]
    sizes = numbers(features, "--features") or grid.features
    if k >= min(sizes):
        raise TillerError(f"{k} given; it must be below the smallest dictionary, {min(sizes)}", "--k")
    settings = settings_of(
        there, numbers(tokens, "--tokens") or grid.tokens, sizes, d_model or grid.d_model, k,
        dtype or grid.dtype, repeats, bandwidth, peak,
    )  # fmt: skip
    console.print(f"Triton kernels: {settings.triton}", style="bold", highlight=False)
    folder = out / machine(there)["name"]
    try:
        report = run(settings, folder, fresh, console)
    except WrongResultError as error:
        console.print(f"refused to report: {error}", style="red", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None
    show(report)
    save_plot(report, folder / "kernels.png")
    console.print(f"written: {folder}/kernels.json, {folder}/kernels.png", highlight=False, soft_wrap=True)
