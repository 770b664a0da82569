"""Where an SAE belongs: the site and layer that its files, its path and the config name, and the model it was trained on.

What contradicts is refused, since a dictionary of another tensor steers without an error and means nothing. What can't be
told is a doubt, which every command prints.
"""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from tiller.engine.errors import ConfigError, SAEFormatError

from .formats.hooks import Place, hint_in, place_in
from .loader import LoadedSAE, SAEDescription
from .model_names import compare

Site: TypeAlias = Literal["resid_post", "resid_pre"]
Source: TypeAlias = Literal["file", "path", "config", "default"]
STEERED = ("resid_post", "resid_pre")
TAKE = "Only the residual stream can be steered (resid_post, or resid_pre as resid_post of the layer before)"


class Position(NamedTuple):
    """The decoder layer whose resid_post an SAE reads and writes, how that is known, and what remains in doubt."""

    layer: int
    source: Source
    doubts: list[str]


def find_position(found: SAEDescription | LoadedSAE, site: Site | None, layer: int | None) -> Position:
    """The place of the SAE `found`, where the config says `site` and `layer`, or nothing.

    Raises SAEFormatError where it is another site than the residual stream or where two statements contradict each other,
    ConfigError where nothing says which layer.
    """
    parts = Path(found.path).absolute().parts
    path = place_in(parts)
    if found.hook is not None:
        _check_file(found, site, path)
    elif site is None and path is not None and path.site not in STEERED:
        raise SAEFormatError(
            f"{found.path}: its path names {path.site} (`{path.name}`). {TAKE}; take such an SAE, or, if this is one, write "
            "`site: resid_post`."
        )
    stated = _stated_layer(found, path, site)
    given = layer - 1 if site == "resid_pre" and layer is not None else layer
    if given is not None and stated is not None and given != stated:
        raise SAEFormatError(
            f"{found.path}: layer {layer} is given, but its files say {_words(found, path)}, which is resid_post of layer "
            f"{stated}; write `layer: {stated}` or leave it out."
        )
    return _position(found, path, parts, site, given if stated is None else stated)


def model_doubts(found: SAEDescription | LoadedSAE, names: list[str], family: str, trained_on: str | None) -> list[str]:
    """Doubts whether the SAE is of a model that goes by `names` and whose `model_type` is `family`.

    trained_on: the model as the config states it, which settles a difference. Raises SAEFormatError where the files name
    another model than the engine's, or than `trained_on`.
    """
    if found.model is None or compare(found.model, [trained_on] if trained_on else names, family) == "same":
        return []
    what = f"was trained on {found.model}"
    if trained_on is not None:
        raise SAEFormatError(f"{found.path} {what}, the config says trained_on: {trained_on}; correct one of them.")
    confirm = f"if it is meant for it all the same, write `trained_on: {found.model}`"
    if compare(found.model, names, family) == "other":
        model = names[0] if names else f"a {family}"
        raise SAEFormatError(
            f"{found.path} {what}, and the model is {model}; take an SAE of this model, or, {confirm}."
        )
    if not names:
        return []
    return [f"it {what}, which may not be {names[0]}; {confirm}"]


def _check_file(found: SAEDescription | LoadedSAE, site: Site | None, path: Place | None) -> None:
    """Raises SAEFormatError where the hook that the files name can't be steered, or isn't what else is said."""
    place, says = found.place, f"{found.path}: its files say that it reads `{found.hook}`"
    if place is None:
        if site is None:
            raise SAEFormatError(f"{says}, which names no known site. {TAKE}; if it is that, write `site: resid_post`.")
        return
    if place.site not in STEERED:
        raise SAEFormatError(f"{says}, which is {place.site}. {TAKE}; take such an SAE.")
    if place.residual_layer == -1:
        raise SAEFormatError(f"{says}, the embedding, which no decoder layer writes. {TAKE}; take another layer's SAE.")
    if site is not None and site != place.site and (place.layer is None or site == "resid_pre"):
        raise SAEFormatError(f"{says}, the config says site: {site}; write `site: {place.site}` or leave it out.")
    if site is None and path is not None and path.site not in STEERED:
        raise SAEFormatError(
            f"{says}, but its path names {path.site} (`{path.name}`); write `site: {place.site}` if the files are right."
        )


def _stated_layer(found: SAEDescription | LoadedSAE, path: Place | None, site: Site | None) -> int | None:
    """The layer of resid_post that files, or else the path, name for certain."""
    if found.layer is not None or found.place is not None:
        return found.layer
    if found.hook is None and found.file_layer is None and path is not None and path.site in STEERED:
        return path.residual_layer
    return None if found.file_layer is None else found.file_layer - (site == "resid_pre")


def _words(found: SAEDescription | LoadedSAE, path: Place | None) -> str:
    if found.hook is not None and found.place is not None and found.place.layer is not None:
        return f"`{found.hook}`"
    return f"layer {found.file_layer}" if found.file_layer is not None else f"`{path.name if path else found.hook}`"


def _position(
    found: SAEDescription | LoadedSAE, path: Place | None, parts: tuple[str, ...], site: Site | None, layer: int | None
) -> Position:
    if layer is None:
        raise ConfigError("its files don't say which layer it reads; give `layer`")
    if found.place is not None:
        return Position(layer, "file", [])
    if site is not None:
        return Position(layer, "config", [])
    if path is not None:
        return Position(layer, "path", [])
    hint = hint_in(parts[-6:])
    doubt = f"`{hint}` in its path may mean another site than resid_post; if it is resid_post, write `site: resid_post`"
    return Position(layer, "default", [doubt] if hint else [])
