"""The writing of a command's output, at its end: a failure there is the user's to fix."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .inputs import InputError
from .writable import reason_of


@contextmanager
def writing(path: Path, field: str) -> Iterator[None]:
    """The block that writes the file or folder `path`, which the option `field` names.

    Raises InputError with the reason where that fails: a disk may have filled up since the check at the start.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} can't be written: {reason_of(error)}; give a place that you can write to", field
        ) from error


def system_error(error: Exception) -> str | None:
    """One sentence for an error of the operating system that the user can fix; None for what may be a mistake of ours."""
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):  # a failing write doesn't know its file's name
        return f"{_name(error.filename)}: {error.strerror}" if error.filename else str(error.strerror)
    about_files = (PermissionError, IsADirectoryError, NotADirectoryError, FileNotFoundError, FileExistsError)
    is_of_a_name = isinstance(error, about_files) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
    if is_of_a_name and error.filename is not None:
        return f"{_name(error.filename)}: {error.strerror}"
    return None


def _name(file: object) -> str:
    return file.decode(errors="replace") if isinstance(file, bytes) else str(file)
