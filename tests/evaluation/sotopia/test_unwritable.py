"""Commands told to write where nothing can be written: one sentence before anything starts, in real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tiller.evaluation.sotopia.journal_reader import JournalReader

from ..mounts import mounted
from ..test_cli import run_tiller
from .made_run import sweep_run

RUN = ("sotopia", "run", "--scenarios", "2", "--max-turns", "2")
SWEEP = ("sweep", "--profile", "french", "--scenarios", "2")
TURN = ("sotopia", "turn", "--feature", "63=20")


@pytest.fixture
def read_only_run(tmp_path: Path) -> Iterator[Path]:
    """A judged run on a file system that is read-only."""
    with mounted(tmp_path / "mounted") as mount:
        sweep_run(mount.path / "run")
        mount.make_read_only()
        yield mount.path / "run"


def refused(*command: str) -> str:
    """What the command says in its one line on stderr."""
    done = run_tiller(*command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[-3000:]
    return done.stderr


@pytest.mark.parametrize("command", [RUN, SWEEP], ids=["run", "sweep"])
def test_a_folder_that_cannot_be_made_is_refused(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "error: --out: /proc/x can't be written: no folder can be made there" in refused(
        *command, "--out", "/proc/x"
    )
    below = str(tmp_path / "file" / "run")
    assert f"error: --out: {below} can't be written: a part of the path is a file" in refused(*command, "--out", below)


@pytest.mark.parametrize("command", [RUN, SWEEP, ("sotopia", "score"), ("sotopia", "report")], ids=lambda c: c[-1])
def test_a_read_only_run_is_refused(command: tuple[str, ...], read_only_run: Path) -> None:
    said = refused(*command, "--out", str(read_only_run))
    assert f"error: --out: {read_only_run} can't be written: its file system is read-only" in said


def test_correlating_a_read_only_run_needs_another_folder(read_only_run: Path) -> None:
    said = refused("features", "correlate", "--episodes", str(read_only_run), "--out", str(read_only_run / "found"))
    assert "error: --out: " in said and "its file system is read-only" in said


def test_an_output_file_that_cannot_be_written_is_refused() -> None:
    said = refused(*TURN, "--output-file", "/proc/x/y.json")
    assert "error: --output-file: /proc/x/y.json can't be written: no folder can be made there" in said
    said = refused("features", "find", "--positive", "x", "--negative", "x", "--out", "/proc/x/y.json")
    assert "error: --out: /proc/x/y.json can't be written: no folder can be made there" in said


def test_a_folder_without_a_run_stays_as_it_is(tmp_path: Path) -> None:
    for command in ("score", "report"):
        assert "there is no run here" in refused("sotopia", command, "--out", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_read_only_run_is_read(read_only_run: Path) -> None:
    with JournalReader(read_only_run) as journal:
        assert len(list(journal.records())) == len(journal.units) == len(journal.outcomes())
