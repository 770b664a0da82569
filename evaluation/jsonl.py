"""JSON and JSON Lines of results; equal runs write equal lines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .inputs import InputError
from .writable import reason_of


def rounded(value: Any) -> Any:
    """The same data, its floats to 6 significant digits: the last ones depend on the number of threads."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def write_jsonl(records: Sequence[dict[str, Any]], path: Path) -> None:
    """One object a line, floats rounded by `rounded`."""
    _write("".join(json.dumps(rounded(record), ensure_ascii=False) + "\n" for record in records), path)


def write_json(content: Any, path: Path) -> None:
    """Indented, for people to read."""
    _write(json.dumps(content, indent=2, ensure_ascii=False) + "\n", path)


def _write(text: str, path: Path) -> None:
    """Raises InputError naming the file and the reason where it can't be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"it can't be written: {reason_of(error)}", str(path)) from error
