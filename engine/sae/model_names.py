"""Whether two names mean one model: `gpt2-small` and `openai-community/gpt2`, `gemma-2-2b` and `google/gemma-2-2b-it`."""

import re
from pathlib import Path
from typing import Any, Literal

from tiller.engine.architectures import FAMILIES

Verdict = Literal["same", "unclear", "other"]
_ALIASES = {"gpt2-small": "gpt2"}  # TransformerLens' names
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?[bmk]|mini|small|medium|large|xl)(?![a-z0-9])")
_VERSION = re.compile(r"\d+(?:\.\d+)?")


def compare(trained_on: str, names: list[str], family: str) -> Verdict:
    """Whether `trained_on`, as an SAE's files have it, is the model that goes by `names` and whose model_type is `family`.

    "other" only where both name families, sizes or versions that exclude each other; a base model and its chat model are
    "unclear".
    """
    verdicts = {_compare(_plain(trained_on), _plain(name)) for name in names}
    if "same" in verdicts:
        return "same"
    theirs, ours = _families(_plain(trained_on)), set().union(*map(_families, [family, *map(_plain, names)]))
    if verdicts == {"other"} or (theirs and ours and theirs.isdisjoint(ours)):
        return "other"
    return "unclear"


def names_of(model: str, config: Any) -> list[str]:
    """The names by which `model`, a hub id or a folder, may be known; none for a folder whose name says nothing.

    config: the model's configuration as transformers reads it.
    """
    path = Path(model)
    if not path.exists():
        return [model]
    cached = [part.rpartition("--")[2] for part in path.absolute().parts if part.startswith("models--")]
    given = [*cached, path.absolute().name, str(getattr(config, "_name_or_path", "") or "")]
    return [name for name in dict.fromkeys(given) if _families(_plain(name)) and not Path(name).exists()]


def _plain(name: str) -> str:
    plain = name.rpartition("/")[2].lower()
    plain = re.sub(r"(?<=\d)_(?=\d)", ".", plain).replace("_", "-")
    return _ALIASES.get(plain, plain)


def _compare(a: str, b: str) -> Verdict:
    if a == b:
        return "same"
    families = _families(a), _families(b)
    if not all(families):
        return "unclear"
    sizes = set(_SIZE.findall(a)), set(_SIZE.findall(b))
    versions = set(_VERSION.findall(_SIZE.sub("", a))), set(_VERSION.findall(_SIZE.sub("", b)))
    excluded = families[0].isdisjoint(families[1]) or (all(sizes) and sizes[0].isdisjoint(sizes[1]))
    if excluded or not (versions[0] <= versions[1] or versions[1] <= versions[0]):
        return "other"
    return "unclear"


def _families(name: str) -> set[str]:
    return {family for family in FAMILIES if family in name}
