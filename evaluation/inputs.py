"""Files that the command line reads: prompts, and texts with or without labels."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from tiller.engine.errors import TillerError

Messages = list[dict[str, Any]]


class InputError(TillerError):
    """A file or an option given to a command is wrong."""


def read_prompts(path: Path) -> list[str | Messages]:
    """Prompts of a .jsonl file (objects with `prompt` or `messages`), or of any other, one a line; none is empty.

    Raises InputError naming the line where there is neither, or where the file has none.
    """
    if path.suffix != ".jsonl":
        return list(_lines(path))
    return [_prompt(record, where) for where, record in read_records(path)]


def _prompt(record: dict[str, Any], where: str) -> str | Messages:
    prompt, messages = record.get("prompt"), record.get("messages")
    if isinstance(prompt, str) and messages is None:
        return prompt
    if isinstance(messages, list) and messages and all(map(_is_message, messages)) and prompt is None:
        return messages
    raise InputError(
        "each line needs either `prompt`, a string, or `messages`, a list of {role, content} of text", where
    )


def _is_message(given: Any) -> bool:
    if not isinstance(given, dict) or not isinstance(given.get("role"), str) or "content" not in given:
        return False
    content = given["content"]
    return content is None or isinstance(content, str) or (isinstance(content, list) and all(map(_is_part, content)))


def _is_part(given: Any) -> bool:
    return isinstance(given, dict) and (given.get("type") != "text" or isinstance(given.get("text"), str))


def read_texts(path: Path) -> list[str]:
    """Texts of a .jsonl file (objects with `text`) or of any other, one a line.

    Raises InputError naming the line without a text.
    """
    if path.suffix != ".jsonl":
        return list(_lines(path))
    return [_text(record, where) for where, record in read_records(path)]


def read_labelled(path: Path, label: str, positive: str) -> tuple[list[str], list[bool]]:
    """Texts of a .jsonl file and whether each one's `label` is `positive`, compared as text.

    Raises InputError where a line lacks the label, or where all texts fall on one side.
    """
    texts, sides = [], []
    for where, record in read_records(path):
        if label not in record:
            raise InputError(f"it has no key {label!r}; it has: {', '.join(sorted(record))}", where)
        texts.append(_text(record, where))
        sides.append(str(record[label]) == positive)
    if len(set(sides)) < 2:
        values = sorted({str(record[label]) for _, record in read_records(path)})
        raise InputError(
            f"{sum(sides)} of {len(sides)} texts have {label} = {positive!r}, both sides are needed; "
            f"values of {label!r} there: {', '.join(values[:10])}",
            str(path),
        )
    return texts, sides


def read_records(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(file:line, object) for every line of a JSON Lines file that isn't empty.

    Raises InputError naming the line that is no object.
    """
    records = list(iter_records(path))
    if not records:
        raise InputError("the file has no lines", str(path))
    return records


def iter_records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `read_records`, one line at a time, for files that don't fit into memory."""
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"{path}:{number}", _object(line, f"{path}:{number}")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"not JSON ({error})", where) from None
    if not isinstance(record, dict):
        raise InputError(f"a JSON {type(record).__name__}; each line must be an object", where)
    if "\\u" in line:
        require_whole_text(record, where)
    return record


def require_whole_text(content: Any, where: str) -> None:
    """Raises InputError where JSON data holds half of a character that takes two escapes, which no file can hold."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        raise InputError(f"it holds half of a character ({half}); write both halves, or leave it out", where) from None


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as UTF-8 text, lines ending at newlines alone.

    Raises InputError where it can't be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't be read: {error}", str(path)) from None


def _text(record: dict[str, Any], where: str) -> str:
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError("each line needs `text`, a string that isn't empty", where)
    return text


def _lines(path: Path) -> list[str]:
    lines = [line for line in _read(path).splitlines() if line.strip()]
    if not lines:
        raise InputError("the file has no lines", str(path))
    return lines


def _read(path: Path) -> str:
    with opened(path) as file:
        return file.read()
