"""What a serving process knows: the engine it fronts, profiles, vectors, and receipts under way."""

import asyncio
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from tiller.engine import compat
from tiller.engine.engine_args import config_of
from tiller.engine.errors import TillerError
from tiller.engine.handshake import check_handshake, probe_specs
from tiller.engine.inventory import Plan, plan_of
from tiller.engine.receipt import UnsteeredError
from tiller.engine.spec import SPEC_KEY

from . import metrics
from .claims import Claims
from .features import Features
from .problems import Unauthorized, log
from .profiles import Profiles
from .settings import Settings
from .vectors import Vectors

ALIVE_SECONDS = 0.5  # how often a call that takes long looks whether the engine still runs
GAUGE_TIMEOUT = 1.0  # seconds that a scrape waits for the workers


class Server:
    """One for each steered engine of a serving process; `engine.tiller` is None where an engine does not steer."""

    def __init__(self, engine: Any, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        model = engine.vllm_config.model_config
        self.max_model_len: int = model.max_model_len
        self.d_model: int = model.get_hidden_size()
        self.vocab_size: int = model.get_vocab_size()
        self._config = config_of(self.plan)
        self.workers: list[dict[str, Any]] = []
        self.served_names: list[str] = []
        self.claims = Claims(self.call_workers)
        self.vectors = Vectors(self)
        self.profiles = Profiles(self)
        self.features = Features(self)
        self.skipped: dict[str, str] = {}  # files in --steering-dir that were not taken, and why
        self.deliveries: WeakValueDictionary[str, Any] = WeakValueDictionary()

    @property
    def plan(self) -> Plan:
        """What the engine steers at the moment, vectors registered at run time included."""
        plan = plan_of(self.engine.vllm_config.additional_config)
        assert plan is not None
        return plan

    async def start(self, served_names: list[str]) -> None:
        """Proves that the workers steer and loads what earlier runs registered.

        Raises UnsupportedError or UnsteeredError where they don't.
        """
        self.served_names = served_names
        self.workers = await self.call_workers("tiller_describe")
        check_handshake(self.plan, self.workers)
        await self._probe()
        await self.vectors.load()
        self.profiles.load(self._config)
        self.features.load(self._config)

    @contextmanager
    def skipping(self, path: Path) -> Iterator[None]:
        """Notes and logs that the stored file `path` is not taken, where the block can't read it or it doesn't fit."""
        try:
            yield
        except (TillerError, ValidationError, OSError) as error:
            file = f"{path.parent.name}/{path.name}"
            self.skipped[file] = " ".join(str(error).split())
            log.warning(json.dumps({"event": "skipped", "file": file, "reason": self.skipped[file]}))

    async def call_workers(self, method: str, args: tuple = ()) -> list[Any]:
        """Every worker's answer to `method`. Raises UnsteeredError where the engine ends before it answers."""
        call = asyncio.ensure_future(self.engine.collective_rpc(method, args=args))
        while not (await asyncio.wait({call}, timeout=ALIVE_SECONDS))[0]:
            if compat.engine_gone(self.engine):
                call.cancel()
                raise UnsteeredError("the engine ended before it gave a receipt")
        return call.result()

    async def _probe(self) -> None:
        """Sends tokens through every site, as SteeredLLM does; receipts are claimed like any other."""
        from vllm import SamplingParams

        for index, spec in enumerate(probe_specs(self.plan)):
            extra = {SPEC_KEY: spec.model_dump_json(exclude_defaults=True)}
            params = SamplingParams(max_tokens=3, ignore_eos=True, detokenize=False, extra_args=extra)
            async for _ in self.engine.generate({"prompt_token_ids": [0]}, params, f"tiller-probe-{index}"):
                pass

    def decode(self, token: int) -> str:
        return self.engine.get_tokenizer().decode([token])

    def check_key(self, given: str | None) -> None:
        """Raises Unauthorized unless `given` is the key for changes, where one is set."""
        key = self.settings.api_key
        if key is not None and not hmac.compare_digest((given or "").encode(), key.encode()):
            raise Unauthorized("changes need the steering key: send it as the header X-Steering-Key")

    async def refresh_gauges(self) -> None:
        """Brings the metrics that only workers know up to date; leaves them where the engine is busy or has ended."""
        try:
            call = self.engine.collective_rpc("tiller_gauges")
            workers = await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(call)), GAUGE_TIMEOUT)
        except TimeoutError:
            return
        except Exception:
            if self.engine.errored or compat.engine_gone(self.engine):
                return
            raise
        metrics.ROWS_IN_USE.set(max(worker.get("rows_held", 0) for worker in workers))
        metrics.RECORDS.set(max(worker.get("records", 0) for worker in workers))


def server_of(engine: Any) -> Server | None:
    """The Server of a new engine; None where it was not asked to steer.

    Raises UnsupportedError where its set-up could lose steering.
    """
    config = engine.vllm_config
    if plan_of(config.additional_config) is None:
        return None
    compat.check_supported(config)
    compat.check_servable(config)
    return Server(engine, Settings.from_env())
