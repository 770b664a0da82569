"""What has to happen around vLLM's routes: nobody's `steering` is dropped in silence, nobody's upload is endless."""

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tiller.engine import compat
from tiller.engine.errors import SpecError, TillerError
from tiller.engine.spec import SPEC_KEY

from .json_text import check_value, parse_pairs
from .problems import Ending, TooLarge, refusal

STEERED_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/invocations")
COUNTING_PATHS = ("/tokenize", "/v1/messages/count_tokens")  # generate nothing, so that nothing is steered
OURS = "/v1/steering"
MAX_SCANNED = 16 << 20  # bytes of a body on the other routes
ENDING = "this server is ending: it finishes the requests under way and takes no more; send this one to another"
RETRY_SECONDS = 5


class SteeringMiddleware:
    """Innermost, so that it sees what has passed authentication only."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        engine = scope["app"].state.engine_client
        if (
            compat.is_ending(engine)
            and getattr(engine, "tiller", None) is not None
            and needs_engine(scope["method"], path)
        ):
            refused = refusal(Ending(ENDING), path)
            headers = {"Retry-After": str(RETRY_SECONDS)}
            return await JSONResponse(refused.model_dump(), refused.error.code, headers)(scope, receive, send)
        if scope["method"] == "GET" and path.rstrip("/") == "/metrics":
            server = getattr(scope["app"].state.engine_client, "tiller", None)
            if server is not None:
                await server.refresh_gauges()
        elif scope["method"] == "POST" and path not in (*STEERED_PATHS, *COUNTING_PATHS):
            limit = _limit(scope) if path.startswith(OURS) else MAX_SCANNED
            try:
                body, receive = await _read(scope, receive, limit)
                if path.startswith(OURS):
                    _check_registration(body)
                else:
                    _check_unsteered(body, path)
            except TillerError as error:
                refused = refusal(error, path)
                return await JSONResponse(refused.model_dump(), refused.error.code)(scope, receive, send)
        await self.app(scope, receive, send)


def needs_engine(method: str, path: str) -> bool:
    """True for requests that a server which is ending can't answer any more, and for what a balancer asks."""
    return method not in ("GET", "HEAD", "OPTIONS") or path == "/health" or path.startswith(f"{OURS}/features")


def max_body_bytes(d_model: int) -> int:
    """Largest body of a change: a float32 vector as a form, or a profile of as many edits as a request may have."""
    return max(262_144, 4 * d_model + 65_536)


def _limit(scope: Scope) -> int:
    server = getattr(scope["app"].state.engine_client, "tiller", None)
    return max_body_bytes(0 if server is None else server.d_model)


async def _read(scope: Scope, receive: Receive, limit: int) -> tuple[bytes, Receive]:
    """The body, and a `receive` that hands it out again. Raises TooLarge above `limit` bytes, announced or not."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"{int(announced)} bytes announced, at most {limit} are allowed", "body")
    chunks: list[bytes] = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
        if sum(map(len, chunks)) > limit:
            raise TooLarge(f"more than the allowed {limit} bytes given", "body")
    body, given = b"".join(chunks), False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again


def _check_registration(body: bytes) -> None:
    """Raises SpecError where a registration in JSON says one thing twice; forms are checked by their route."""
    try:
        check_value(parse_pairs(body, "body"), "")
    except SpecError:
        raise
    except ValueError:
        return  # a form, or no JSON, of which the route says what is wrong


def _check_unsteered(body: bytes, path: str) -> None:
    """Raises SpecError for a `steering` field that the route behind `path` would not see.

    Any other spelling of the key has a \\u escape, or a zero byte in UTF-16 and UTF-32.
    """
    if not any(sign in body for sign in (b"steering", b"\\u", b"\0")):
        return
    try:
        given: Any = json.loads(body)
    except (ValueError, RecursionError):
        return  # the route says what is wrong with it
    if isinstance(given, dict) and given.get(SPEC_KEY) is not None:
        raise SpecError(f"{path} can't be steered by this field; use {', '.join(STEERED_PATHS[:3])}", SPEC_KEY)
