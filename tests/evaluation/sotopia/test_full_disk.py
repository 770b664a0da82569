"""A full disk is one sentence with exit code 2, on a real file system; with space the same command ends well."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tiller.evaluation.inputs import InputError
from tiller.evaluation.jsonl import write_json, write_jsonl

from ..mounts import Mount, fill, mounted
from ..test_cli import run_tiller
from .made_run import sweep_run


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    with mounted(tmp_path / "mounted", "24m") as mount:
        yield mount


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (8 << 10, "/journal.sqlite: the journal can't be read just now"),
        (100 << 10, ": no space"),
        (400 << 10, ": no space"),
    ],
)
def test_a_report_that_finds_no_space(disk: Mount, free: int, said: str) -> None:
    """SQLite's own work beside the journal, the tables, and the figures don't fit."""
    sweep_run(disk.path / "run")
    full = fill(disk.path, free)
    done = run_tiller("sotopia", "report", "--out", str(disk.path / "run"))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr[-3000:]
    assert done.stderr.startswith(f"error: {disk.path / 'run'}{said}") and "run the same command again" in done.stderr
    full.unlink()
    assert run_tiller("sotopia", "report", "--out", str(disk.path / "run")).returncode == 0


def test_scores_that_find_no_space(disk: Mount) -> None:
    sweep_run(disk.path / "run")
    command = ("sotopia", "score", "--judge", "lexical", "--out", str(disk.path / "run"))
    assert run_tiller(*command).returncode == 0
    scores = (disk.path / "run" / "scores.jsonl").read_bytes()
    full = fill(disk.path, 64 << 10)
    done = run_tiller(*command)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.stderr.endswith("free space and run the same command again\n")
    assert (disk.path / "run" / "scores.jsonl").read_bytes() == scores, "the old file stays"
    full.unlink()
    assert run_tiller(*command).returncode == 0


def test_results_that_find_no_space(disk: Mount) -> None:
    fill(disk.path, 0)
    for write in (write_json, write_jsonl):
        with pytest.raises(InputError, match="results.json: it can't be written: no space is left there"):
            write([{"text": "x" * 10_000}], disk.path / "results.json")


def test_a_folder_where_a_file_is_to_be_written(tmp_path: Path) -> None:
    sweep_run(tmp_path)
    for command, name in (("report", "report.html"), ("score", "scores.jsonl")):
        (tmp_path / name).mkdir()
        done = run_tiller("sotopia", command, "--out", str(tmp_path))
        assert (done.returncode, done.stderr.count("Traceback")) == (2, 0), done.stderr[-3000:]
        assert f"error: {tmp_path / name}: can't be written: Is a directory; all that was kept is safe" in done.stderr
