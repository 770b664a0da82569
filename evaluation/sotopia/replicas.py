"""Replicas of the engine as Ray actors, on this machine or over a cluster."""

import logging
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tiller.engine.config import Config
from tiller.engine.errors import TillerError
from tiller.evaluation.inputs import InputError

from .ask import Ask, AskError, EndpointError, Reply

MAX_ASKS = 10_000  # that one replica has at a time
MAX_BOOTS = 3  # in a row without one answer, after which a replica counts as gone
OBJECT_STORE_BYTES = 80 * 2**20  # asks and replies are small and hardly use it

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """An exception as plain data; those of several arguments don't survive being pickled."""

    message: str
    field: str | None = None
    cause: Any = None  # of an AskError; None for a TillerError

    @classmethod
    def of(cls, error: AskError | TillerError) -> "Problem":
        if isinstance(error, AskError):
            return cls(error.message, cause=error.cause)
        return cls(error.message, error.field)

    def error(self) -> AskError | TillerError:
        return AskError(self.cause, self.message) if self.cause else TillerError(self.message, self.field)


class Host:
    """An engine and its speaker inside an actor; its event loop steps the engine for all asks at once."""

    def __init__(self) -> None:
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else replicas of one machine share a core
        self._stack = ExitStack()
        self._speaker: Any = None

    async def boot(self, config: Config) -> Problem | None:
        """Starts the engine; what is wrong with the config comes back."""
        from tiller.evaluation.boot import boot

        from .local import LocalSpeaker

        try:
            self._speaker = LocalSpeaker(self._stack.enter_context(boot(config)))
        except TillerError as error:
            return Problem.of(error)
        return None

    async def ask(self, ask: Ask) -> Reply | Problem:
        try:
            return await self._speaker.ask(ask)
        except (AskError, TillerError) as error:
            return Problem.of(error)

    async def pid(self) -> int:
        return os.getpid()


class Session:
    """This process's part in a Ray cluster, which it leaves with its last replica."""

    def __init__(self, ray: Any, num_replicas: int) -> None:
        self.ray = ray
        self._left = num_replicas
        self._own = not ray.is_initialized()
        if self._own:
            _init(ray, num_replicas)

    def leave(self) -> None:
        self._left -= 1
        if self._left == 0 and self._own:
            self.ray.shutdown()


class RaySpeaker:
    """One replica: an actor with an engine of its own. When it dies its asks are given back and another is started.

    Raises EndpointError from `ask` where the engine doesn't start.
    """

    next_try = 0.0  # nobody knows when an engine has started

    def __init__(self, session: Session, config: Config, name: str, needs: dict[str, float]) -> None:
        self.name = name
        self._session, self._ray = session, session.ray
        self._config = config
        self._actor = self._ray.remote(max_concurrency=MAX_ASKS, **needs)(Host)
        self._boots = 0
        self._gone: EndpointError | None = None
        self._closed = False
        self._start()

    @property
    def ready(self) -> bool:
        """False while the engine starts; one that is gone is ready to say so."""
        if self._booting is not None and self._ray.wait([self._booting], timeout=0)[0]:
            self._booted()
        return self._booting is None

    @property
    def notice(self) -> str:
        return "" if self._booting is None else f"{self.name}: its engine starts"

    async def ask(self, ask: Ask) -> Reply:
        if not self.ready:
            raise AskError("lost_replica", f"{self.name} is starting", reached=False)
        if self._gone is not None:
            raise self._gone
        host, errors = self._host, self._ray.exceptions
        try:
            answer = await host.ask.remote(ask)
        except (errors.RayActorError, errors.RayTaskError) as error:
            self._check_steered(error)
            self._lost(host, error)
            raise AskError("lost_replica", f"{self.name} was lost: {_first_line(error)}") from None
        self._boots = 0
        if isinstance(answer, Problem):
            raise answer.error()
        return answer

    async def pid(self) -> int:
        """Of the actor's process."""
        return await self._host.pid.remote()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._ray.kill(self._host)
            self._session.leave()

    def _start(self) -> None:
        self._boots += 1
        self._host = self._actor.remote()
        self._booting = self._host.boot.remote(self._config)

    def _booted(self) -> None:
        booting, self._booting = self._booting, None
        try:
            problem = self._ray.get(booting)
        except self._ray.exceptions.RayError as error:
            if self._boots < MAX_BOOTS:
                return self._lost(self._host, error)
            problem = Problem(f"its engine died {MAX_BOOTS} times in a row: {_first_line(error)}")
        if problem is not None:
            where = f"{self.name}: {problem.field}" if problem.field else self.name
            self._gone = EndpointError(problem.message, where)

    def _lost(self, host: Any, error: Exception) -> None:
        """Starts another engine, unless that has been done for an earlier ask of the same one."""
        if host is not self._host or self._closed:
            return
        log.warning("%s was lost, another one is started: %s", self.name, _first_line(error))
        self._ray.kill(host)
        self._start()

    def _check_steered(self, error: Exception) -> None:
        """An unsteered answer is a bug of ours, which no other replica would mend."""
        from tiller.engine.receipt import UnsteeredError

        cause = getattr(error, "cause", None)
        if isinstance(cause, UnsteeredError):
            raise cause


def ray_speakers(config: Config, num: int) -> list[RaySpeaker]:
    """`num` replicas of a config's engine, for a Pool: on the cluster of RAY_ADDRESS, else on this machine.

    They start on their own, while the first asks wait. On a cluster the package, the model and the dictionaries have to
    lie on every node under the same paths. Raises InputError where ray is missing, or the cluster has no room for them.
    """
    try:
        import ray
    except ImportError:
        raise InputError("ray is missing: pip install vllm-tiller[ray]", "--ray") from None
    session = Session(ray, num)
    needs = _needs(config, num, ray.cluster_resources())
    return [RaySpeaker(session, config, f"replica {index}", needs) for index in range(num)]


def _init(ray: Any, num_replicas: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if "RAY_ADDRESS" in os.environ:
        ray.init(address=os.environ["RAY_ADDRESS"], **quiet)
        return
    cpus = max(num_replicas, os.cpu_count() or 1)
    ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)


def _needs(config: Config, num: int, resources: dict[str, float]) -> dict[str, float]:
    """What Ray sets aside for one replica; its number of threads follows from the CPUs."""
    from tiller.engine.build_inventory import model_shape
    from tiller.engine.server.launch import SMALL_D_MODEL

    sizes = [config.engine.get(name, 1) for name in ("tensor_parallel_size", "pipeline_parallel_size")]
    gpus = sizes[0] * sizes[1] if resources.get("GPU") else 0
    is_small = model_shape(config.resolve(config.model))[0] <= SMALL_D_MODEL
    cpus = 1 if gpus or is_small else max(1, int(resources.get("CPU", 1) // num))
    for kind, each in (("GPU", gpus), ("CPU", cpus)):
        if num * each > resources.get(kind, 0):
            there = f"the cluster has {resources.get(kind, 0):g}"
            raise InputError(f"{num} replicas of {each} {kind} each don't fit: {there}", "--ray")
    return {"num_gpus": gpus, "num_cpus": cpus}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
