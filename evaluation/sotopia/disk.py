"""The disk that a run's files are on, and the sentence about one that takes no more."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tiller.evaluation.writable import reason_of

from .journal import DiskFullError, JournalError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MEND = "all that was kept is safe: {} and run the same command again"


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """A full disk, and a file in `out` that can't be written, are errors that the user can fix.

    Raises DiskFullError and JournalError for these; any other error stays as it is.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFullError(f"no space left; {MEND.format('free space')}", str(out)) from error
        file = error.filename2 or error.filename
        if not isinstance(file, str) or not Path(file).is_relative_to(out):
            raise
        raise JournalError(f"can't be written: {reason_of(error)}; {MEND.format('mend this')}", file) from error
