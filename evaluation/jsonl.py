"""JSON and JSON Lines of results; equal runs write equal lines."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def rounded(value: Any) -> Any:
    """The same data, its floats to 6 significant digits: the last ones depend on the number of threads."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value


def write_jsonl(records: Sequence[dict[str, Any]], path: Path) -> None:
    """One object a line, floats rounded by `rounded`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(rounded(record), ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")


def write_json(content: Any, path: Path) -> None:
    """Indented, for people to read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
