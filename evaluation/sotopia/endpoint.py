"""A speaker behind any OpenAI-compatible /chat/completions."""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from .ask import Ask, AskError, Cause, Reply
from .breaker import Breaker
from .endpoint_answer import Failure, error_of, json_object, reply_of, retry_after
from .endpoint_session import headers_of, open_session, proxy_of
from .limit import RateLimit
from .settings import EndpointConfig

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds
OF_THE_ENDPOINT = (
    401,
    402,
    403,
    404,
    405,
)  # wrong key, no money, no right, no such model or route: alike for every ask
UNREACHABLE = (502, 503)  # what a gateway says of the server behind it


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
        self._proxy = proxy_of(config.url)
        self._headers = headers_of(config, name)
        self._extra = {key: value for key, value in config.extra_body.items() if value is not None}
        self._left_out = config.extra_body.keys() - self._extra.keys()
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
            except Failure as failure:
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
                raise Failure("connection", self.breaker.last_failure or "it asks to wait", spent=False)
            probe = False
            try:
                probe = await self._turn()
                reply = reply_of(await self._post(body), steered)
            except Failure as failure:
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

    def _failed(self, failure: Failure, probe: bool) -> None:
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
            self._session = open_session(self._headers, self.config.timeout)
        self.traffic.attempts += 1
        self.traffic.in_flight += 1
        try:
            async with self._session.post(self._url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                content = await response.read()
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise self.breaker.end(str(error)) from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Failure("connection", f"can't be reached: {error}", spent=False) from None
        except TimeoutError:
            raise Failure("timeout", f"no answer within {self.config.timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Failure("connection", f"connection lost: {error or type(error).__name__}") from None
        finally:
            self.traffic.in_flight -= 1
        answer = json_object(content)
        if response.status == 200 and "error" not in answer:
            return answer
        raise self._problem(response.status, answer, response.headers)

    def _problem(self, status: int, answer: dict[str, Any], headers: Mapping[str, str]) -> Exception:
        """What an answer that is an error means for this ask, or for all of them."""
        why, param, code = error_of(status, answer)
        if status == 429 and code != "insufficient_quota":
            wait = retry_after(headers)
            return Failure("rate_limited", why, spent=wait is None, wait=wait)
        if status == 200 or status == 408 or status >= 500:
            cause: Cause = "timeout" if status in (408, 504) else "server_error"
            return Failure(cause, why, spent=status not in UNREACHABLE)
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


def _backoff(tries: int) -> float:
    """Seconds before try number `tries` + 1: a random part of a span that doubles, so that clients don't come in step."""
    return random.uniform(0, min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (tries - 1)))
