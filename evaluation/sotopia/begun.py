"""The differences between the run that a folder holds and the one that is asked for, named by option."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .plan import SEATS
from .unit import Unit, digest

Run = dict[str, Any]  # a manifest
SHOWN_CHARS = 60


def differences(begun: Run, now: Run, begun_units: Sequence[Unit], now_units: Sequence[Unit]) -> list[str]:
    """One phrase for each option or key of the config that differs, empty for the same run."""
    if begun.keys() != now.keys():
        return ["a version of tiller began it that wrote down other things of a run"]
    if begun["command"] != now["command"]:
        return [f"`tiller {begun['command']}` was begun, `tiller {now['command']}` given"]
    found = [
        *(_axes(begun_units, now_units) if begun["units"] != now["units"] else ()),
        *_protocol(begun["protocol"], now["protocol"]),
        *_arms(begun, now, begun_units, now_units),
        *_files(begun["files"], now["files"]),
        *_keys(begun["engine"], now["engine"], "engine"),
        *(
            f"{name} {old} began it, {new} is installed"
            for name, old, new in _values(begun["versions"], now["versions"])
        ),
    ]
    found += _models(begun, now)
    return found if found or begun == now else [f"{path} differs" for path, _, _ in _values(begun, now)]


def _axes(begun: Sequence[Unit], now: Sequence[Unit]) -> Iterator[str]:
    if (begun[0].scene is None) != (now[0].scene is None):
        yield "--prompts and --scenarios: " + _given(
            *("episodes" if run[0].scene else "prompts" for run in (begun, now))
        )
        return
    yield from _clusters(begun, now)
    yield from _option("--seat", _seat(begun), _seat(now))
    yield from _option("--seeds", len({unit.seed for unit in begun}), len({unit.seed for unit in now}))


def _clusters(begun: Sequence[Unit], now: Sequence[Unit]) -> Iterator[str]:
    """How many scenes or prompts, and of as many whether they are others."""
    option = "--prompts" if now[0].scene is None else "--scenarios"
    nums = [len({unit.cluster for unit in run}) for run in (begun, now)]
    yield from _option(option, *nums)
    if nums[0] == nums[1] and _contents(begun) != _contents(now):
        other = "other prompts" if now[0].scene is None else "other scenes of --data or evaluation.data"
        yield f"{option}: {other} were begun"


def _contents(units: Sequence[Unit]) -> list[str]:
    return sorted({digest(unit.model_dump(mode="json", include={"scene", "prompt"})) for unit in units})


def _seat(units: Sequence[Unit]) -> str:
    seats = {unit.seat for unit in units}
    return next((name for name, own in SEATS.items() if set(own) == seats), _listed(sorted(seats)))


def _protocol(begun: Run, now: Run) -> Iterator[str]:
    yield from _option("--max-turns", begun.get("max_turns"), now.get("max_turns"))
    yield from _keys({**begun, "max_turns": None}, {**now, "max_turns": None}, "evaluation.protocol")


def _arms(begun: Run, now: Run, begun_units: Sequence[Unit], now_units: Sequence[Unit]) -> Iterator[str]:
    if any(unit.arm.alpha is not None for run in (begun_units, now_units) for unit in run):
        alphas = [
            sorted({unit.arm.alpha for unit in run if unit.arm.alpha is not None}) for run in (begun_units, now_units)
        ]
        yield from _option("--alphas", *(_listed(f"{alpha:g}" for alpha in own) for own in alphas))
        targets = [
            dict.fromkeys(unit.arm.target for unit in run if unit.arm.target) for run in (begun_units, now_units)
        ]
        yield from _option("--feature, --vector and --profile", *map(_listed, targets))
    else:
        yield from _option("--arm", _listed(begun["arms"]), _listed(now["arms"]))
    both = [name for name in begun["arms"] if name in now["arms"]]
    yield from _keys({name: begun["arms"][name] for name in both}, {name: now["arms"][name] for name in both}, "arm")


def _files(begun: dict[str, str], now: dict[str, str]) -> Iterator[str]:
    for name, old, new in _values(begun, now):
        yield f"the files of {name} differ" if old and new else f"{name} of the config: {_given(old, new)}"


def _models(begun: Run, now: Run) -> Iterator[str]:
    """The config's model has its files' digest after the @, that of the dictionaries among them."""
    for option, old, new in zip(("--agent", "--partner"), begun["models"], now["models"], strict=True):
        if old == new:
            continue
        same_name = "@" in old and old.rpartition("@")[0] == new.rpartition("@")[0]
        if not same_name:
            yield f"{option} or the config's model: {_given(old, new)}"
        elif begun["files"] == now["files"] and (option == "--agent" or begun["models"][0] == now["models"][0]):
            yield f"the files of the config's model differ: {_given(old, new)}"


def _option(name: str, begun: Any, now: Any) -> Iterator[str]:
    if begun != now:
        yield f"{name} {_given(begun, now)}"


def _keys(begun: Run, now: Run, path: str) -> Iterator[str]:
    for key, old, new in _values(begun, now):
        yield f"{path}.{key} {_given(old, new)}"


def _values(begun: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(path, begun, now) for every value that isn't the same."""
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*begun, *now]):
            yield from _values(begun.get(key), now.get(key), f"{path}.{key}" if path else key)
    elif isinstance(begun, list) and isinstance(now, list) and len(begun) == len(now):
        for i, (old, new) in enumerate(zip(begun, now, strict=True)):
            yield from _values(old, new, f"{path}[{i}]")
    elif begun != now:
        yield path, begun, now


def _given(begun: Any, now: Any) -> str:
    return f"{_short(begun)} was begun, {_short(now)} given"


def _listed(names: Iterable[str]) -> str:
    return ",".join(names)


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[: SHOWN_CHARS - 3]}..."
