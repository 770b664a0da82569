"""What the judges of one command are made of: the config's engine, booted once and only if asked for, and endpoints."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property
from typing import Any

from tiller.engine.config import Config

from .ask import Speaker
from .manifest import identity
from .settings import EndpointConfig, settings_of
from .speakers import find_endpoint


class JudgeResources:
    """endpoint: as `find_endpoint` takes it, for every judge that names none of its own. Leave the `with` to shut down."""

    def __init__(self, config: Config, endpoint: str | None = None) -> None:
        self.config = config
        self._known = settings_of(config).endpoints
        self._default = None if endpoint is None else find_endpoint(self._known, endpoint, "--endpoint")
        self._stack = ExitStack()
        self._speakers: dict[str, Speaker] = {}

    def __enter__(self) -> "JudgeResources":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @cached_property
    def model(self) -> str:
        return identity(self.config)

    def resolve(self, path: str) -> str:
        return self.config.resolve(path)

    def engine(self) -> Any:
        return self._engine

    def speaker(self, endpoint: str | None) -> tuple[Callable[[], Speaker], str]:
        config = self._default if endpoint is None else find_endpoint(self._known, endpoint, "evaluation.judges")
        if config is None:
            return self._own_speaker, self.model
        return lambda: self._endpoint_speaker(config), answered_by(config)

    async def close(self) -> None:
        """Ends connections, in the event loop that made them."""
        await asyncio.gather(*(speaker.close() for speaker in self._speakers.values()))

    @cached_property
    def _engine(self) -> Any:
        from tiller.evaluation.boot import boot

        return self._stack.enter_context(boot(self.config))

    def _own_speaker(self) -> Speaker:
        from .local import LocalSpeaker

        if "" not in self._speakers:
            self._speakers[""] = LocalSpeaker(self._engine)
        return self._speakers[""]

    def _endpoint_speaker(self, config: EndpointConfig) -> Speaker:
        from .endpoint import EndpointSpeaker

        key = config.model_dump_json()
        if key not in self._speakers:
            self._speakers[key] = EndpointSpeaker(config, "judge")
        return self._speakers[key]


def answered_by(config: EndpointConfig) -> str:
    """What names an endpoint's model: where it is served doesn't count, what else goes into every request does."""
    more = config.model_dump_json(include={"extra_body", "structured"}, exclude_defaults=True)
    return config.model if more == "{}" else f"{config.model} {more}"
