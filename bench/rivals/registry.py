"""Every rival, in the order in which they are measured."""

from types import ModuleType

from tiller.engine.errors import TillerError

from . import easysteer, hook, interp, lens, nnsight_vllm
from .protocol import Rival

MODULES: dict[str, ModuleType] = {module.RIVAL.id: module for module in (interp, lens, nnsight_vllm, hook, easysteer)}


def rivals(only: str | None) -> list[Rival]:
    """Those whose ids are in the comma-separated list, or all.

    Raises TillerError where there is none of a name.
    """
    names = list(MODULES) if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in MODULES:
            raise TillerError(f"no rival {name!r}; there are {', '.join(MODULES)}", "--only")
    return [MODULES[name].RIVAL for name in names]


def module_name(rival: Rival) -> str:
    """Of the adapter, as its environment imports it."""
    return MODULES[rival.id].__name__.rsplit(".", 1)[1]
