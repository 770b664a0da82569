"""What a JSON text says beyond its parsed form: keys given twice, and numbers that JSON does not have."""

import json
from typing import Any, TypeAlias

from tiller.engine.errors import SpecError

Place: TypeAlias = "tuple[Place | None, str | int]"  # a key or index, and what it is in


class Object(list):
    """A JSON object as its pairs, repeated keys and all."""


class Constant(str):
    """NaN, Infinity or -Infinity, which JSON does not have."""


def parse_pairs(text: bytes | str, field: str) -> Any:
    """`text` with each object as an Object and each number that is none as a Constant.

    Raises SpecError naming `field` where it is nested too deeply, ValueError where it is no JSON.
    """
    try:
        return json.loads(text, object_pairs_hook=Object, parse_constant=Constant)
    except RecursionError:
        raise SpecError("nested too deeply", field) from None


def check_value(value: Any, field: str) -> None:
    """Raises SpecError where `value`, as `parse_pairs` returns it, repeats a key or holds a Constant: parsers disagree on
    both. Linear in the size of the text."""
    try:
        _check(value, (None, field))
    except RecursionError:
        raise SpecError("nested too deeply", field) from None


def _check(value: Any, place: Place) -> None:
    if isinstance(value, Constant):
        raise SpecError(f"{value} is no JSON number; finite numbers are allowed", _spelled(place))
    if isinstance(value, Object):
        seen: set[str] = set()
        for name, inner in value:
            if name in seen:
                raise SpecError(f"key {name!r} is given twice in one object", _spelled(place) or name)
            seen.add(name)
            _check(inner, (place, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _check(inner, (place, index))


def _spelled(place: Place) -> str:
    """The place as a field's path, `steering.features[0]`; written out for errors alone, since a key may be long."""
    outer, name = place
    if outer is None:
        return str(name)
    before = _spelled(outer)
    if isinstance(name, int):
        return f"{before}[{name}]"
    return f"{before}.{name}" if before else name
