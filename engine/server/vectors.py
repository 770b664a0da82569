"""Steering vectors registered while the server runs: known to the front end by name, to the workers by content."""

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from tiller.engine.errors import ConfigError
from tiller.engine.inventory import PLAN_KEY, VectorEntry
from tiller.engine.sae.vector import read_vector, vector_version
from tiller.engine.spec import SteeringSpec

from .files import check_name, delete_file, stored_files, write_file
from .problems import Conflict, NotFound

if TYPE_CHECKING:
    from .server import Server

MAX_REGISTERED = 256


class Vectors:
    """A deleted vector stays, as `name@version`, until the last request that named it has ended: in the plan, since vLLM's
    front end checks a spec again when its stream begins, and with the workers."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._runtime: set[str] = set()
        self._held: Counter[str] = Counter()  # requests under way, by pinned name
        self._leaving: set[str] = set()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        folder = server.settings.folder
        self._folder = None if folder is None else folder / "vectors"

    async def load(self) -> None:
        """Registers what an earlier run has stored; a file that can't be read or doesn't fit the engine is skipped."""
        for name, path in stored_files(self._folder, ".safetensors"):
            with self._server.skipping(path):
                check_name(name)
                if name in self._server.plan.vectors:
                    raise Conflict(f"the config has a vector {name!r}", "name")
                await self._add(name, None, path.read_bytes())

    async def register(self, name: str, layer: int | None, data: bytes) -> VectorEntry:
        """A new vector out of the bytes of a safetensors file; `layer` None means as its metadata say.

        Raises SpecError where it doesn't fit the engine, Conflict where the name is taken.
        """
        async with self._changing:
            if name in self._server.plan.vectors:
                raise Conflict(f"vector {name!r} exists; delete it first", "name")
            if len(self._runtime) >= MAX_REGISTERED:
                raise Conflict(f"{MAX_REGISTERED} vectors are registered already; delete one", "name")
            return await self._add(name, layer, data, store=True)

    async def delete(self, name: str) -> None:
        """Raises NotFound, or Conflict for a vector of the config. Requests under way keep it."""
        async with self._changing:
            plan = self._server.plan
            if name not in plan.vectors:
                raise NotFound(
                    f"no vector {name!r}; there are: {', '.join(sorted(plan.named_vectors)) or 'none'}", "name"
                )
            if name not in self._runtime:
                raise Conflict(f"vector {name!r} comes from the config; edit that", "name")
            key = f"{name}@{plan.vectors[name].version}"
            delete_file(self._folder, f"{name}.safetensors")
            self._publish({key if n == name else n: entry for n, entry in plan.vectors.items()})
            self._runtime.discard(name)
            self._leaving.add(key)
            await self._remove_unused()

    def is_runtime(self, name: str) -> bool:
        return name in self._runtime

    def hold(self, spec: SteeringSpec) -> None:
        """Keeps the vectors of a request that is about to run."""
        self._held.update(edit.pinned for edit in spec.vectors)

    def let_go(self, spec: SteeringSpec) -> None:
        """The request has ended."""
        self._held.subtract(edit.pinned for edit in spec.vectors)
        if any(edit.pinned in self._leaving for edit in spec.vectors):
            task = asyncio.get_running_loop().create_task(self._clean())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _clean(self) -> None:
        async with self._changing:
            await self._remove_unused()

    async def _remove_unused(self) -> None:
        for key in [key for key in self._leaving if self._held[key] <= 0]:
            self._leaving.discard(key)
            del self._held[key]
            self._publish({n: entry for n, entry in self._server.plan.vectors.items() if n != key})
            await self._server.engine.collective_rpc("tiller_remove_vector", args=(key,))

    async def _add(self, name: str, layer: int | None, data: bytes, store: bool = False) -> VectorEntry:
        try:
            vector, own_layer = read_vector(data)
        except ConfigError as error:
            raise ConfigError(error.message, "file") from None
        layer = own_layer if layer is None else layer
        self._check(len(vector), layer)
        assert layer is not None
        entry = VectorEntry(path="", layer=layer, version=vector_version(vector, layer), norm=float(vector.norm()))
        key = f"{name}@{entry.version}"
        if store and self._folder is not None:
            write_file(self._folder, f"{name}.safetensors", with_layer(data, layer))
        self._leaving.discard(key)
        try:
            await self._server.engine.collective_rpc("tiller_add_vector", args=(key, layer, vector.numpy().tobytes()))
        except BaseException:
            if store:
                delete_file(self._folder, f"{name}.safetensors")
            raise
        self._server.skipped.pop(f"vectors/{name}.safetensors", None)
        self._publish({**{n: e for n, e in self._server.plan.vectors.items() if n != key}, name: entry})
        self._runtime.add(name)
        return entry

    def _check(self, length: int, layer: int | None) -> None:
        d_model = self._server.d_model
        if length != d_model:
            raise ConfigError(f"it has {length} entries, the model's residual stream has {d_model}", "file")
        sites = self._server.plan.layers
        if layer not in sites:
            given = "no layer" if layer is None else f"layer {layer}"
            raise ConfigError(f"{given} given; this server steers at: {', '.join(map(str, sites))}", "layer")

    def _publish(self, vectors: dict[str, VectorEntry]) -> None:
        """Makes a new plan the one that requests are checked against; the workers go by content and need no notice."""
        plan = self._server.plan.model_copy(update={"vectors": vectors})
        self._server.engine.vllm_config.additional_config[PLAN_KEY] = plan.model_dump(mode="json")


def with_layer(data: bytes, layer: int) -> bytes:
    """The same safetensors file, saying which layer it is for."""
    from safetensors.torch import load, save

    return save(load(data), metadata={"layer": str(layer)})
