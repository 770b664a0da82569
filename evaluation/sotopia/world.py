"""A data set of Sotopia's kind: environments, characters, what these are to each other, and who is cast where."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from pydantic import BaseModel

from tiller.evaluation.inputs import InputError

from .profiles import AgentProfile, EnvAgentCombo, EnvironmentProfile, RelationshipProfile, Scene
from .published import Profile, read_profiles

# The environments of sotopia-hard (list hard_env_set of the published database); all of them, in both seats.
HARD = (
    "01H7VFHNV13MHN97GAH73E3KM8", "01H7VFHN5WVC5HKKVBHZBA553R", "01H7VFHNN7XTR99319DS8KZCQM",
    "01H7VFHN9W0WAFZCBT09PKJJNK", "01H7VFHPDZVVCDZR3AARA547CY", "01H7VFHPQQQY6H4DNC6NBQ8XTG",
    "01H7VFHN7WJK7VWVRZZTQ6DX9T", "01H7VFHN7A1ZX5KSMT2YN9RXC4", "01H7VFHPS5WJW2694R1MNC8JFY",
    "01H7VFHQ11NAMZS4A2RDGDB01V", "01H7VFHPSWGDGEYRP63H2DJKV0", "01H7VFHNF4G18PC9JHGRC8A1R6",
    "01H7VFHNNYH3W0VRWVY178K2TK", "01H7VFHP8AN5643B0NR0NP00VE",
)  # fmt: skip
FILES: dict[type[BaseModel], tuple[str, ...]] = {  # JSON and JSON Lines by these names; folders are Sotopia's local backend
    EnvironmentProfile: ("environment_profiles.jsonl", "environment_profiles.json", "EnvironmentProfile"),
    AgentProfile: ("agent_profiles.jsonl", "agent_profiles.json", "AgentProfile"),
    EnvAgentCombo: (
        "env_agent_combo_storages.jsonl", "env_agent_combo_storages.json", "benchmark_agents.json", "EnvAgentComboStorage",
    ),
    RelationshipProfile: ("relationship_profiles.jsonl", "relationship_profiles.json", "RelationshipProfile"),
}  # fmt: skip


@dataclass(frozen=True)
class World:
    """All by key, in the files' order; a casting's keys are all there."""

    environments: dict[str, EnvironmentProfile]
    agents: dict[str, AgentProfile]
    relationships: dict[str, RelationshipProfile] = field(default_factory=dict)
    combos: dict[str, EnvAgentCombo] = field(default_factory=dict)

    def scenes(self, num: int | None = None, combos: int = 1, only: str | Sequence[str] | None = None) -> list[Scene]:
        """The first `combos` castings of each of the first `num` environments (None: of all), always in the same order.

        only: environments by codename or key, or "hard" for sotopia-hard. Castings are those published, by their key
        as Sotopia-RL takes them, else pairs of the environment's relationship and ages, also with their seats swapped.
        Raises InputError where there are not that many, or where `only` names one that isn't there.
        """
        chosen = self._chosen(only)
        if num is not None and not 1 <= num <= len(chosen):
            raise InputError(f"{num} given; there are {len(chosen)} environments here", "scenarios")
        return [scene for environment in chosen[:num] for scene in self._scenes_of(environment, combos)]

    def _chosen(self, only: str | Sequence[str] | None) -> list[EnvironmentProfile]:
        if only is None:
            return list(self.environments.values())
        names = HARD if only == "hard" else [only] if isinstance(only, str) else only
        known = {name for e in self.environments.values() for name in (e.pk, e.codename)}
        for name in names:
            if name not in known:
                some = ", ".join(sorted({e.codename or e.pk for e in self.environments.values()})[:30])
                raise InputError(f"no environment {name!r}; there are: {some}", "only")
        return [e for e in self.environments.values() if e.pk in names or e.codename in names]

    def _scenes_of(self, environment: EnvironmentProfile, num: int) -> list[Scene]:
        castings = self.castings(environment)
        if num > len(castings):
            name = environment.codename or environment.pk
            raise InputError(f"{num} castings asked for; environment {name} has {len(castings)}", "combos")
        return [
            Scene(environment=environment, agents=(self.agents[first], self.agents[second]))
            for first, second in castings[:num]
        ]

    def castings(self, environment: EnvironmentProfile) -> list[tuple[str, str]]:
        """Keys of the agents in seats 0 and 1, casting by casting."""
        published = sorted(c.pk for c in self.combos.values() if c.env_id == environment.pk)
        if published:
            return [self.combos[pk].agent_ids for pk in published]
        pairs = [
            (r.agent_1_id, r.agent_2_id)
            for r in self.relationships.values()
            if r.relationship == environment.relationship
        ]
        castings = dict.fromkeys([*pairs, *((second, first) for first, second in pairs)])
        return [pair for pair in castings if self._ages_fit(environment, pair) and self.tells_apart(pair)]

    def tells_apart(self, pair: tuple[str, str]) -> bool:
        """Whether two agents have different names."""
        first, second = pair
        return self.agents[first].name != self.agents[second].name

    def _ages_fit(self, environment: EnvironmentProfile, pair: tuple[str, str]) -> bool:
        bounds = age_bounds(environment)
        ages = [self.agents[pk].age for pk in pair]
        return bounds is None or all(low <= age <= high for age, (low, high) in zip(ages, bounds, strict=True))


def age_bounds(environment: EnvironmentProfile) -> list[tuple[int, int]] | None:
    """(youngest, oldest) for each seat; None where any age will do.

    Raises InputError where the constraint is no such literal.
    """
    text = environment.age_constraint
    if text is None:
        return None
    try:
        (low_0, high_0), (low_1, high_1) = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError):
        raise InputError(
            f"{text!r} given; write (youngest, oldest) of each seat, as in [(18, 70), (18, 70)]",
            f"age_constraint of environment {environment.pk}",
        ) from None
    return [(low_0, high_0), (low_1, high_1)]


def shipped() -> Path:
    """The folder of the data set that comes with the package."""
    return Path(str(files("tiller.configs"))) / "sotopia"


def load_world(folder: str | Path | None = None) -> World:
    """The data set in a folder, None: the shipped one. Environments and agents are needed, the rest is not.

    Raises InputError naming file, line and field of what is wrong or missing; then nothing is read.
    """
    root = shipped() if folder is None else Path(folder)
    if not root.is_dir():
        raise InputError("no such folder; give one that holds environment_profiles and agent_profiles", str(root))
    environments = read_profiles(EnvironmentProfile, _needed(root, EnvironmentProfile))
    agents = read_profiles(AgentProfile, _needed(root, AgentProfile))
    relationships = _read_if_there(root, RelationshipProfile)
    combos = _read_if_there(root, EnvAgentCombo)
    world = World(_profiles(environments), _profiles(agents), _profiles(relationships), _profiles(combos))
    for where, combo in combos.values():
        _check_casting(world, combo, where)
    for where, relationship in relationships.values():
        _check_agent(world, relationship.agent_1_id, f"{where}: agent_1_id")
        _check_agent(world, relationship.agent_2_id, f"{where}: agent_2_id")
    return world


def _profiles(placed: dict[str, tuple[str, Profile]]) -> dict[str, Profile]:
    return {pk: profile for pk, (_, profile) in placed.items()}


def _read_if_there(root: Path, kind: type[Profile]) -> dict[str, tuple[str, Profile]]:
    path = _find(root, kind)
    return {} if path is None else read_profiles(kind, path)


def _find(root: Path, kind: type[BaseModel]) -> Path | None:
    there = [root / name for name in FILES[kind] if (root / name).exists()]
    if len(there) > 1:
        raise InputError(f"{' and '.join(path.name for path in there)} hold the same; keep one of them", str(root))
    return there[0] if there else None


def _needed(root: Path, kind: type[BaseModel]) -> Path:
    found = _find(root, kind)
    if found is None:
        raise InputError(f"none of {', '.join(FILES[kind])} is here", str(root))
    return found


def _check_casting(world: World, combo: EnvAgentCombo, where: str) -> None:
    """Raises InputError where a key leads nowhere, or where the two have one name."""
    if combo.env_id not in world.environments:
        raise InputError(f"no environment {combo.env_id!r}", f"{where}: env_id")
    for pk in combo.agent_ids:
        _check_agent(world, pk, f"{where}: agent_ids")
    if not world.tells_apart(combo.agent_ids):
        name = world.agents[combo.agent_ids[0]].name
        raise InputError(f"both are called {name}, and a transcript tells them by name alone", f"{where}: agent_ids")


def _check_agent(world: World, pk: str, where: str) -> None:
    if pk not in world.agents:
        raise InputError(f"no agent {pk!r}", where)
