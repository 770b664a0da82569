"""`tiller sotopia report`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tiller.evaluation.writable import require_writable_folder

from .journal_reader import find_journal

console = Console()


def report(
    out: Annotated[Path, typer.Option(help="Folder of the run; the report is written there.", file_okay=False)],
) -> None:
    """Write a run's tables, figures and report.html: means, paired differences, intervals, and what is missing."""
    find_journal(out)
    require_writable_folder(out, "--out")
    from .findings_view import show_findings
    from .outcome_report import write_run_report

    show_findings(console, write_run_report(out), out)
