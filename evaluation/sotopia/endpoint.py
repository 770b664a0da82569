"""A speaker behind any OpenAI-compatible /chat/completions."""

import asyncio
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from .ask import Ask, AskError, Cause, EndpointError, Reply
from .breaker import Breaker
from .limit import RateLimit
from .settings import EndpointConfig

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 4.0  # servers close idle connections after 5 s or more; a request should not meet that moment
FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds
LOOPBACK = ("127.", "localhost", "::1")
OF_THE_ENDPOINT = (
    401,
    402,
    403,
    404,
    405,
)  # wrong key, no money, no right, no such model or route: alike for every ask
UNREACHABLE = (502, 503)  # what a gateway says of the server behind it
NO_TEXT = ("abort", "error", "tool_calls", "function_call")  # finish reasons


class _Failure(Exception):
    """One attempt without an answer, worth another one.

    spent: whether it uses up one of the ask's attempts. It doesn't where the ask can't be what is wrong.
    wait: seconds that the endpoint asks everyone to wait.
    """

    def __init__(self, cause: Cause, why: str, spent: bool = True, wait: float | None = None) -> None:
        self.cause, self.why, self.spent, self.wait = cause, why, spent, wait
        super().__init__(why)


@dataclass
class Traffic:
    """What went over the wire, for the progress display."""

    attempts: int = 0
    retries: int = 0
    in_flight: int = 0


class EndpointSpeaker:
    """Answers asks over HTTP, `max_in_flight` at a time; what fails on the way is asked again.

    No answer at all (connection, 5xx, timeout, broken JSON) costs an attempt and a wait that doubles; 4xx is final. Where
    nothing can be reached, or many asks in a row fail, a breaker holds all asks back without using up their attempts. So
    does Retry-After. `alone` False: what the breaker would hold back is given back as AskError, for a Pool to ask elsewhere.

    Raises EndpointError where the key's variable is empty.
    """

    def __init__(self, config: EndpointConfig, name: str, alone: bool = True) -> None:
        self.config, self.name, self.alone = config, name, alone
        self.traffic = Traffic()
        self.breaker = Breaker(name, config.give_up_after)
        self._limit = RateLimit(config.requests_per_minute)
        self._slots = asyncio.Semaphore(config.max_in_flight)
        self._url = config.url.rstrip("/") + "/chat/completions"
        self._proxy = _proxy(config.url)
        self._headers = _headers(config, name)
        self._extra = {key: value for key, value in config.extra_body.items() if value is not None}
        self._left_out = config.extra_body.keys() - self._extra.keys()
        self._timeout = aiohttp.ClientTimeout(total=config.timeout, sock_connect=CONNECT_SECONDS)
        self._session: aiohttp.ClientSession | None = None

    @property
    def ready(self) -> bool:
        """Whether an ask would go out now, or learn that the endpoint is gone."""
        return self.breaker.passable and not self._limit.pause_left

    @property
    def next_try(self) -> float:
        """Seconds until it may be ready."""
        return max(self.breaker.wait_left, self._limit.pause_left)

    @property
    def notice(self) -> str:
        """Why nothing goes out just now, for the progress display; empty where all is well."""
        if left := self._limit.pause_left:
            return f"paused: endpoint {self.name} asks to wait, next try in {left:.0f} s"
        if self.breaker.state == "closed":
            return ""
        when = "trying again" if self.breaker.state == "half-open" else f"next try in {self.breaker.wait_left:.0f} s"
        return f"paused: endpoint {self.name}, {when} ({self.breaker.last_failure})"

    async def ask(self, ask: Ask) -> Reply:
        """Raises AskError after `max_attempts`, or at once where the endpoint refuses; EndpointError where it is gone."""
        body = self._body(ask)
        spent = tries = 0
        while True:
            try:
                return await self._attempt(body, steered=ask.steering is not None)
            except _Failure as failure:
                spent, tries = spent + failure.spent, tries + 1
                if spent >= self.config.max_attempts or not (self.alone or self.ready):
                    raise AskError(failure.cause, f"{self.name}: {failure.why}", reached=spent > 0) from None
                self.traffic.retries += 1
                if self.breaker.state == "closed" and failure.wait is None:
                    await asyncio.sleep(_backoff(tries))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _attempt(self, body: bytes, steered: bool) -> Reply:
        """One request, once it may go out; tells the breaker how it went."""
        async with self._slots:
            if not (self.alone or self.ready):
                raise _Failure("connection", self.breaker.last_failure or "it asks to wait", spent=False)
            probe = False
            try:
                probe = await self._turn()
                reply = _reply(await self._post(body), steered)
            except _Failure as failure:
                self._failed(failure, probe)
                raise
            except AskError:
                self.breaker.answered()
                raise
            except BaseException:
                if probe:
                    self.breaker.abandoned()
                raise
            self.breaker.answered()
            return reply

    async def _turn(self) -> bool:
        """Waits for the breaker and the limit; True where this request is the breaker's probe."""
        while True:
            probe = await self.breaker.enter()
            try:
                await self._limit.take()
            except asyncio.CancelledError:
                if probe:
                    self.breaker.abandoned()
                raise
            if probe or self.breaker.state == "closed":  # it may have opened meanwhile
                return probe

    def _failed(self, failure: _Failure, probe: bool) -> None:
        if failure.cause != "rate_limited":
            return self.breaker.failed(failure.why, probe, unreachable=not failure.spent)
        self.breaker.answered()
        if failure.wait is not None:
            if failure.wait > self.config.give_up_after:
                raise self.breaker.end(f"it asks to wait {failure.wait:.0f} s: {failure.why}") from None
            self._limit.pause(failure.wait)
        return None

    async def _post(self, body: bytes) -> dict[str, Any]:
        if self._session is None:
            self._session = _session(self._headers, self._timeout)
        self.traffic.attempts += 1
        self.traffic.in_flight += 1
        try:
            async with self._session.post(self._url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise self.breaker.end(str(error)) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _Failure("connection", f"can't be reached: {error}", spent=False) from None
        except TimeoutError:
            raise _Failure("timeout", f"no answer within {self.config.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failure("connection", f"connection lost: {error or type(error).__name__}") from None
        finally:
            self.traffic.in_flight -= 1
        answer = _json(content)
        if response.status == 200 and "error" not in answer:
            return answer
        raise self._problem(response.status, answer, response.headers)

    def _problem(self, status: int, answer: dict[str, Any], headers: Mapping[str, str]) -> Exception:
        """What an answer that is an error means for this ask, or for all of them."""
        why, param, code = _error(status, answer)
        if status == 429 and code != "insufficient_quota":
            wait = _retry_after(headers)
            return _Failure("rate_limited", why, spent=wait is None, wait=wait)
        if status == 200 or status == 408 or status >= 500:
            cause: Cause = "timeout" if status in (408, 504) else "server_error"
            return _Failure(cause, why, spent=status not in UNREACHABLE)
        if status < 400 or status == 429 or (status in OF_THE_ENDPOINT and not param.startswith("steering")):
            hint = f" (the key is ${self.config.key_env})" if status == 401 and self.config.key_env else ""
            return self.breaker.end(f"{self._url} answers {why}{hint}")
        return AskError("refused", f"{self.name}: {why}")

    def _body(self, ask: Ask) -> bytes:
        body: dict[str, Any] = {
            "model": self.config.model,
            "messages": ask.messages,
            "temperature": ask.temperature,
            "top_p": ask.top_p,
            "max_tokens": ask.max_tokens,
        }
        if ask.seed is not None:
            body["seed"] = ask.seed
        if ask.schema is not None and self.config.structured:
            form = {"name": "answer", "strict": True, "schema": ask.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if ask.steering is not None:
            body["steering"] = ask.steering
        body.update(self._extra)
        for key in self._left_out:
            body.pop(key, None)
        return json.dumps(body).encode()


def _session(headers: dict[str, str], timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        skip_auto_headers=["Accept-Encoding", "User-Agent"],
        timeout=timeout,
    )


def _headers(config: EndpointConfig, name: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": "vllm-tiller"}
    if config.key_env is None:
        return headers
    key = os.environ.get(config.key_env, "").strip()
    if not key:
        raise EndpointError(f"its key is expected in ${config.key_env}, which is not set", f"endpoint {name}")
    return {**headers, "Authorization": f"Bearer {key}"}


def _proxy(url: str) -> str | None:
    """The proxy of the environment for a URL; none on the loopback interface, whatever the environment says."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host.startswith(LOOPBACK) or proxy_bypass(host):
        return None
    return getproxies().get(parts.scheme)


def _json(content: bytes) -> dict[str, Any]:
    """An answer's body; {} where it is no JSON object, as error pages of proxies are."""
    try:
        answer = json.loads(content)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _error(status: int, answer: dict[str, Any]) -> tuple[str, str, str]:
    """Message (with the field that it is about), param and code of an answer in OpenAI's error shape, or in any other."""
    error = answer.get("error")
    fields = error if isinstance(error, dict) else {}
    param, code = str(fields.get("param") or ""), str(fields.get("code") or "")
    message = str(fields.get("message") or error or answer.get("detail") or answer.get("message") or "no message")
    where = f"{param}: " if param and param not in message else ""
    return f"HTTP {status}: {where}{' '.join(message.split())[:500]}", param, code


def _reply(answer: dict[str, Any], steered: bool) -> Reply:
    """What an answer says. Raises AskError where the model or its guard declined, _Failure where it isn't an answer."""
    try:
        choice = answer["choices"][0]
        message, finish_reason = choice["message"], choice["finish_reason"]
        text, refusal, usage = message["content"], message.get("refusal"), answer.get("usage") or {}
        prompt_tokens, completion_tokens = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _Failure("bad_reply", "its answer is not a chat completion, or is cut short") from None
    if refusal or finish_reason == "content_filter":
        raise AskError("refused", f"declined by the endpoint: {refusal or finish_reason}")
    if not isinstance(text, str) or finish_reason in NO_TEXT:
        raise _Failure("bad_reply", f"no text in its answer (finish_reason {finish_reason!r})")
    if steered and "steering" not in answer:
        unsteered = (
            "its answer has no receipt, so nothing was steered; steering needs a server started by `tiller serve`"
        )
        raise AskError("refused", unsteered)
    receipt = answer.get("steering") if steered else None
    return Reply(
        text=text,
        finish_reason="length" if finish_reason == "length" else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        receipt=receipt,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
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


def _backoff(tries: int) -> float:
    """Seconds before try number `tries` + 1: a random part of a span that doubles, so that clients don't come in step."""
    return random.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (tries - 1)))
