"""Errors as HTTP: what is refused, with which status, and one line in the log for each refusal."""

import errno
import json
import logging
import re
from typing import Any

from tiller.engine import compat
from tiller.engine.errors import TillerError

from .metrics import REJECTED

KINDS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    409: "ConflictError",
    503: "ServiceUnavailableError",
    507: "InsufficientStorageError",
}
KNOWN_PARTS = set(
    "steering features vectors error_term norm where skip_first max_norm read id op value unit sae when feature above "
    "name alpha mode version top reduce start end model profile defaults".split()
)
STDERR = 2  # the file itself: vLLM writes its process's name before each line of `sys.stderr`
log = logging.getLogger("tiller.server")


class Problem(TillerError):
    """A TillerError with an HTTP status of its own; every other one is a 400."""

    status = 400


class Unauthorized(Problem):
    """The key for changes is missing or wrong."""

    status = 401


class NotFound(Problem):
    """There is nothing of that name."""

    status = 404


class Conflict(Problem):
    """The name is taken, or what it names can't be changed."""

    status = 409


class TooLarge(Problem):
    """More bytes than this server takes."""

    status = 413


class Ending(Problem):
    """The server was told to stop."""

    status = 503


class NotStored(Problem):
    """The folder for registrations can't be written: 507 where it is full, else 503."""

    def __init__(self, name: str, error: OSError) -> None:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        self.status = 507 if is_full else 503
        reason = "no space is left" if is_full else error.strerror or str(error)
        super().__init__(
            f"{name} can't be changed in --steering-dir: {reason}; nothing was registered or deleted", "name"
        )


def refusal(error: TillerError, route: str) -> Any:
    """`error` as vLLM's handlers return it; logged and counted."""
    status = getattr(error, "status", 400)
    REJECTED.labels(reason=reason(error.field)).inc()
    log.warning(json.dumps({"event": "rejected", "route": route, "status": status, "param": shown(error.field)}))
    return compat.error_response(error.message, KINDS.get(status, "BadRequestError"), status, error.field)


def reason(field: str | None) -> str:
    """The part of a request that was refused, without indices; keys that a client made up count as `other`."""
    parts = re.sub(r"\[\d+\]", "", field or "other").split(".")
    return ".".join(part if part in KNOWN_PARTS else "other" for part in parts[:4])


def shown(field: str | None) -> str | None:
    """A field path short enough for a log line; its keys may be a client's."""
    return None if field is None else field[:100]


def set_up_log() -> None:
    """One JSON object a line on stderr."""
    if not log.handlers:
        handler = logging.StreamHandler(open(STDERR, "w", buffering=1, closefd=False))  # noqa: SIM115
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)  # whatever the root logger is set to by then
        log.propagate = False
