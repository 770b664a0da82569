"""`tiller bench report`: any set of results as tables, on the terminal and in Markdown, and as pictures."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib.figure import Figure
from rich.console import Console

from tiller.engine.errors import TillerError
from tiller.evaluation.plotting import style

from . import episodes_report, kernel_report, rival_report, serve_report, throughput_report
from .record import Record
from .serve import AIMS
from .serve import PLAIN as PLAIN_SERVER
from .tables import Table

PictureFormat = Literal["png", "svg"]


class Kind(NamedTuple):
    """How one kind of result, as its JSON holds it, is shown."""

    tables: Callable[[dict[str, Any]], list[Table]]
    draw: Callable[[dict[str, Any]], Figure]


KINDS = {
    "throughput": Kind(
        lambda body: throughput_report.tables(Record(**body)), lambda body: throughput_report.draw(Record(**body))
    ),
    "rivals": Kind(
        lambda body: rival_report.rival_tables(Record(**body)), lambda body: rival_report.draw_rivals(Record(**body))
    ),
    "serve": Kind(
        lambda body: serve_report.tables(body, AIMS, PLAIN_SERVER), lambda body: serve_report.draw(body, PLAIN_SERVER)
    ),
    "kernels": Kind(kernel_report.tables, kernel_report.draw),
    "episodes": Kind(episodes_report.tables, episodes_report.draw),
}
TITLES = {
    "throughput": "Throughput",
    "rivals": "Other ways to steer",
    "serve": "Serving",
    "kernels": "Kernels",
    "episodes": "Episodes",
}


class Result(NamedTuple):
    """A file and what is in it."""

    file: Path
    kind: str
    body: dict[str, Any]

    @property
    def place(self) -> str:
        """Machine, commit and command."""
        own = self.body["machine"]
        found = {name: number for name, number in own["versions"].items() if number and name != "vllm-tiller"}
        versions = ", ".join(f"{name} {number}" for name, number in found.items())
        busy = own.get("busy_cores")
        shared = f"; {busy:g} cores busy before the start" if busy is not None else ""
        return f"{own['gpu'] or own['cpu']}, {own['cores']} cores, {versions}, commit {own['commit']}{shared}"


def find_results(paths: Sequence[Path]) -> list[Result]:
    """The results in files and, whatever else is there, in folders; by kind and name.

    Raises TillerError where a path isn't there, a file is no result, or there is none at all.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise TillerError(f"{path} is not there; give JSON files, or folders with some", "PATH")
        files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        own = [result for file in files if (result := _result(file))]
        if not own:
            known = ", ".join(KINDS)
            raise TillerError(f"{path} holds no result of `tiller bench`; known are {known}", "PATH")
        found += own
    return sorted(found, key=lambda result: (list(KINDS).index(result.kind), str(result.file)))


def _result(file: Path) -> Result | None:
    try:
        body = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    kind = _kind(body) if isinstance(body, dict) else None
    return Result(file, kind, body) if kind in KINDS else None


def _kind(body: dict[str, Any]) -> str | None:
    """Older files don't say."""
    if "kind" in body:
        return body["kind"]
    return "serve" if "submission_ms" in body else "kernels" if "rates" in body else None


def write_report(console: Console, paths: Sequence[Path], out: Path | None, picture: PictureFormat) -> Path:
    """Shows every result and writes OUT/report.md with a picture of each beside it; returns the page."""
    results = find_results(paths)
    folder = out or (paths[0] if paths[0].is_dir() else paths[0].parent)
    folder.mkdir(parents=True, exist_ok=True)
    parts = ["# Benchmark results", ""]
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        parts += [f"## {TITLES[kind]}", ""]
        if kind == "throughput" and len(own) > 1:
            parts += _overview(console, [Record(**result.body) for result in own])
        for result in own:
            parts += _section(console, result, folder, picture, _name(result, results))
    page = folder / "report.md"
    page.write_text("\n".join(parts))
    console.print(f"written: {page}", highlight=False, soft_wrap=True)
    return page


def _name(result: Result, results: Sequence[Result]) -> str:
    """Of its picture; where several files have the same name, with the machine, and a number from the second on."""
    same = [other for other in results if other.file.stem == result.file.stem]
    if len(same) == 1:
        return result.file.stem
    name = f"{result.body['machine']['name']}-{result.file.stem}"
    here = [other for other in same if other.body["machine"]["name"] == result.body["machine"]["name"]]
    number = next(number for number, other in enumerate(here, start=1) if other is result)
    return name if number == 1 else f"{name}-{number}"


def _section(console: Console, result: Result, folder: Path, picture: PictureFormat, name: str) -> list[str]:
    console.rule(str(result.file))
    console.print(result.place, highlight=False, soft_wrap=True)
    file = folder / f"{name}.{picture}"
    with style():
        KINDS[result.kind].draw(result.body).savefig(file, dpi=160, facecolor="white", metadata=_metadata(picture))
    tables = KINDS[result.kind].tables(result.body)
    for table in tables:
        table.show(console)
    head = [f"`{result.file.name}`: `{result.body['command']}` on {result.place}.", "", f"![{name}]({file.name})", ""]
    return [*head, *(table.markdown() for table in tables)]


def _metadata(picture: PictureFormat) -> dict[str, Any]:
    """Equal results give equal bytes."""
    return {"Software": None} if picture == "png" else {"Date": None, "Creator": None}


def _overview(console: Console, records: Sequence[Record]) -> list[str]:
    table = throughput_report.overview(records)
    table.show(console)
    return [table.markdown()]
