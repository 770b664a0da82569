import json
from pathlib import Path

import pytest

from tiller.evaluation.inputs import InputError, read_labelled, read_prompts, read_texts


def test_prompts_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("first\n\nsecond\n")
    assert read_prompts(file) == ["first", "second"]


def test_prompts_as_objects(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a\\u2028b"}\n\n{"messages": [{"role": "user", "content": "hi"}]}\n')
    assert read_prompts(file) == ["a\u2028b", [{"role": "user", "content": "hi"}]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": 3}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"messages": []}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"messages": [{"role": "user"}]}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}', "p.jsonl:1: each line needs either"),
        ("[1]", "p.jsonl:1: a JSON list; each line must be an object"),
        ("{", "p.jsonl:1: not JSON"),
        ("", "p.jsonl: the file has no lines"),
        ('{"messages": [{"role": "user", "content": 5}]}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"messages": [{"role": 3, "content": "a"}]}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"messages": [{"role": "user", "content": ["a"]}]}', "p.jsonl:1: each line needs either `prompt`"),
        ('{"prompt": "a \\ud83d b"}', "p.jsonl:1: it holds half of a character (\\ud83d)"),
    ],
)
def test_wrong_prompts_are_named(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(line)
    with pytest.raises(InputError) as raised:
        read_prompts(file)
    assert str(raised.value).startswith(str(tmp_path / message))


def test_characters_in_two_escapes_and_messages_in_parts(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, {"role": "assistant", "content": None}]
    file.write_text('{"prompt": "\\ud83d\\ude00"}\n' + json.dumps({"messages": parts}) + "\n")
    assert read_prompts(file) == ["\U0001f600", parts]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't be read"):
        read_texts(tmp_path / "none.txt")


def test_labelled(tmp_path: Path) -> None:
    file = tmp_path / "l.jsonl"
    file.write_text('{"text": "oui", "language": "french"}\n{"text": "yes", "language": "english"}\n')
    assert read_labelled(file, "language", "french") == (["oui", "yes"], [True, False])
    with pytest.raises(InputError, match="0 of 2 texts have language = 'French'.*english, french"):
        read_labelled(file, "language", "French")
    with pytest.raises(InputError, match="no key 'tone'; it has: language, text"):
        read_labelled(file, "tone", "warm")
