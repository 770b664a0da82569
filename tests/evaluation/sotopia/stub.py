"""An OpenAI-compatible endpoint that answers at once, from the prompt and the seed alone, and fails as often as it is told.

    python stub.py --port 0 --fault-rate 0.1

prints its port, then answers /v1/chat/completions until it is ended. GET /stub tells what it has seen, POST /stub changes
its settings. Equal asks get equal answers whatever failed before, so that runs can be compared.
"""

import argparse
import asyncio
import hashlib
import json
import random
import socket
import struct
import time
from collections import Counter
from email.utils import formatdate
from typing import Any

FAULTS = ("500", "429", "hang", "truncated", "cut_off", "reset")
WORDS = "well then maybe we could meet halfway if you like the small blue one on Monday for forty".split()
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close sends RST


class Settings:
    """What POST /stub may change."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.fault_rate: float = given.fault_rate
        self.faults: list[str] = given.faults
        self.fault_seed: int = given.fault_seed
        self.retry_after: str = given.retry_after  # seconds, or "date" for the HTTP date one second ahead
        self.delay: float = given.delay  # seconds before each answer
        self.receipts: bool = not given.no_receipts
        self.key: str = given.key
        self.leave: float = given.leave  # share of actions that may be something else than words


class Stub:
    """Settings and counts that all connections share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.random = random.Random(settings.fault_seed)
        self.counts: Counter[str] = Counter()
        self.times: list[float] = []
        self.last: dict[str, Any] = {}
        self.in_flight = self.most_in_flight = 0

    def fault(self) -> str | None:
        """What goes wrong with this request, drawn in the order of arrival."""
        drawn = self.random.random()
        return self.random.choice(self.settings.faults) if drawn < self.settings.fault_rate else None

    def seen(self) -> dict[str, Any]:
        counts = {"counts": dict(self.counts), "most_in_flight": self.most_in_flight}
        return {**counts, "times": self.times[-10_000:], "last": self.last}

    def change(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            assert name in vars(self.settings), name
            setattr(self.settings, name, value)


class Connection(asyncio.Protocol):
    """One client's connection: requests one after the other."""

    transport: asyncio.Transport

    def __init__(self, stub: Stub) -> None:
        self.stub = stub
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].decode("latin-1")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
        length = int(headers.get("content-length", 0))
        if len(self.buffer) < end + 4 + length:
            return
        body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
        method, path, _ = head.split(" ", 2)
        self.answer(method, path, headers, body)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        if path == "/stub":
            if method == "POST":
                self.stub.change(json.loads(body))
            return self.send(200, self.stub.seen())
        if method != "POST" or not path.endswith("/chat/completions"):
            return self.send(404, error("no such route", "path"))
        stub, settings = self.stub, self.stub.settings
        stub.counts["asks"] += 1
        stub.times.append(time.monotonic())
        stub.in_flight += 1
        stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
        if settings.delay:
            asyncio.get_running_loop().call_later(settings.delay, self.complete, headers, body)
        else:
            self.complete(headers, body)

    def complete(self, headers: dict[str, str], body: bytes) -> None:
        stub, settings = self.stub, self.stub.settings
        stub.in_flight -= 1
        if self.transport.is_closing():
            return None
        if settings.key and headers.get("authorization") != f"Bearer {settings.key}":
            return self.send(401, error("Incorrect API key provided", None))
        fault = stub.fault()
        if fault is not None:
            stub.counts[fault] += 1
            return self.fail(fault, body)
        asked = json.loads(body)
        stub.last = {"body": asked, "headers": headers}
        if asked["model"].endswith("nobody"):
            return self.send(404, error(f"The model `{asked['model']}` does not exist.", "model"))
        if asked.get("steering") == "bad":
            return self.send(400, error("it must be an object", "steering"))
        stub.counts["answers"] += 1
        return self.send(200, completion(asked, settings))

    def fail(self, fault: str, body: bytes) -> None:
        settings = self.stub.settings
        if fault == "500":
            self.send(500, error("the engine stumbled", None))
        elif fault == "503":
            self.send(503, error("not now", None))
        elif fault == "429":
            after = formatdate(time.time() + 1, usegmt=True) if settings.retry_after == "date" else settings.retry_after
            self.send(429, error("slow down", None), f"Retry-After: {after}\r\n" if after else "")
        elif fault == "truncated":  # well-formed HTTP around half of the JSON
            whole = json.dumps(completion(json.loads(body), settings)).encode()
            self.send(200, whole[: len(whole) // 2])
        elif fault == "cut_off":  # fewer bytes than promised
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{")
            self.transport.close()
        elif fault == "reset":
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.transport.abort()
        else:
            assert fault == "hang", fault

    def send(self, status: int, content: Any, extra: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{extra}Content-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def error(message: str, param: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "stub", "param": param, "code": None}}


def completion(asked: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The answer to a chat: free text, or what its JSON schema allows, drawn from a hash of the ask."""
    facts = [asked["messages"], asked.get("seed"), asked.get("steering")]
    draw = random.Random(hashlib.blake2b(json.dumps(facts).encode(), digest_size=8).digest())
    form = asked.get("response_format", {}).get("json_schema", {}).get("schema")
    text = words(draw) if form is None else json.dumps(filled(form, draw, settings, form))
    prompt_tokens = sum(len(message["content"]) for message in asked["messages"]) // 4
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": len(text) // 4}
    message = {"role": "assistant", "content": text}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    if asked.get("steering") and settings.receipts:
        answer["steering"] = {
            "spec_hash": hashlib.sha256(json.dumps(asked["steering"]).encode()).hexdigest(),
            "tokens_in_scope": prompt_tokens,
            "tokens_steered": prompt_tokens,
            "tokens_cached": 0,
        }
    return answer


def words(draw: random.Random) -> str:
    return " ".join(draw.choices(WORDS, k=8))


def filled(form: dict[str, Any], draw: random.Random, settings: Settings, root: dict[str, Any]) -> Any:
    """Something that a JSON schema allows, as far as those of actions and judges go."""
    if "$ref" in form:
        return filled(root["$defs"][form["$ref"].rsplit("/", 1)[1]], draw, settings, root)
    if "const" in form:
        return form["const"]
    if "enum" in form:
        return choice(form["enum"], draw, settings)
    for key in ("anyOf", "oneOf"):
        if key in form:
            spoken = [branch for branch in form[key] if '"speak"' in json.dumps(branch)]
            branches = spoken if spoken and draw.random() >= settings.leave else form[key]
            return filled(draw.choice(branches), draw, settings, root)
    kind = form.get("type")
    if kind == "object":
        return {name: filled(part, draw, settings, root) for name, part in form.get("properties", {}).items()}
    if kind == "array":
        parts = form.get("prefixItems") or [form["items"]] * form.get("minItems", 1)
        return [filled(part, draw, settings, root) for part in parts]
    if kind in ("integer", "number"):
        return draw.randint(form.get("minimum", 0), form.get("maximum", 10))
    if kind == "boolean":
        return draw.random() < 0.5
    return words(draw)[: form.get("maxLength", 600)]


def choice(options: list[Any], draw: random.Random, settings: Settings) -> Any:
    if "speak" in options and draw.random() >= settings.leave:
        return "speak"
    return draw.choice(options)


async def serve(settings: Settings, port: int) -> None:
    stub = Stub(settings)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stub), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault-rate", type=float, default=0.0)
    parser.add_argument("--faults", nargs="+", default=list(FAULTS))
    parser.add_argument("--fault-seed", type=int, default=0)
    parser.add_argument("--retry-after", default="1")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--no-receipts", action="store_true")
    parser.add_argument("--key", default="")
    parser.add_argument("--leave", type=float, default=0.0)
    given = parser.parse_args()
    asyncio.run(serve(Settings(given), given.port))


if __name__ == "__main__":
    main()
