"""Folders and files that can't be written are refused by name, on real file systems."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tiller.evaluation.inputs import InputError
from tiller.evaluation.writable import require_writable_file, require_writable_folder

from .mounts import mounted


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A mounted file system with a folder and a file, read-only."""
    with mounted(tmp_path / "mounted") as mount:
        (mount.path / "folder").mkdir()
        (mount.path / "file").write_text("old")
        mount.make_read_only()
        yield mount.path


def refusal(check: object, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        check(path, "--out")  # type: ignore[operator]
    return str(caught.value)


def test_a_new_folder_is_made_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    require_writable_folder(tmp_path / "a" / "b", "--out")
    require_writable_folder(tmp_path / "a" / "b", "--out")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_file_that_is_there_stays_and_a_new_one_is_not_left(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "folder" / "new"
    old.write_text("content")
    require_writable_file(old, "--output-file")
    require_writable_file(new, "--output-file")
    assert old.read_text() == "content" and list(new.parent.iterdir()) == []


def test_a_part_of_the_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert refusal(require_writable_folder, file) == (
        f"--out: {file} can't be written: a part of the path is a file; give a folder that you can write to"
    )
    assert refusal(require_writable_folder, file / "x" / "y") == (
        f"--out: {file / 'x' / 'y'} can't be written: a part of the path is a file; give a folder that you can write to"
    )
    assert refusal(require_writable_file, file / "x") == (
        f"--out: {file / 'x'} can't be written: a part of the path is a file; give a file that you can write to"
    )
    assert refusal(require_writable_file, tmp_path) == f"--out: {tmp_path} is a folder; give a file"


def test_the_process_file_system_is_refused() -> None:
    assert "/proc/x can't be written: no folder can be made there" in refusal(require_writable_folder, Path("/proc/x"))
    assert "/proc/x can't be written: no folder can be made there" in refusal(require_writable_file, Path("/proc/x"))


def test_a_read_only_file_system_is_refused(read_only: Path) -> None:
    for folder in (read_only, read_only / "folder", read_only / "new"):
        assert f"{folder} can't be written: its file system is read-only" in refusal(require_writable_folder, folder)
    for file in (read_only / "file", read_only / "new"):
        assert f"{file} can't be written: its file system is read-only" in refusal(require_writable_file, file)


def test_a_device_is_left_to_the_real_output() -> None:
    require_writable_file(Path("/dev/null"), "--output-file")
