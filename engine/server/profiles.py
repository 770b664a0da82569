"""Named steering that a client asks for by the model's name, `<served>:<profile>`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from tiller.engine.config import Config, SamplingDefaults
from tiller.engine.spec import SteeringSpec, parse_spec

from .files import check_name, delete_file, stored_files, write_file
from .problems import Conflict, NotFound

if TYPE_CHECKING:
    from .server import Server

MAX_PROFILES = 1024


@dataclass(frozen=True)
class Profile:
    """A spec, and the sampling that goes with it where a request doesn't say."""

    name: str
    steering: dict[str, Any]
    spec: SteeringSpec
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    source: Literal["config", "runtime"] = "runtime"

    def to_dict(self) -> dict[str, Any]:
        """As GET /v1/steering/profiles lists it."""
        defaults = self.defaults.model_dump(exclude_none=True)
        return {"name": self.name, "steering": self.steering, "defaults": defaults, "source": self.source}


class StoredProfile(BaseModel):
    """A file in --steering-dir."""

    model_config = ConfigDict(extra="forbid")
    steering: dict[str, Any]
    defaults: SamplingDefaults = SamplingDefaults()


class Profiles:
    """The config's, which stay, and those registered at run time."""

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._profiles: dict[str, Profile] = {}
        folder = server.settings.folder
        self._folder = None if folder is None else folder / "profiles"

    def load(self, config: Config | None) -> None:
        """Takes the config's profiles and those that an earlier run has stored; a file that can't be read or doesn't fit the
        engine is skipped. Raises TillerError where a profile of the config doesn't fit.
        """
        for name in config.profiles if config else ():
            body, defaults = config.profile_body(name), config.profile_defaults(name)  # type: ignore[union-attr]
            self._profiles[name] = Profile(name, body, config.profile(name), defaults, "config")  # type: ignore[union-attr]
        for name, path in stored_files(self._folder, ".json"):
            with self._server.skipping(path):
                check_name(name)
                if name in self._profiles:
                    raise Conflict(f"the config has a profile {name!r}", "name")
                stored = StoredProfile.model_validate_json(path.read_bytes())
                self._profiles[name] = self._made(name, stored.steering, stored.defaults)

    def register(self, name: str, steering: dict[str, Any], defaults: SamplingDefaults) -> Profile:
        """A new profile, checked against the engine.

        Raises SpecError where its spec is wrong, Conflict where the name is taken.
        """
        if name in self._profiles:
            raise Conflict(f"profile {name!r} exists; delete it first", "name")
        if len(self._profiles) >= MAX_PROFILES:
            raise Conflict(f"there are {MAX_PROFILES} profiles already; delete one", "name")
        profile = self._made(name, steering, defaults)
        if self._folder is not None:
            body = StoredProfile(steering=steering, defaults=defaults)
            write_file(self._folder, f"{name}.json", body.model_dump_json(exclude_none=True).encode())
        self._server.skipped.pop(f"profiles/{name}.json", None)
        self._profiles[name] = profile
        return profile

    def delete(self, name: str) -> None:
        """Raises NotFound, or Conflict for a profile of the config."""
        if self.get(name).source == "config":
            raise Conflict(f"profile {name!r} comes from the config; edit that", "name")
        delete_file(self._folder, f"{name}.json")
        del self._profiles[name]

    def get(self, name: str) -> Profile:
        """Raises NotFound."""
        if name not in self._profiles:
            raise NotFound(f"no profile {name!r}; there are: {', '.join(self.names()) or 'none'}", "name")
        return self._profiles[name]

    def find(self, name: str) -> Profile | None:
        return self._profiles.get(name)

    def names(self) -> list[str]:
        return sorted(self._profiles)

    def _made(self, name: str, steering: dict[str, Any], defaults: SamplingDefaults) -> Profile:
        spec = parse_spec(steering)
        self._server.plan.check(spec)
        return Profile(name, steering, spec, defaults)
