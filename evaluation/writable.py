"""The check that a command can write where it is told to, before it does anything that takes long."""

import errno
import tempfile
from pathlib import Path

from .inputs import InputError

REASONS = {
    errno.EACCES: "you have no permission",
    errno.EPERM: "you have no permission",
    errno.EROFS: "its file system is read-only",
    errno.ENOTDIR: "a part of the path is a file",
    errno.EEXIST: "a part of the path is a file",
    errno.ENOENT: "no folder can be made there",
    errno.ENOSPC: "no space is left there",
    errno.EDQUOT: "your quota there is used up",
}


def require_writable_folder(path: Path, field: str) -> None:
    """Makes the folder, and writes a hidden file there that it removes again.

    Raises InputError naming `field`, the folder and the reason where that fails.
    """
    try:
        _write_into(path)
    except OSError as error:
        raise _refusal(path, field, "a folder", error) from error


def require_writable_file(path: Path, field: str) -> None:
    """Leaves a file that is there as it is; where there is none, it makes the folder and leaves no file.

    Raises InputError naming `field`, the file and the reason where it can't be written.
    """
    try:
        if path.is_file():
            path.open("ab").close()
        elif path.is_dir():
            raise InputError(f"{path} is a folder; give a file", field)
        elif not path.exists():  # what is neither, such as a pipe, is only opened for the real output
            _write_into(path.parent)
    except OSError as error:
        raise _refusal(path, field, "a file", error) from error


def _write_into(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable-") as file:
        file.write(b"\n")


def reason_of(error: OSError) -> str:
    """Why a file or folder can't be written, in plain words where they are known."""
    return REASONS.get(error.errno or 0, error.strerror or str(error))


def _refusal(path: Path, field: str, kind: str, error: OSError) -> InputError:
    return InputError(f"{path} can't be written: {reason_of(error)}; give {kind} that you can write to", field)
