"""What an endpoint's answer says: a reply, an error, or how long to wait."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from .ask import AskError, Cause, Reply
from .whole_text import whole_text

NO_TEXT = ("abort", "error", "tool_calls", "function_call")  # finish reasons


class Failure(Exception):
    """One attempt without an answer, worth another one.

    spent: whether it uses up one of the ask's attempts. It doesn't where the ask can't be what is wrong.
    wait: seconds that the endpoint asks everyone to wait.
    """

    def __init__(self, cause: Cause, why: str, spent: bool = True, wait: float | None = None) -> None:
        self.cause, self.why, self.spent, self.wait = cause, why, spent, wait
        super().__init__(why)


def json_object(content: bytes) -> dict[str, Any]:
    """An answer's body; {} where it is no JSON object, as error pages of proxies are."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def error_of(status: int, answer: dict[str, Any]) -> tuple[str, str, str]:
    """Message (with the field that it is about), param and code of an answer in OpenAI's error shape, or in any other."""
    error = answer.get("error")
    fields = error if isinstance(error, dict) else {}
    param, code = str(fields.get("param") or ""), str(fields.get("code") or "")
    message = str(fields.get("message") or error or answer.get("detail") or answer.get("message") or "no message")
    where = f"{param}: " if param and param not in message else ""
    return f"HTTP {status}: {where}{' '.join(message.split())[:500]}", param, code


def reply_of(answer: dict[str, Any], steered: bool) -> Reply:
    """What an answer says. Raises AskError where the model or its guard declined, Failure where it isn't an answer."""
    try:
        choice = answer["choices"][0]
        message, finish_reason = choice["message"], choice["finish_reason"]
        text, refusal, usage = message["content"], message.get("refusal"), answer.get("usage") or {}
        prompt_tokens, completion_tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Failure("bad_reply", "its answer is not a chat completion, or is cut short") from None
    if refusal or finish_reason == "content_filter":
        raise AskError("refused", f"declined by the endpoint: {refusal or finish_reason}")
    if not isinstance(text, str) or finish_reason in NO_TEXT:
        raise Failure("bad_reply", f"no text in its answer (finish_reason {finish_reason!r})")
    if steered and "steering" not in answer:
        unsteered = (
            "its answer has no receipt, so nothing was steered; steering needs a server started by `tiller serve`"
        )
        raise AskError("refused", unsteered)
    receipt = answer.get("steering") if steered else None
    return Reply(
        text=whole_text(text),
        finish_reason="length" if finish_reason == "length" else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        receipt=receipt,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: Retry-After as a number, or as an HTTP date by the server's clock. None where it says neither."""
    given = headers.get("Retry-After", "").strip()
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        then, now = _time(given), _time(headers["Date"]) if "Date" in headers else datetime.now(UTC)
    except ValueError:
        return None
    return max(0.0, (then - now).total_seconds())


def _time(http_date: str) -> datetime:
    when = parsedate_to_datetime(http_date)
    return when.replace(tzinfo=when.tzinfo or UTC)
