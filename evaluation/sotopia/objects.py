"""JSON objects as they are found: JSON Lines, one object, an array, or a folder of one file each (the local backend)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tiller.evaluation.inputs import InputError, iter_records, opened, require_whole_text

_GAP = re.compile(r"[\s,]*")


class Placed(NamedTuple):
    """An object, and where it stands as file:line, for messages."""

    where: str
    body: dict[str, Any]


def iter_objects(path: Path) -> Iterator[Placed]:
    """All objects of a file or folder in their order; a folder's files by name.

    Raises InputError naming file and line of what is no object.
    """
    if path.is_dir():
        for file in sorted(path.glob("*.json")):
            yield from _document(file)
    elif path.suffix == ".jsonl":
        yield from (Placed(*record) for record in iter_records(path))
    else:
        yield from _document(path)


def _document(path: Path) -> Iterator[Placed]:
    with opened(path) as file:
        text = file.read()
    try:
        whole = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and text.lstrip().startswith("{"):  # JSON Lines under another name
            yield from (Placed(*record) for record in iter_records(path))
            return
        raise InputError(f"not JSON ({error.msg}, column {error.colno})", f"{path}:{error.lineno}") from None
    for line, body in _elements(text) if isinstance(whole, list) else [(1, whole)]:
        if not isinstance(body, dict):
            raise InputError(f"a JSON {type(body).__name__}; an object is needed", f"{path}:{line}")
        if "\\u" in text:
            require_whole_text(body, f"{path}:{line}")
        yield Placed(f"{path}:{line}", body)


def _elements(text: str) -> Iterator[tuple[int, Any]]:
    """(line of its start, element) for each element of a valid JSON array."""
    decoder = json.JSONDecoder()
    end, line, counted = text.index("[") + 1, 1, 0
    while True:
        gap = _GAP.match(text, end)
        assert gap is not None
        start = gap.end()
        if text[start] == "]":
            return
        line, counted = line + text.count("\n", counted, start), start
        body, end = decoder.raw_decode(text, start)
        yield line, body
