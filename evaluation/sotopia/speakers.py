"""Who speaks in a run: the config's model in this process, served elsewhere or as replicas, or another endpoint."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from tiller.engine.config import Config
from tiller.evaluation.inputs import InputError

from .ask import Speaker
from .manifest import identity
from .settings import EndpointConfig, settings_of

DEFAULT_IN_FLIGHT = 256  # of an engine whose config doesn't say max_num_seqs


@dataclass(frozen=True)
class Voices:
    """Both speakers of a run, told by options and not started yet; None is the config's own model.

    replicas: where the config's model is served; num_actors: how many Ray actors run it. Without either it runs here.
    """

    config: Config
    agent: EndpointConfig | None = None
    partner: EndpointConfig | None = None
    replicas: tuple[EndpointConfig, ...] = ()
    num_actors: int = 0

    @property
    def needs_model(self) -> bool:
        """Whether the config's own model speaks."""
        return self.agent is None or self.partner is None

    @property
    def models(self) -> tuple[str, str]:
        """What names the agent's and the partner's model in units."""
        own = identity(self.config) if self.needs_model else ""
        return tuple(own if e is None else e.model for e in (self.agent, self.partner))  # type: ignore[return-value]

    @property
    def max_in_flight(self) -> int:
        """As many episodes as whoever has room for most of them takes at a time."""
        engine = self.config.engine.get("max_num_seqs", DEFAULT_IN_FLIGHT) * (self.num_actors or 1)
        own = sum(e.max_in_flight for e in self.replicas) or engine
        others = [e.max_in_flight for e in (self.agent, self.partner) if e is not None]
        return max([*others, *([own] if self.needs_model else [])])

    @contextmanager
    def speakers(self) -> Iterator[tuple[Speaker, Speaker]]:
        """The agent and its partner, started; the same speaker where it is the same model."""
        with ExitStack() as stack:
            own = stack.enter_context(self._own()) if self.needs_model else None
            agent = own if self.agent is None else _endpoint("agent", self.agent)
            partner = own if self.partner is None else _endpoint("partner", self.partner)
            assert agent is not None and partner is not None
            yield agent, partner

    @contextmanager
    def _own(self) -> Iterator[Speaker]:
        if self.replicas:
            from .pool import endpoint_speaker

            yield endpoint_speaker({e.url: e for e in self.replicas})
        elif self.num_actors:
            from .pool import Pool
            from .replicas import ray_speakers

            yield Pool(ray_speakers(self.config, self.num_actors))
        else:
            from tiller.evaluation.boot import boot

            from .local import LocalSpeaker

            with boot(self.config) as llm:
                yield LocalSpeaker(llm)


def choose_voices(
    config: Config,
    name: str,
    agent: str | None = None,
    partner: str | None = None,
    endpoints: str | None = None,
    num_actors: int = 0,
) -> Voices:
    """`agent` and `partner` as `find_endpoint` takes them; `endpoints`: URLs or names, commas between; `name`: the config's.

    Raises InputError where the options contradict each other or name no endpoint.
    """
    known = settings_of(config).endpoints
    voices = Voices(
        config,
        None if agent is None else find_endpoint(known, agent, "--agent"),
        None if partner is None else find_endpoint(known, partner, "--partner"),
        tuple(_replica(config, name, known, given.strip()) for given in (endpoints or "").split(",") if given.strip()),
        num_actors,
    )
    if voices.replicas and num_actors:
        raise InputError("either --endpoints or --ray; both say where the config's model runs")
    if not voices.needs_model and (voices.replicas or num_actors):
        raise InputError(
            "--agent and --partner leave nothing to say to the config's model; leave --endpoints and --ray out"
        )
    return voices


def find_endpoint(known: Mapping[str, EndpointConfig], given: str, option: str) -> EndpointConfig:
    """One of the config's endpoints by its name, or MODEL@URL."""
    if given in known:
        return known[given]
    model, _, url = given.partition("@")
    if not url:
        names = ", ".join(known) or "none"
        raise InputError(f"no endpoint {given!r}; give MODEL@URL, or one of evaluation.endpoints: {names}", option)
    return _checked(model, url, option)


def _replica(config: Config, name: str, known: Mapping[str, EndpointConfig], given: str) -> EndpointConfig:
    """One of the config's endpoints, which may have a key; or the config's model as `tiller serve` names it at a URL."""
    if given in known:
        return known[given]
    model = Path(name).stem if Path(config.resolve(config.model)).exists() else config.model
    endpoint = _checked(model, given, "--endpoints")
    return endpoint.model_copy(update={"max_in_flight": config.engine.get("max_num_seqs", DEFAULT_IN_FLIGHT)})


def _checked(model: str, url: str, option: str) -> EndpointConfig:
    try:
        return EndpointConfig(url=url, model=model)
    except ValidationError:
        raise InputError(f"{url!r} is no URL such as http://127.0.0.1:8000/v1", option) from None


def _endpoint(name: str, endpoint: EndpointConfig) -> Speaker:
    from .endpoint import EndpointSpeaker

    return EndpointSpeaker(endpoint, name)
